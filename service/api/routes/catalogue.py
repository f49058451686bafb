"""Routes of the model: similar items and a description of the model."""

from functools import partial

from fastapi import APIRouter

from recsys.client.schemas import Id, ListLength, ModelInfo, ScoredItem, SimilarItems
from service.api.dependencies import ServiceDep
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=StrictRoute)


@router.get("/items/{item_id:path}/similar")
async def similar(item_id: Id, service: ServiceDep, k: ListLength = 20) -> SimilarItems:
    """Return the items that are clicked in similar contexts, by cosine of their vectors."""
    recommender = service.recommender  # the same model for the search and its id
    similar_items = await service.search_thread.run(partial(recommender.similar, item_id, k))
    return SimilarItems(
        model_id=recommender.predictor.model_id,
        item_id=item_id,
        items=[ScoredItem(item_id=other, score=score) for other, score in similar_items],
    )


@router.get("/model")
async def model(service: ServiceDep) -> ModelInfo:
    """Describe the model that answers and its training."""
    manifest = service.manifest
    return ModelInfo(
        model_id=manifest.model_id,
        created=manifest.created,
        items=manifest.size.items,
        hidden=manifest.size.hidden,
        layers=manifest.size.layers,
        cell=manifest.size.cell,
        embedding=manifest.size.embedding,
        scale=manifest.size.scale,
        window=manifest.window,
        attributes=sorted(service.recommender.predictor.catalogue.attributes),
        metrics=dict(manifest.metrics),
        training=dict(manifest.training),
    )
