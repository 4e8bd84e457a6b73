"""`ftcheck show`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import (
    SOURCES,
    DataFlags,
    all_rules_dirs,
    data_flags,
    one_job,
    overrides,
    policy_of,
    rules_dirs,
    the_job,
)
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.inputs.prepared import Prepared
    from ftcheck.inputs.row_texts import ReadRow
    from ftcheck.inputs.row_view import RowView
    from ftcheck.policy.made import Made


@click.command(short_help="Show a row as the model sees it: in the loss, masked, cut off.")
@SOURCES
@data_flags
@one_job("The job")
@click.option("--row", type=click.IntRange(min=1), metavar="N", help="The Nth row (default: the first).")
@click.option("--record", metavar="DIGEST", help="The row with this digest, or a prefix of it.")
@click.option("--longest", is_flag=True, help="The row with the most tokens.")
@click.option("--first-finding", is_flag=True, help="Run the checks, and show the first row with a finding.")
@click.option("--ids", is_flag=True, help="One line per token, with its id.")
@click.option("-o", "--output", metavar="html=PATH", help="Write an HTML page instead.")
@overrides
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def show(
    sources: tuple[str, ...],
    data: DataFlags,
    job: str | None,
    row: int | None,
    record: str | None,
    longest: bool,
    first_finding: bool,
    ids: bool,
    output: str | None,
    overrides: tuple[str, ...],
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> None:
    """Show a training row as the model sees it: of POLICY, or DATA or CONFIG as `ftcheck check` takes them.

    Tokens in the loss are bright and between « and », masked ones are dim, tokens that truncation removes are
    struck through (between ✂ in plain output). Tool definitions, calls and results are marked; what the
    template dropped of them is struck through, what it made up is underlined. This prints the row's text: be
    careful where you paste it.
    """
    from ftcheck.errors import UsageError
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.inputs.row_view import view
    from ftcheck.inputs.work_folders import work_folder
    from ftcheck.runner.load import load

    if sum((row is not None, record is not None, longest, first_finding)) > 1:
        raise UsageError("use only one of --row, --record, --longest and --first-finding")
    folders = all_rules_dirs(rules_dirs)
    policy = policy_of(sources, data)
    loaded = load(policy, overrides, folders)
    job = the_job(str(policy), loaded.policy.jobs, job)
    if first_finding:
        row = _first_finding(policy, job, overrides, folders, offline=offline)
    found = loaded.policy.jobs[job]
    with work_folder("ftcheck-show-") as folder:
        run = Run(folder=folder, offline=offline, cache=True)
        inputs = Inputs(loaded.host.loaders, {"run": run, "jobs": (found,)}, found)
        prepared: Prepared = inputs.get("prepared")
        index = _index(prepared, row, record, longest=longest)
        read: ReadRow | None = None
        if prepared.rows.textless is None:
            read = inputs.get("row_texts").read([index])[0]
        _print(view(prepared, inputs.get("tokenizer"), found, index, read), output, ids=ids)


def _index(prepared: "Prepared", row: int | None, record: str | None, *, longest: bool) -> int:
    """The row that is asked for, from 0."""
    from ftcheck.errors import UsageError

    if not len(prepared):
        raise UsageError("the data has no rows")
    if record is not None:
        wanted = record.removeprefix("sha256:")
        matches = [n for n, one in enumerate(prepared.rows.records) if one.startswith(wanted)]
        if not matches:
            raise UsageError(f"no row has the digest {record}")
        return matches[0]
    if longest:
        return int(prepared.length.argmax())
    if row is not None and row > prepared.rows.total:
        raise UsageError(f"there is no row {row:,}: the data has {counted(prepared.rows.total, 'row')}")
    if row is None:
        return 0
    index = prepared.rows.index(row)
    if index is None:
        raise UsageError(f"row {row:,} is not in the sample ({prepared.sample}): show it without data.sample")
    return index


def _first_finding(
    policy: "str | Made", job: str, overrides: tuple[str, ...], folders: tuple[Path, ...], *, offline: bool
) -> int:
    from ftcheck.errors import UsageError
    from ftcheck.report.redact import shown
    from ftcheck.runner import session
    from ftcheck.runner.options import Options
    from ftcheck.runner.select import Selection

    options = Options(
        policy=policy,
        overrides=overrides,
        rules_dirs=folders,
        offline=offline,
        selection=Selection(jobs=(job,)),
    )
    report = session.run(options, lambda planned: ()).report
    for result in report.results:
        for finding in result.findings if result.check.job == job else ():
            if finding.at is not None and finding.at.row is not None:
                click.echo(shown(f"{result.check.id}: {finding.message}"), err=True)
                return finding.at.row
    raise UsageError(f"no check of {job} has a finding about a row")


def _print(view: "RowView", output: str | None, *, ids: bool) -> None:
    from ftcheck.cli.pages import row_html, row_page
    from ftcheck.errors import UsageError

    if output is not None:
        kind, _, path = output.partition("=")
        if kind != "html" or not path:
            raise UsageError(f"-o {output}: write html=PATH")
        try:
            Path(path).write_text(row_html.page(view), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"-o {output}: {error.strerror or error}") from error
        click.echo(path)
    elif ids:
        click.echo(row_page.headline(view))
        click.echo(row_page.table(view), nl=False)
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(row_page.coloured(view))
    else:
        click.echo(row_page.plain(view), nl=False)
