"""What the model knows: similar items, and the model itself."""

from functools import partial

from fastapi import APIRouter

from recsys.client.schemas import Id, ListLength, ModelInfo, ScoredItem, SimilarItems
from service.api.dependencies import RunningDep
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=StrictRoute)


@router.get("/items/{item_id:path}/similar")
async def similar(item_id: Id, service: RunningDep, k: ListLength = 20) -> SimilarItems:
    """Items clicked in the same way as this one, by cosine of their vectors."""
    recommender = service.recommender  # one model finds and names itself
    found = await service.aside.run(partial(recommender.similar, item_id, k))
    return SimilarItems(
        model_id=recommender.predictor.model_id,
        item_id=item_id,
        items=[ScoredItem(item_id=other, score=score) for other, score in found],
    )


@router.get("/model")
async def model(service: RunningDep) -> ModelInfo:
    """The model that answers, and how it was trained."""
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
