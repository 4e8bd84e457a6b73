"""Options that several commands share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from ftcheck.policy.made import Made

Command = TypeVar("Command", bound=Callable[..., Any])


def _policy_or_default(ctx: click.Context, param: click.Parameter, stated: str | None) -> str:
    """The policy that is named, else this folder's. Raises `UsageError`."""
    from ftcheck.policy.presets import of_folder

    return of_folder(Path()) if stated is None and not ctx.resilient_parsing else stated or ""


POLICY = click.argument(
    "policy",
    type=click.Path(dir_okay=False, path_type=str),
    metavar="[POLICY]",
    required=False,
    callback=_policy_or_default,
)
"""A policy; without one ftcheck.yaml, or the only *.ftcheck.yaml of the current folder."""


def _policies_or_default(
    ctx: click.Context, param: click.Parameter, stated: tuple[str, ...]
) -> tuple[str, ...]:
    """The policies that are named, else this folder's. Raises `UsageError`."""
    return stated or (_policy_or_default(ctx, param, None),)


POLICIES = click.argument(
    "policies", type=click.Path(path_type=str), metavar="[POLICY...]", nargs=-1, callback=_policies_or_default
)
"""Policies, folders of them and globs; without any as `POLICY`."""


PER_CORE = 4
"""Processes for each core beyond which more of them only take memory."""


def useful(ctx: click.Context, param: click.Parameter, stated: int | None) -> int | None:
    """A number of processes, at most as many as this machine has use for."""
    import os

    return None if stated is None else min(stated, PER_CORE * (os.cpu_count() or 1))


def at_once(ctx: click.Context, param: click.Parameter, stated: str | None) -> int | None:
    """A number from 1; None for `auto`. Raises `click.BadParameter`."""
    if stated in (None, "auto"):
        return None
    if not stated.isdecimal() or int(stated) < 1:
        raise click.BadParameter(f"'{stated}' is neither a number from 1 nor 'auto'", ctx, param)
    return int(stated)


SOURCES = click.argument("sources", nargs=-1, required=True, metavar="POLICY|CONFIG|DATA...")


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


def signature(command: Command) -> Command:
    """`--require-signed` and `--attestation`."""
    signer = click.option(
        "--require-signed",
        metavar="KEY|IDENTITY",
        help="Open only for a report that this public key (a PEM file) or identity (ISSUER#SUBJECT, an email "
        "address) signed, beside those of gate.require_signed.",
    )
    place = click.option(
        "--attestation",
        type=click.Path(path_type=str),
        metavar="FILE",
        help="The signature of the report. [default: beside it, night.intoto.json for night.json]",
    )
    return signer(place(command))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlags:
    """What is said of a job that no policy states."""

    model: str | None = None
    eval: str | None = None
    max_length: int | None = None
    gpu: str | None = None
    loss: Literal["all", "assistant", "completion"] | None = None


_DATA_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--model", metavar="MODEL", help="The base model: a hub id, or a folder."),
    click.option("--eval", metavar="FILE", help="Evaluation rows."),
    click.option(
        "--max-length", type=click.IntRange(min=1), metavar="N", help="Rows are cut to N tokens. [TRL: 1024]"
    ),
    click.option(
        "--gpu", metavar="NAME", help='The GPU that trains, such as "RTX 4090". [default: this one]'
    ),
    click.option(
        "--loss",
        type=click.Choice(["all", "assistant", "completion"]),
        help="What is trained: every token, the assistant's turns, or the completion.",
    ),
)


def data_flags(command: Command) -> Command:
    """The options that stand for a policy; the command takes them as one `data`."""
    return _packed(command, "data", DataFlags, _DATA_OPTIONS)


def _packed(
    command: Command, name: str, kind: type[Any], options: tuple[Callable[[Any], Any], ...]
) -> Command:
    """A command with more options, which it takes as one argument."""

    @wraps(command)
    def packed(**given: Any) -> Any:
        taken = {one.name: given.pop(one.name) for one in fields(kind)}
        return command(**given, **{name: kind(**taken)})

    made: Any = packed
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[no-any-return]


def policy_of(sources: Sequence[str], data: DataFlags) -> "str | Made":
    """The policy that is named, or the one made of data or a configuration; it lasts as long as the command.

    Raises `UsageError` and `PolicyError`.
    """
    from ftcheck.policy.made import Asked
    from ftcheck.runner.sources import policy_for

    asked = Asked(data=tuple(sources), **asdict(data))
    return click.get_current_context().with_resource(policy_for(asked))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """What narrows a run of checks and what it shows and writes, as the command line says it."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    keyword: str | None = None
    tags: tuple[str, ...] = ()
    exitfirst: bool = False
    maxfail: int | None = None
    last_failed: bool = False
    quiet: bool = False
    verbose: bool = False
    outputs: tuple[str, ...] = ()
    durations: int | None = None
    collect_only: bool = False
    no_cache: bool = False
    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    offline: bool = False
    rules_dirs: tuple[Path, ...] = ()
    show_content: bool = False
    exit_zero: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for a cluster that would not be used."""
        from ftcheck.errors import UsageError

        if self.ray_address is not None and self.engine != "ray":
            raise UsageError(f"--ray-address {self.ray_address}: no cluster is used without --engine ray")
        if self.ray_address == "":
            raise UsageError("--ray-address: name a cluster, such as 10.0.0.1:6379")


_RUN_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--select", multiple=True, metavar="CHECK", help="Only these checks: ids or names, * allowed."
    ),
    click.option("--ignore", multiple=True, metavar="CHECK", help="Not these checks."),
    click.option(
        "-k", "keyword", metavar="EXPR", help="Only ids that match, such as 'length and not analyst'."
    ),
    click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Only checks with this tag."),
    click.option(
        "-x", "--exitfirst", is_flag=True, help="Stop at the first check that blocks or ends in an error."
    ),
    click.option("--maxfail", type=click.IntRange(min=1), metavar="N", help="Stop after N such checks."),
    click.option(
        "--lf", "last_failed", is_flag=True, help="Only the checks that failed last time (all, if none did)."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Hide checks that pass."),
    click.option("-v", "--verbose", is_flag=True, help="Show every measurement."),
    click.option(
        "-o",
        "--output",
        "outputs",
        multiple=True,
        metavar="FORMAT[=PATH]",
        help="Write a report: html, json, junit, github, gitlab, markdown or sarif; repeatable.",
    ),
    click.option(
        "--durations", type=click.IntRange(min=0), metavar="N", help="Show the N slowest checks (0: all)."
    ),
    click.option("--collect-only", is_flag=True, help="List the planned checks and stop."),
    no_cache,
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        callback=useful,
        metavar="N",
        help="Number of processes that prepare rows, at most 4 per core. [default: one per core]",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="What prepares rows: processes here, or tasks of a Ray cluster (extra [ray]). [default: local]",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The Ray cluster, for --engine ray. [default: RAY_ADDRESS, else one that is started here]",
    ),
    click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only."),
    rules_dirs,
    click.option(
        "--show-content", is_flag=True, help="Allow reports to show the text of rows (off by default)."
    ),
    click.option("--exit-zero", is_flag=True, help="Exit 0 instead of 1; other codes stay as they are."),
)


def run_flags(command: Command) -> Command:
    """The options of a run of checks; the command takes them as one `flags`."""
    return _packed(command, "flags", RunFlags, _RUN_OPTIONS)
