"""`ftcheck report convert` and `ftcheck report night`."""

import click

from ftcheck.cli.night import night


@click.group(short_help="Convert a stored report to another format.")
def report() -> None:
    """Work with stored reports."""


@report.command(short_help="Write a stored JSON report in other formats.")
@click.argument("stored", type=click.Path(path_type=str), metavar="REPORT")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    metavar="FORMAT[=PATH]",
    help="html, junit, github, markdown or json; repeatable; without a path, to stdout.",
)
def convert(stored: str, outputs: tuple[str, ...]) -> None:
    """Write a stored JSON REPORT in other formats: html, junit, github, markdown, json."""
    from ftcheck.errors import UsageError
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.gate.stored import read_report
    from ftcheck.gate.ticket import Reason
    from ftcheck.runner.outputs import parse_outputs, write_final

    host = make_host()
    found = read_report(stored)
    if isinstance(found, Reason):
        raise UsageError(found.message)
    write_final(parse_outputs(outputs, host.reporters), found, host.reporters)


report.add_command(night)
