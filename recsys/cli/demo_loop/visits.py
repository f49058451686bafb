"""Visits over HTTP: visitors of the demo shop click, look at the list in the answer, and click on.

Many visit at once. What each of them did is kept, to be compared with the collected log.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from data.shop.visitors import Visitor
from recsys_client import AsyncClient
from recsys_client.http import RecommendationParams
from recsys_client.schemas import Recommendations

AT_ONCE = 64  # visitors
LIST_LENGTH = 20
LOOK_SECONDS = 0.25  # that a visitor looks at a list; its impression is logged meanwhile
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FollowedClick:
    """Click of a visitor; `list_id` names the list on which it was, None: found by themselves."""

    item_id: str
    list_id: str | None


@dataclass(frozen=True, slots=True)
class FollowedVisit:
    """Visit of one visitor, in which every click was answered with one list."""

    user_id: str
    variant: str | None  # that answered; None while no experiment runs
    clicks: Sequence[FollowedClick]

    @property
    def lists(self) -> int:
        return len(self.clicks)

    @property
    def clicks_on_lists(self) -> int:
        return sum(click.list_id is not None for click in self.clicks)


async def follow_all(
    url: str, visitors: Sequence[Visitor], at_once: int = AT_ONCE
) -> list[FollowedVisit]:
    """Let all visitors visit, some at once; return their visits in the order of the visitors.

    Raises:
        ServiceRefused, ServiceUnreachable: the service does not answer; the visits end.
    """
    free = asyncio.Semaphore(at_once)
    async with AsyncClient(url, timeout=PATIENCE_SECONDS) as client:

        async def visit(visitor: Visitor) -> FollowedVisit:
            async with free:
                return await follow(client, visitor)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(visit(visitor)) for visitor in visitors]
        except ExceptionGroup as failed:  # they have all failed for the same reason
            raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def follow(client: AsyncClient, visitor: Visitor) -> FollowedVisit:
    """Click on what the visitor wants, in the last list where they see it, and return the visit."""
    clicks: list[FollowedClick] = []
    answer: Recommendations | None = None
    for want, item_id in enumerate(visitor.wants):
        list_id = None
        if answer is not None:
            await asyncio.sleep(LOOK_SECONDS)
            if visitor.sees(want, [item.item_id for item in answer.items]):
                list_id = answer.list_id
        clicks.append(FollowedClick(item_id, list_id))
        click = RecommendationParams(user_id=visitor.user_id, item_id=item_id, k=LIST_LENGTH)
        if list_id is not None:
            click["list_id"] = list_id
        answer = await client.recommend(**click)
    assert answer is not None, "a visitor wants at least one item"
    return FollowedVisit(visitor.user_id, answer.variant, clicks)
