"""Durations as a policy writes them: 90m, 24h, 7d, 1h30m."""

import re
from datetime import datetime, time

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(text: str) -> float | None:
    """The seconds of a duration; None if the text is none, or none that is above 0."""
    pieces = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if "".join(number + unit for number, unit in pieces) != text.replace(" ", ""):
        return None
    total = sum(float(number) * UNITS[unit] for number, unit in pieces)
    return total if total > 0 else None


def is_time(text: str) -> bool:
    """Whether a text is a time of day or a date with one: 07:00, 2026-11-23, 2026-11-23T07:00."""
    for parse in (datetime.fromisoformat, time.fromisoformat):
        try:
            parse(text)
        except ValueError:
            continue
        return True
    return False
