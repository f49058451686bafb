"""Durations as the options of the command line write them: `2h`, `1h30m`, `45s`."""

import re

DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def duration_seconds(text: str) -> float | None:
    """Parse `2h`, `1h30m`, `90m`, `45s` or plain seconds; return None for 0 and any other text."""
    parts = DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return float(3600 * hours + 60 * minutes + seconds) or None
