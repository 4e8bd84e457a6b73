"""Whether what was printed is what a page shows: all but times, dates, sizes of disks, versions and paths."""

import re
from collections.abc import Sequence

ANY = "..."
CHANGING = (
    (r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", "DATE"),
    (r"\b\d\d:\d\d(?::\d\d)?\b", "CLOCK"),
    (r"\bin \d+(?:\.\d+)?(?: ms| s| min)\b", "in TIME"),
    (r"\b\d+(?:\.\d+)? (?:ms|s)\b", "TIME"),
    (r"\b\d+(?:\.\d+)? GiB free\b", "SPACE free"),
    (r"sha256:[0-9a-f]{4,64}…?(?:[0-9a-f]{4})?", "DIGEST"),
    (r"\b[0-9a-f]{12,64}\b", "DIGEST"),
    (r"\b(transformers|trl|TRL|peft|bitsandbytes|torch|ftcheck|LiteLLM) \d+(?:\.\d+)+", r"\1 VERSION"),
    (r"\b\d+(?:\.\d+)? tokens/s", "SPEED tokens/s"),
    (r"\b\d+(?:\.\d+)? [KM]i?B\b", "SIZE"),
    (r" +", " "),
)
"""What differs between two runs of the same command, and what stands for it."""


def steady(line: str, folder: str = "") -> str:
    """A line without what differs between two runs."""
    for path in [folder] if folder else []:
        line = line.replace(f"{path}/", "").replace(path, ".")
    for pattern, name in CHANGING:
        line = re.sub(pattern, name, line)
    return line.strip()


def same(shown: Sequence[str], printed: Sequence[str], folder: str = "") -> bool:
    """Whether the lines are those; `...` alone in a line stands for any lines, at an end for any words."""
    pattern = [steady(one) for one in shown]
    lines = [steady(one, folder) for one in printed]
    while lines and not lines[-1]:
        lines.pop()
    while pattern and not pattern[-1]:
        pattern.pop()
    return _matches(pattern, lines)


def _matches(pattern: Sequence[str], lines: Sequence[str]) -> bool:
    """Line by line from the top; a gap takes as many lines as the rest leaves over."""
    reached = {0}
    for one in pattern:
        if one == ANY:
            reached = set(range(min(reached), len(lines) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(lines) and _line(one, lines[n])}
    return len(lines) in reached


def _line(shown: str, printed: str) -> bool:
    if ANY not in shown:
        return shown == printed
    return re.fullmatch(".*".join(map(re.escape, shown.split(ANY))), printed) is not None
