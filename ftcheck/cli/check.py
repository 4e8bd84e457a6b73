"""`ftcheck check`: the recommended checks on a data file or a framework's configuration, without a policy."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import SOURCES, DataFlags, RunFlags, data_flags, policy_of, run_flags

if TYPE_CHECKING:
    from ftcheck.policy.made import Made


@click.command(short_help="Check a data file or a configuration, without a policy.")
@SOURCES
@data_flags
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the policy."
)
@run_flags
def check(sources: tuple[str, ...], data: DataFlags, save: Path | None, flags: RunFlags) -> int:
    """Check DATA (.jsonl, .json, .parquet, .csv) for a model, or a CONFIG, with the recommended checks.

    For DATA it assumes a QLoRA training with TRL's defaults. CONFIG is the configuration or script of a
    training with axolotl, LLaMA-Factory, TRL, alignment-handbook, torchtune, unsloth, LitGPT or NeMo
    AutoModel; the options override what it says, and are listed as differences. --save writes the policy, to
    state what else is different. A POLICY is run as it is. Exits as `ftcheck run` does.
    """
    from ftcheck.cli.run import run_checks

    asked = policy_of(sources, data)
    return run_checks(asked if save is None else _saved(asked, save), flags)


def _saved(asked: "str | Made", file: Path) -> str:
    """Write the policy, its paths relative to its own folder; what lies there already is kept."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError
    from ftcheck.policy.made import Made

    if not isinstance(asked, Made):
        raise UsageError(f"--save: {asked} is a policy already")
    if not file.resolve().parent.is_dir():
        raise UsageError(f"--save {file}: its folder does not exist")
    contents = {path: text.encode("utf-8") for path, text in _texts(asked, file).items()}
    try:
        for path, content in contents.items():
            if path.exists() and path.read_bytes() != content:
                raise UsageError(f"{path} already exists: nothing was written")
        for path, content in contents.items():
            replace_file(path, content)
    except OSError as error:
        raise UsageError(f"--save {file}: {error.strerror or error}") from error
    click.echo(f"policy written to {file}", err=True)
    return str(file)


def _texts(asked: "Made", file: Path) -> dict[Path, str]:
    """What is written: the policy, and the template of a configuration that holds one."""
    from ftcheck.errors import UsageError
    from ftcheck.importers.policy_file import texts

    folder = file.resolve().parent
    if asked.configuration is None:
        return {file: asked.text_in(folder)}
    if folder != Path.cwd():
        raise UsageError(
            f"--save {file}: paths in {asked.configuration} begin where its training is started: save the"
            " policy into this folder"
        )
    found = texts(asked.configuration, folder, name=file.name, beside=asked.beside)
    return {file.parent / name: text for name, text in found.items()}
