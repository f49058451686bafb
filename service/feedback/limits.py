"""Limits of the feedback streams: how much waits in Redis for its collection."""

from dataclasses import dataclass
from typing import Self

from service.feedback.entries import SHARDS

BYTES_PER_MB = 1_000_000
IMPRESSIONS_SHARE = 0.75  # of the limit; the rest is for clicks


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Sizes of one shard's stream, in bytes, above which nothing is added to it.

    What is added last may exceed them, by one call of a script.
    """

    clicks: int
    impressions: int

    @classmethod
    def of_megabytes(cls, megabytes: int) -> Self:
        """Return the limits of a shard; megabytes: limit of all streams together."""
        clicks = megabytes * BYTES_PER_MB // SHARDS
        return cls(clicks, int(clicks * IMPRESSIONS_SHARE))
