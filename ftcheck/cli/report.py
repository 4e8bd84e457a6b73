"""`ftcheck report convert`, `ftcheck report diff` and `ftcheck report night`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from ftcheck.cli.night import night

if TYPE_CHECKING:
    from ftcheck.report.diff import Difference
    from ftcheck.report.record import Report

OUTPUT = ("-o", "--output", "outputs")
STORED = click.Path(path_type=str)


@click.group(short_help="Convert a stored report, or compare two.")
def report() -> None:
    """Work with stored reports."""


class WithFormats(click.Command):
    """A command whose help ends with the formats that the plugins offer."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The formats, by name."""
        from ftcheck.extension.plugin_host import make_host

        with formatter.section("Formats"):
            formatter.write_text(", ".join(sorted(make_host().reporters)))


@report.command(cls=WithFormats, short_help="Write a stored JSON report in other formats.")
@click.argument("stored", type=STORED, metavar="REPORT")
@click.option(
    *OUTPUT,
    multiple=True,
    required=True,
    metavar="FORMAT[=PATH]",
    help="One of the formats below; repeatable; without a path, to stdout.",
)
def convert(stored: str, outputs: tuple[str, ...]) -> None:
    """Write a stored JSON REPORT in other formats, as the run itself would have written them."""
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.runner.outputs import parse_outputs, write_final

    host = make_host()
    found = _read(stored)
    write_final(parse_outputs(outputs, host.reporters), found, host.reporters)


@report.command(short_help="Show what differs between two stored reports.")
@click.argument("before", type=STORED, metavar="BEFORE")
@click.argument("after", type=STORED, metavar="AFTER")
@click.option(
    *OUTPUT,
    multiple=True,
    metavar="FORMAT[=PATH]",
    help="Write the difference as markdown, html or json; repeatable; without a path, to stdout.",
)
@click.option(
    "--volatile", is_flag=True, help="Also what changes by itself: times, machine, free disk space."
)
@click.option("--exit-code", is_flag=True, help="Exit 1 if the reports differ. [default: 0 also then]")
def diff(before: str, after: str, outputs: tuple[str, ...], volatile: bool, exit_code: bool) -> int:
    """Show what differs between two stored JSON reports, BEFORE and AFTER.

    Findings are known by their fingerprints: new, fixed and still there. Then outcomes, measurements, inputs,
    versions and the gate. Exits 0 whether or not they differ, unless --exit-code is given.
    """
    from ftcheck.exit_codes import ExitCode
    from ftcheck.report.diff import compare
    from ftcheck.report.diff_text import terminal
    from ftcheck.runner.outputs import parse_outputs, write

    written = parse_outputs(outputs, _RENDERED)
    difference = compare(_read(before), _read(after), volatile=volatile)
    write(written, {name: partial(render, difference) for name, render in _RENDERED.items()})
    if all(one.path is not None for one in written):
        click.echo(terminal(difference))
    return ExitCode.BLOCKED if exit_code and difference.differs else ExitCode.OK


def _read(stored: str) -> "Report":
    """A stored report. Raises `UsageError`."""
    from ftcheck.errors import UsageError
    from ftcheck.gate.stored import read_report
    from ftcheck.gate.ticket import Reason

    found = read_report(stored)
    if isinstance(found, Reason):
        raise UsageError(found.message)
    return found


def _json(difference: "Difference") -> str:
    import json

    from ftcheck.report.clean import clean
    from ftcheck.report.diff import to_dict

    return json.dumps(clean(to_dict(difference)), indent=1, ensure_ascii=False) + "\n"


def _markdown(difference: "Difference") -> str:
    from ftcheck.report.diff_text import markdown

    return markdown(difference)


def _html(difference: "Difference") -> str:
    from ftcheck.report.diff import to_dict
    from ftcheck.report.html.diff_page import page

    return page(to_dict(difference))


_RENDERED: "dict[str, Callable[[Difference], str]]" = {"json": _json, "markdown": _markdown, "html": _html}


report.add_command(night)
