"""Dated facts that ftcheck ships as JSON: what libraries accepted, and on which day that was read."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """A table by its name, such as `trainer_arguments`. Every table says `as_of` and `source`."""
    text = (Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
