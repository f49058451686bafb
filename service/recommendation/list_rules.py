"""Rules of a request for a list, in the words of the API, and their translation for the predictor.

Every list is made by these rules: of the model, popular, similar, degraded or in a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recsys.catalogue.catalogue import Catalogue, Filter
from recsys.retrieval.exact import RankingQuery
from recsys.retrieval.rules import Boost, Limit, RankingRules


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Length of a list, the items it may hold, their order, and what is said about them."""

    k: int = 20
    exclude_items: Sequence[str] = ()
    filter: Filter = field(default_factory=dict)
    backfill: bool = False
    boost: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    max_per: Mapping[str, int] = field(default_factory=dict)
    pin: Sequence[str] = ()
    fields: Sequence[str] = ()

    @property
    def has_rules(self) -> bool:
        """Return whether rules beside the filter decide on the order."""
        return bool(self.boost or self.max_per or self.pin)


def check_rules(query: ListQuery, catalogue: Catalogue, prefix: str = "") -> None:
    """Check that the items have the attributes that the rules name.

    Args:
        query: the rules.
        catalogue: the items.
        prefix: stands before the name of a wrong field, as "requests.3.".

    Raises:
        WrongAttribute: they lack one, or a range is of an attribute that is text.
    """
    if query.filter:
        catalogue.check_filter(query.filter, f"{prefix}filter")
    if query.boost or query.max_per or query.fields:
        catalogue.check_attributes(query.boost, f"{prefix}boost")
        catalogue.check_attributes(query.max_per, f"{prefix}max_per")
        catalogue.check_attributes(query.fields, f"{prefix}fields")


def ranking_query(query: ListQuery, catalogue: Catalogue, excluded: Sequence[str]) -> RankingQuery:
    """Return what the predictor ranks by, for rules that `check_rules` has passed.

    Args:
        query: the rules.
        catalogue: the items.
        excluded: ids of items to leave out; the catalogue may lack some.
    """
    known = catalogue.known(excluded)
    if not (query.filter or query.has_rules):
        return RankingQuery(query.k, known)
    attributes = catalogue.attributes
    boosts = [
        Boost(
            attributes[name],
            weight_of,
            {value: catalogue.allowed({name: [value]}) for value in weight_of},
        )
        for name, weight_of in query.boost.items()
    ]
    limits = [Limit(attributes[name], most) for name, most in query.max_per.items()]
    pinned = catalogue.known(query.pin)
    return RankingQuery(
        query.k,
        known,
        catalogue.allowed(query.filter) if query.filter else None,
        RankingRules(boosts, limits, pinned) if boosts or limits or pinned else None,
        query.backfill,
    )
