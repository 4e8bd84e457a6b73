"""How the trainer cuts a row that is too long, and whether it drops one that the cut empties."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ftcheck.settings import Training


def cutter(training: Training) -> Callable[[Any], Any]:
    """How the trainer cuts one row: TRL's truncation, or the cut that its `bfd` packing makes."""
    limit = training.max_length
    if limit is None or (training.packing and training.packing_strategy != "bfd"):
        return lambda row: row
    if not training.packing and training.truncation_mode == "keep_end":
        return lambda row: row[-limit:]
    return lambda row: row[:limit]


def cut_bounds(training: Training) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The same cut for many rows at once: from where each begins and ends to where it does when cut."""
    limit = training.max_length
    if limit is None or (training.packing and training.packing_strategy != "bfd"):
        return lambda starts, stops: (starts, stops)
    if not training.packing and training.truncation_mode == "keep_end":
        return lambda starts, stops: (starts.clip(min=stops - limit), stops)
    return lambda starts, stops: (starts, stops.clip(max=starts + limit))


def drops(training: Training) -> bool:
    """Whether TRL drops rows that are fully masked after truncation: not when it packs."""
    return training.max_length is not None and not training.packing


def of_evaluation(training: Training) -> Training:
    """The same for evaluation rows: `eval_packing` stands in for `packing` where it is set."""
    packs = training.extra.get("eval_packing")
    return training if packs is None else replace(training, packing=bool(packs))
