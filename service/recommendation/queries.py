"""Queries for lists, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.predictor import Source
from service.recommendation.list_rules import ListQuery
from service.store.click import Click


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationQuery(ListQuery):
    """Query for a list: of a user, whose `click` is recorded first, or of the session `items`."""

    user_id: str | None = None
    click: Click | None = None
    items: Sequence[str] = ()
    event_types: Sequence[str | None] = ()  # of the clicks on `items`; empty where none has one
    exclude_seen: bool = False

    @property
    def own_items(self) -> list[str]:
        """Return the clicked items that the query itself names."""
        return [self.click.item_id] if self.click is not None else list(self.items)

    @property
    def own_types(self) -> list[str | None]:
        """Return the types of the clicks on these items."""
        if self.click is not None:
            return [self.click.event_type]
        return list(self.event_types) or [None] * len(self.items)


@dataclass(frozen=True, slots=True)
class ItemList:
    """Item ids with falling scores, after pinned ones, and how they were found."""

    model_id: str
    source: Source
    unknown_items: list[str]
    items: list[tuple[str, float]]
    attributes: list[dict[str, str]] | None  # of these items; None if the query named none


@dataclass(frozen=True, slots=True)
class RecommendationResult(ItemList):
    """List for a session."""

    degraded: bool  # the stored session could not be read
    stored: bool  # the click of this request is in Redis
    unknown_event_types: Sequence[str] = ()  # of the clicks of this request
    variant: str | None = None  # name of the bundle that answered; None where no experiment runs
    list_id: str | None = None  # None if the list is not logged
