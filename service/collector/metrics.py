"""Prometheus metrics of `recsys collect`."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RANKS = (1, 2, 3, 5, 10, 20, 50, 100)


class CollectorMetrics:
    """All metrics of one collector, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rows = Counter(
            "recsys_collect_rows",
            "Rows written: clicks, impressions, deletions, rejected (entries that cannot be read).",
            ("kind",),
            registry=registry,
        )
        self.files = Counter("recsys_collect_files", "Files written.", registry=registry)
        self.repeated = Counter(
            "recsys_collect_repeated",
            "Entries that were read again and were in a file already.",
            registry=registry,
        )
        self.failures = Counter(
            "recsys_collect_failures",
            "Rounds that failed and are made again, by what failed: redis, folder.",
            ("what",),
            registry=registry,
        )
        self.waiting = Gauge(
            "recsys_collect_waiting",
            "Entries in the streams after the last round: they are not collected yet.",
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "recsys_collect_lag_seconds",
            "Age of the newest collected entry where more are waiting, else 0.",
            registry=registry,
        )
        self.collected = Gauge(
            "recsys_collect_last_round_timestamp_seconds",
            "Time of the last round that succeeded, since 1970.",
            registry=registry,
        )
        self.active = Gauge(
            "recsys_collect_active",
            "1 where this process writes the folder, 0 where it waits for another one.",
            registry=registry,
        )
        self.lost_lists = Counter(
            "recsys_collect_lost_lists",
            "Lists that were answered and are not in the log, by gaps of the numbers of their ids.",
            registry=registry,
        )
        self.clicked_rank = Histogram(
            "recsys_collect_clicked_rank",
            "Rank of a clicked item in the list that showed it, by variant of the list.",
            ("variant",),
            buckets=RANKS,
            registry=registry,
        )
        self.unlisted_clicks = Counter(
            "recsys_collect_unlisted_clicks",
            "Clicks on items that no list of the user has shown within half an hour.",
            registry=registry,
        )
        self.shown_items = Counter(
            "recsys_collect_shown_items",
            "Items of collected lists, by whether the list before of the same user had the item.",
            ("repeated",),
            registry=registry,
        )
        self.distinct_items = Gauge(
            "recsys_collect_distinct_items",
            "Distinct items of 1,000 collected lists, set once in as many lists.",
            registry=registry,
        )
        self.top_share = Gauge(
            "recsys_collect_top_share",
            "Share of the places of these lists that their most shown hundredth of items takes.",
            registry=registry,
        )
        self.erased_rows = Counter(
            "recsys_collect_erased_rows", "Rows of deleted users removed.", registry=registry
        )

    def count_rows(self, rows: Mapping[str, int]) -> None:
        """Count the rows of each kind."""
        for kind, number in rows.items():
            self.rows.labels(kind).inc(number)

    def count_rank(self, rank: int | None, variant: str) -> None:
        """Count a click on a list, or on none (None)."""
        if rank is None:
            self.unlisted_clicks.inc()
        else:
            self.clicked_rank.labels(variant).observe(rank)

    def count_shown(self, *, repeated: int, fresh: int) -> None:
        """Count items of lists that the list before had, and others."""
        self.shown_items.labels("true").inc(repeated)
        self.shown_items.labels("false").inc(fresh)
