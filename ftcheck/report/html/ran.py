"""What ran where: versions, plugins, the machine, every input with its digest, what was narrowed and set."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from ftcheck.report import verdict_lines, wording
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import facts, folded, joined, section, tag
from ftcheck.report.html.jobs import short
from ftcheck.report.record import Report

INPUTS = (Column("input", names=True), Column("path"), Column("rows", number=True), Column("digest"))
PLUGINS = (Column("plugin", names=True), Column("distribution"), Column("version"), Column("code"))
PACKAGES = (Column("package", names=True), Column("version"))
SLOWEST = 10


def ran(report: Report, told: str = "") -> Markup:
    """Everything that says what this report is about."""
    return section(
        f"ran-{report.stage.value}",
        f"What ran where{told}",
        _facts(report),
        tag("h3", "Inputs") if report.inputs else None,
        table("Inputs", INPUTS, _inputs(report), stacked=True),
        tag("h3", "Versions") if report.packages or report.plugins else None,
        table("Packages", PACKAGES, sorted(report.packages.items())),
        table("Plugins", PLUGINS, _plugins(report)),
        _slowest(report),
    )


def _facts(report: Report) -> Markup:
    machine = ", ".join(f"{name} {said}" for name, said in _plain(report.machine))
    selection = ", ".join(f"{name}: {said}" for name, said in _plain(report.selection or {}))
    return facts(
        (
            ("Machine", machine),
            ("Narrowed to", selection),
            ("Set on the command line", _lines(report.overrides)),
            ("Checks removed by the policy", ", ".join(report.removed)),
            ("From the cache", ", ".join(sorted(report.cached))),
        )
    )


def _plain(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if value not in (None, [], (), {}, ""):
            yield name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _lines(texts: tuple[str, ...]) -> Markup | None:
    return joined((tag("code", one) for one in texts), " ") if texts else None


def _inputs(report: Report) -> Iterator[tuple[str | None, ...]]:
    for name, one in report.inputs.items():
        rows = f"{one.rows:,}" if one.rows is not None else ""
        yield name, tag("code", one.path), rows, short(one.digest) or "not readable"


def _plugins(report: Report) -> Iterator[tuple[str, ...]]:
    for one in report.plugins:
        yield one.name, one.distribution, one.version, tag("code", one.code) if one.code else ""


def _slowest(report: Report) -> Markup | None:
    slowest = sorted(report.results, key=lambda one: (-one.seconds, one.check.id))[:SLOWEST]
    rows = [(one.check.id, verdict_lines.duration(one.seconds)) for one in slowest if one.seconds >= 0.05]
    columns = (Column("check", names=True), Column("took", number=True))
    return folded("Slowest checks", table("Slowest checks", columns, rows)) if rows else None


def notes(report: Report, said: str = "") -> Markup:
    """What the run said beside its results."""
    told = [*report.notes, *verdict_lines.content_read(report)]
    items = joined(tag("li", wording.one_line(one), class_="text") for one in told)
    inside = tag("ul", items, class_="notes") if told else None
    return section(f"notes-{report.stage.value}", f"Notes{said}", inside)
