"""A whole plugin: one rule with a parameter. The site shows it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ftcheck import Finding, Measurement, Rows, Rule, hookimpl, rule


@dataclass(frozen=True)
class EnoughRows:
    """Parameters of `enough-rows`."""

    at_least: int = 100
    """Rows that are worth a GPU night."""


@rule("enough-rows")
def enough_rows(rows: Rows, params: EnoughRows) -> Iterator[Finding | Measurement]:
    """There are enough rows to learn from.

    A handful of rows is learned by heart in one epoch: the loss looks great and the model is none the wiser.
    """
    yield Measurement("rows", len(rows), unit="rows", limit=f">= {params.at_least}")
    if len(rows) < params.at_least:
        yield Finding(f"{len(rows)} rows, {params.at_least} are asked for", at=rows.at(len(rows) - 1))


@hookimpl
def ftcheck_rules() -> list[Rule]:
    return [enough_rows]
