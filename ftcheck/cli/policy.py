"""`ftcheck policy show|check`, `ftcheck schema`."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.exit_codes import ExitCode


@click.group(short_help="Validate a policy, or show it merged.")
def policy() -> None:
    """Validate a policy, or show it merged."""


@policy.command()
@click.argument("policies", nargs=-1, required=True, type=click.Path(path_type=str), metavar="POLICY…")
@rules_dirs
def check(policies: tuple[str, ...], rules_dirs: tuple[Path, ...]) -> int:
    """Validate policies without opening data or models; prints all problems, exits 2 if there are any."""
    from ftcheck.exit_codes import worst_of

    folders = all_rules_dirs(rules_dirs)
    with _few_collections():
        return worst_of([_checked(path, folders) for path in policies])


@contextmanager
def _few_collections() -> Iterator[None]:
    """Look for garbage seldom: imports alone set off hundreds of searches that find none."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _checked(path: str, folders: tuple[Path, ...]) -> "ExitCode":
    from ftcheck.errors import FtcheckError
    from ftcheck.exit_codes import ExitCode
    from ftcheck.runner.load import load

    try:
        loaded = load(path, rules_dirs=folders)
    except FtcheckError as error:
        from ftcheck.runner.session import say  # imports the gate: not for policies that are valid

        say(error)
        return error.exit_code
    jobs, checks = len(loaded.policy.jobs), len(loaded.checks)
    click.echo(f"{path}: {counted(jobs, 'job')}, {counted(checks, 'check')}")
    return ExitCode.OK


@policy.command()
@POLICY
@click.option("--origin", is_flag=True, help="Show for each value the file and line that it comes from.")
@overrides
def show(policy: str, origin: bool, overrides: tuple[str, ...]) -> None:
    """Print POLICY merged with the files that it extends."""
    from ftcheck.errors import PolicyError
    from ftcheck.policy import draft
    from ftcheck.policy.show import show as shown

    read = draft(policy, overrides)
    if read.problems:
        raise PolicyError("the policy is not valid", read.problems)
    click.echo(shown(read, origin=origin), nl=False)


@click.command(short_help="Print the JSON Schema of policies (or of reports).")
@click.option("--report", is_flag=True, help="Print the schema of JSON reports instead.")
@click.option(
    "--draft",
    type=click.Choice(["7", "2020-12"]),
    default="2020-12",
    show_default=True,
    help="The draft of JSON Schema; editors read 7.",
)
@rules_dirs
def schema(report: bool, draft: str, rules_dirs: tuple[Path, ...]) -> None:
    """Print the JSON Schema of policies, including the parameters of rules, for your editor."""
    import json
    from importlib import resources

    from ftcheck.extension.plugin_host import make_host
    from ftcheck.policy import schema as made

    if report:
        click.echo(
            resources.files("ftcheck.tables").joinpath("report.schema.json").read_text("utf-8"), nl=False
        )
        return
    host = make_host(rules_dirs=all_rules_dirs(rules_dirs))
    click.echo(json.dumps(made(host, draft_07=draft == "7"), indent=2, ensure_ascii=False))
