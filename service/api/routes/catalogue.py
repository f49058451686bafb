"""Routes of the model: similar items and a description of the model."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from recsys.catalogue.catalogue import read_filter
from recsys.client.schemas import (
    ExperimentInfo,
    Id,
    ListLength,
    ModelInfo,
    SimilarByRules,
    SimilarItems,
    SimilarRequest,
    VariantInfo,
)
from service.api.dependencies import RunningService, ServiceDep
from service.api.fast_path import items_of, json_response, rules_of
from service.api.request_checks import StrictRoute
from service.api.routes.items import FilterWords
from service.model_manager import ModelManager
from service.recommendation.list_rules import ListQuery
from service.recommendation.queries import ItemList

router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=StrictRoute)


@router.get("/items/{item_id:path}/similar", response_model=SimilarItems)
async def similar(
    item_id: Id, service: ServiceDep, filter: FilterWords, k: ListLength = 20
) -> Response:
    """Return the items that are clicked in similar contexts, by cosine of their vectors."""
    attributes = service.recommender.predictor.catalogue.attributes
    found = await _similar(service, item_id, ListQuery(k=k, filter=read_filter(filter, attributes)))
    return json_response(_content(item_id, found))


@router.post("/items:similar", response_model=SimilarByRules)
async def similar_by_rules(body: SimilarRequest, service: ServiceDep) -> Response:
    """Return similar items by the rules of a request."""
    found = await _similar(service, body.item_id, ListQuery(**rules_of(body)))
    content = {"source": found.source, "unknown_items": found.unknown_items}
    return json_response(_content(body.item_id, found) | content)


async def _similar(service: RunningService, item_id: str, query: ListQuery) -> ItemList:
    await service.live.wait_if_late()
    recommender = service.recommender  # the same model for the whole search
    recommender.check(query)
    return await service.search_thread.run(partial(recommender.similar, item_id, query))


def _content(item_id: str, found: ItemList) -> dict[str, Any]:
    return {"model_id": found.model_id, "item_id": item_id, "items": items_of(found)}


@router.get("/model", response_model_exclude_unset=True)
async def model(service: ServiceDep) -> ModelInfo:
    """Describe the model that answers and its training; in an experiment, the main version."""
    manifest = service.manifest
    experiment = experiment_info(service.models)
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
        event_types=service.recommender.predictor.event_types.default_first,
        metrics=dict(manifest.metrics),
        training=dict(manifest.training),
        **({} if experiment is None else {"experiment": experiment}),
    )


def experiment_info(models: ModelManager) -> ExperimentInfo | None:
    """Describe the experiment that runs; None if none does."""
    experiment = models.experiment
    if experiment is None:
        return None
    ids = {name: opened.model_id for name, opened in models.variants.items()}
    rest = round(100 - sum(experiment.shares.values()), 2)
    shares = {models.current.folder.name: rest, **experiment.shares}
    ids[models.current.folder.name] = models.current.model_id
    variants = {
        name: VariantInfo(share=share, model_id=ids.get(name)) for name, share in shares.items()
    }
    return ExperimentInfo(id=experiment.id, variants=variants)
