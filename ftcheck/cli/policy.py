"""`ftcheck policy show|check`, `ftcheck schema`, `ftcheck init`."""

from pathlib import Path

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs
from ftcheck.plurals import counted


@click.group(short_help="Validate a policy, or show it merged.")
def policy() -> None:
    """Validate a policy, or show it merged."""


@policy.command()
@click.argument("policies", nargs=-1, required=True, type=click.Path(path_type=str), metavar="POLICY…")
@rules_dirs
def check(policies: tuple[str, ...], rules_dirs: tuple[Path, ...]) -> int:
    """Validate policies without opening data or models; prints all problems, exits 2 if there are any."""
    from ftcheck.errors import FtcheckError
    from ftcheck.exit_codes import ExitCode, worst_of
    from ftcheck.runner.load import load

    codes = [ExitCode.OK]
    for path in policies:
        try:
            loaded = load(path, rules_dirs=all_rules_dirs(rules_dirs))
        except FtcheckError as error:
            from ftcheck.runner.session import say  # imports the gate: not for policies that are valid

            say(error)
            codes.append(error.exit_code)
            continue
        jobs, checks = len(loaded.policy.jobs), len(loaded.checks)
        click.echo(f"{path}: {counted(jobs, 'job')}, {counted(checks, 'check')}")
    return worst_of(codes)


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
@rules_dirs
def schema(report: bool, rules_dirs: tuple[Path, ...]) -> None:
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
    click.echo(
        json.dumps(made(make_host(rules_dirs=all_rules_dirs(rules_dirs))), indent=2, ensure_ascii=False)
    )


@click.command(short_help="Write a policy with sample jobs, or for a configuration, into this folder.")
@click.argument("preset", required=False)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Write ./ftcheck.yaml for a configuration or script of axolotl, LLaMA-Factory, TRL and others.",
)
@click.option("--expand", is_flag=True, help="With --from: write every key out, instead of naming the file.")
def init(preset: str | None, source: Path | None, expand: bool) -> None:
    """Write the policy PRESET (default: night_before) and what it needs into ./policies."""
    from ftcheck.errors import UsageError
    from ftcheck.policy import init as copied

    if source is not None and preset is not None:
        raise UsageError("give a preset or --from, not both")
    if expand and source is None:
        raise UsageError("--expand needs --from FILE")
    if source is not None:
        from ftcheck.importers.policy_file import write

        for path in write(source, Path.cwd(), expand=expand):
            click.echo(path.relative_to(Path.cwd()))
        click.echo("next: ftcheck run ftcheck.yaml", err=True)
        return

    written = [path.relative_to(Path.cwd()) for path in copied(preset, Path.cwd())]
    for path in written:
        click.echo(path)
    main = next(path for path in written if path.suffix == ".yaml")
    click.echo(f"next: ftcheck run {main}", err=True)
