"""`ftcheck report night`: what a night left behind, on one page."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcheck.inputs import bounded

if TYPE_CHECKING:
    from ftcheck.cli.pages.night_html import Night


@click.command(short_help="Put a whole night on one HTML page.")
@click.argument("sources", nargs=-1, required=True, metavar="FILE_OR_RUN_FOLDER...")
@click.option("-o", "--output", required=True, metavar="html=PATH", help="Where the page goes.")
def night(sources: tuple[str, ...], output: str) -> None:
    """Put a whole night on one HTML page: the checks before, the plan, the training, the checks after.

    Name what the night wrote, in any order: JSON reports of `ftcheck run` (stage before and stage after), the
    JSON of `ftcheck plan`, and run folders (or a folder above several). Each is recognised by what it
    holds. What is missing is said on top of the page, and a night that is not whole is not a pass.

    Example: ftcheck report night before.json plan.json checkpoints after.json -o html=night.html
    """
    from ftcheck.cli.pages.night_html import page
    from ftcheck.errors import UsageError
    from ftcheck.runner.assemble import now
    from ftcheck.runner.outputs import parse_outputs, write

    outputs = parse_outputs([output], ["html"])
    found = gathered(sources)
    if not (found.reports or found.plans or found.runs or found.missing):
        raise UsageError(f"{', '.join(sources)}: nothing of a night is there")
    for path in write(outputs, {"html": lambda: page(found, now())}):
        click.echo(path)


def gathered(sources: Sequence[str], now: datetime | None = None) -> "Night":
    """What the sources hold. Raises `UsageError` for one that is nothing of a night, or there twice."""
    from ftcheck.cli.pages.night_html import Night

    found = Night()
    for source in dict.fromkeys(sources):
        path = Path(bounded.expanded(source))
        found = _with_runs(found, path, now) if path.is_dir() else _with_file(found, path)
    return found


def _with_runs(found: "Night", folder: Path, now: datetime | None) -> "Night":
    from ftcheck.errors import UsageError
    from ftcheck.inputs.run_folder import RUN, find, read
    from ftcheck.training.monitor import curves, view

    folders = find(folder)
    if not folders:
        raise UsageError(f"{folder}: not a run folder: it contains no {RUN}, nor do the folders below")
    at = now or datetime.now().astimezone()
    runs = [(view(run, at), curves(run)) for run in map(read, folders)]
    return replace(found, runs=[*found.runs, *runs])


def _with_file(found: "Night", path: Path) -> "Night":
    from ftcheck.errors import UsageError
    from ftcheck.planning import plan_file
    from ftcheck.report.record import SCHEMA

    try:
        data = bounded.read_json(path)
    except OSError as error:
        raise UsageError(f"{path}: {bounded.told(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {_none(error)}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == plan_file.SCHEMA:
        return replace(found, plans=[*found.plans, *plan_file.read_plans(path)])
    if schema != SCHEMA:
        raise UsageError(f"{path}: {_none()}")
    return _with_report(found, path)


def _none(error: Any = None) -> str:
    told = f" ({bounded.told(error)})" if error is not None else ""
    kinds = "a JSON report of ftcheck run, a plan of ftcheck plan -o json, or a run folder"
    return f"not one of: {kinds}{told}"


def _with_report(found: "Night", path: Path) -> "Night":
    from ftcheck.errors import UsageError
    from ftcheck.gate.stored import read_report
    from ftcheck.gate.ticket import Reason
    from ftcheck.records import Stage

    report = read_report(path)
    if isinstance(report, Reason):
        if report.code != "started":
            raise UsageError(report.message)
        return replace(found, missing=[*found.missing, report.message])
    before, after = found.before, found.after
    if (after if report.stage is Stage.AFTER else before) is not None:
        raise UsageError(f"{path}: a second report of stage {report.stage.value}: name one of each stage")
    return replace(found, after=report) if report.stage is Stage.AFTER else replace(found, before=report)
