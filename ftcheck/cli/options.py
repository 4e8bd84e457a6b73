"""Options that several commands share."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

POLICY = click.argument("policy", type=click.Path(dir_okay=False, path_type=str), metavar="POLICY")


def overrides(command: Command) -> Command:
    """`--set`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="K=V",
        help="Override a value, such as jobs.mapper.training.max_length=512; listed in the report.",
    )(command)


def one_job(help_text: str) -> Callable[[Command], Command]:
    """`--job`, which need not be said where a policy has one job."""
    return click.option("--job", metavar="J", help=f"{help_text} (default: the only one of the policy).")


def the_job(policy: str, jobs: Iterable[str], wanted: str | None) -> str:
    """The job that is asked for, or the only one there is. Raises `UsageError`."""
    from ftcheck.errors import UsageError

    known = list(jobs)
    if wanted is None and len(known) == 1:
        return known[0]
    listed = ", ".join(known)
    if wanted is None:
        raise UsageError(f"{policy}: it has {len(known)} jobs: say which one with --job ({listed})")
    if wanted not in known:
        raise UsageError(f"{policy}: no job '{wanted}'; its jobs are: {listed}")
    return wanted


def rules_dirs(command: Command) -> Command:
    """`--rules-dir`."""
    return click.option(
        "--rules-dir",
        "rules_dirs",
        multiple=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder with rules in .py files (also: [tool.ftcheck] rules-dirs in pyproject.toml).",
    )(command)


def no_cache(command: Command) -> Command:
    """`--no-cache`."""
    return click.option(
        "--no-cache",
        is_flag=True,
        help="Prepare the rows again: use nothing from earlier runs, store nothing for later ones.",
    )(command)


def all_rules_dirs(stated: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders given on the command line, and those of the caller's own pyproject.toml."""
    return (*stated, *_configured(Path.cwd()))


def _configured(folder: Path) -> list[Path]:
    import tomllib

    from ftcheck.errors import UsageError

    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("ftcheck", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: {error}") from error
        unknown = sorted(set(table) - {"rules-dirs"})
        if unknown:
            raise UsageError(f"{file}: [tool.ftcheck] has no key '{unknown[0]}'; its only key is rules-dirs")
        return [parent / one for one in table.get("rules-dirs", ())]
    return []
