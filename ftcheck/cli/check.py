"""`ftcheck check`: the recommended checks on a data file, without a policy."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import DataFlags, RunFlags, data_flags, policy_of, run_flags

if TYPE_CHECKING:
    from ftcheck.policy.made import Made


@click.command(short_help="Check a data file for a model, without a policy.")
@click.argument("sources", nargs=-1, required=True, metavar="DATA...")
@data_flags
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the policy."
)
@run_flags
def check(sources: tuple[str, ...], data: DataFlags, save: Path | None, flags: RunFlags) -> int:
    """Check DATA (.jsonl, .json, .parquet, .csv) as training rows for a model, with the recommended checks.

    Assumes a QLoRA training with TRL's defaults; --save writes the policy, to state what is different.
    A policy in the place of DATA is run as it is. Exits as `ftcheck run` does.
    """
    from ftcheck.cli.run import run_checks

    asked = policy_of(sources, data)
    if save is not None:
        asked = _saved(asked, save)
    return run_checks(asked, flags)


def _saved(asked: "str | Made", file: Path) -> str:
    """Write the policy, its paths relative to its own folder; what lies there already is kept."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError
    from ftcheck.policy.made import Made

    if not isinstance(asked, Made):
        raise UsageError(f"--save: {asked} is a policy already")
    if not file.resolve().parent.is_dir():
        raise UsageError(f"--save {file}: its folder does not exist")
    content = asked.text_in(file.resolve().parent).encode()
    try:
        if file.exists() and file.read_bytes() != content:
            raise UsageError(f"{file} already exists: nothing was written")
        replace_file(file, content)
    except OSError as error:
        raise UsageError(f"--save {file}: {error.strerror or error}") from error
    click.echo(f"policy written to {file}", err=True)
    return str(file)
