"""Feedback of one process: what it adds to the streams, how much, and the watch over them."""

from service.feedback.impressions import Impressions
from service.feedback.limits import StreamLimits
from service.feedback.watch import StreamWatch
from service.metrics import ServiceMetrics
from service.redis_client.client import RedisClient


class Feedback:
    """Parts of the feedback.

    Args:
        redis_client: the client.
        limits: sizes of a stream.
        metrics: counts impressions, and shows the sizes of the streams.
    """

    def __init__(
        self, redis_client: RedisClient, limits: StreamLimits, metrics: ServiceMetrics
    ) -> None:
        self.limits = limits
        self.impressions = Impressions(redis_client, limits.impressions, metrics.count_impressions)
        self._watch = StreamWatch(redis_client, limits.clicks, metrics.set_feedback)

    def start(self) -> None:
        """Start the watch."""
        self._watch.start()

    async def stop(self) -> None:
        """Log the lists that wait, and end the watch."""
        await self._watch.stop()
        await self.impressions.close()
