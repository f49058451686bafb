"""Durations as the options of the command line write them: `2h`, `1h30m`, `45s`."""

import re

DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
SECONDS = re.compile(r"\d{1,9}")


def duration_seconds(text: str) -> float | None:
    """Parse `2h`, `1h30m`, `90m`, `45s` or plain seconds; return None for 0 and any other text."""
    if SECONDS.fullmatch(text.strip()):
        return float(text) or None
    parts = DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    return float(3600 * hours + 60 * minutes + seconds) or None


def duration_text(seconds: float) -> str:
    """Write seconds as `duration_seconds` reads them: 5400 is 1h30m."""
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
