"""`ftcheck init`: one word for each situation, and without a word what this folder asks for."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import DataFlags, data_flags
from ftcheck.plurals import counted
from ftcheck.policy.editor import FILE, LINE, write_schema

if TYPE_CHECKING:
    from ftcheck.policy.made import Asked

SAMPLE = "sample"
OWN = ("recommended", "recommended_after")
"""Presets without jobs: what is asked for is a policy with the jobs of this folder."""
AFTER = "ftcheck_after.yaml"
PLACES = (".", "data", "policies")
SHOWN = 5
MANY = 500
"""Files of a folder that are looked at."""


@dataclass(frozen=True, slots=True)
class Around:
    """What lies in this folder: policies, configurations by framework, files of rows, a model."""

    policies: tuple[str, ...]
    configurations: tuple[tuple[str, str], ...]
    data: tuple[str, ...]
    model: str | None


@click.command(short_help="Write a first policy: with sample jobs, for your data, or for a configuration.")
@click.argument("what", required=False, metavar="[WORD|CONFIG|DATA]")
@data_flags
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The same as CONFIG.",
)
@click.option("--expand", is_flag=True, help="For CONFIG: write every key out, instead of naming the file.")
def init(what: str | None, data: DataFlags, source: Path | None, expand: bool) -> None:
    """Write a first policy into this folder; without an argument: the one that the folder asks for.

    CONFIG, a configuration or script of axolotl, LLaMA-Factory, TRL and others, or DATA with --model gives
    ./ftcheck.yaml. WORD is `sample` (two small jobs that run at once), `recommended` (for the data or the
    configuration in this folder), `recommended_after` (for the morning after the policy in this folder), or
    the name of another shipped policy. Nothing is overwritten.
    """
    from dataclasses import asdict

    from ftcheck.errors import UsageError
    from ftcheck.policy.made import Asked

    if source is not None and what is not None:
        raise UsageError(f"give {what} or --from, not both")
    named = what if source is None else str(source)
    is_file = named is not None and (Path(named).is_file() or _is_named_as_one(named))
    if expand and not is_file:
        raise UsageError("--expand needs a configuration: ftcheck init CONFIG --expand")
    asked = Asked(data=(named or "",), **asdict(data))
    if asked.options and not is_file:
        about = ": name it" if named is None else f", not for {named}"
        raise UsageError(f"{next(iter(asked.options))} is for a data file or a configuration{about}")
    if is_file:
        _of_file(asked, expand=expand)
    elif named is None or named == "recommended":
        _by_situation(_around(), sample=named is None)
    elif named == "recommended_after":
        _after(_around())
    else:
        _shipped(named.removesuffix(".yaml"))


def _is_named_as_one(name: str) -> bool:
    """Whether a name that is no file was meant to be one, not a word."""
    from ftcheck.policy import presets

    return bool(Path(name).suffix) and presets.find(name) is None


def _of_file(asked: "Asked", *, expand: bool) -> None:
    """Write `ftcheck.yaml` for a configuration or for rows."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError
    from ftcheck.importers.policy_file import FILE, write
    from ftcheck.runner.sources import policy_for

    with policy_for(asked) as made:
        if isinstance(made, str):
            raise UsageError(f"{made} is a policy already: ftcheck run {shlex.quote(made)}")
        if made.configuration is not None:
            written = write(made.configuration, Path.cwd(), expand=expand, beside=made.beside)
        elif expand:
            raise UsageError(f"--expand is for a configuration: {asked.data[0]} holds rows")
        elif (file := Path(FILE)).exists():
            raise UsageError(f"{file} already exists: nothing was written")
        else:
            replace_file(file, made.text_in(Path.cwd()).encode("utf-8"))
            written = [file]
    _said(written)


def _said(written: Sequence[Path], after: str = "") -> None:
    """The files that were written, what the policy still needs, and what to do with it."""
    from ftcheck.errors import PolicyError
    from ftcheck.policy import draft
    from ftcheck.runner.session import say

    here = [path.relative_to(Path.cwd()) if path.is_absolute() else path for path in written]
    policy = next(path for path in here if path.suffix == ".yaml")
    _for_editors(policy)
    for path in [*here, policy.parent / FILE]:
        click.echo(path)
    problems = draft(policy).problems
    if problems:
        say(PolicyError("the policy is not valid", problems))
    first = "correct this, then " if problems else ""
    click.echo(f"next{after}: {first}ftcheck run {shlex.quote(str(policy))}", err=True)


def _for_editors(policy: Path) -> None:
    """Write the schema beside a policy, and its name into the policy's first line."""
    from ftcheck.atomic import replace_file

    write_schema(policy.parent)
    text = policy.read_bytes()
    if not text.startswith(LINE.encode()):
        replace_file(policy, LINE.encode() + text)


def _shipped(name: str) -> None:
    from ftcheck.errors import UsageError
    from ftcheck.policy import init as copied
    from ftcheck.policy import presets
    from ftcheck.policy.messages import did_you_mean

    words = [SAMPLE, *OWN, *(one for one in presets.names() if one not in OWN)]
    if name not in words:
        meant = did_you_mean(name, words)
        raise UsageError(f"no word '{name}' and no such file{meant} (words: {', '.join(words)})")
    _said(copied(None if name == SAMPLE else name, Path.cwd()))


def _by_situation(around: Around, *, sample: bool) -> None:
    """Write or propose what this folder asks for; in an empty one the sample, where that may be."""
    from ftcheck.errors import UsageError
    from ftcheck.policy.made import Asked

    if around.policies:
        _propose(f"{one} is a policy: ftcheck run {shlex.quote(one)}" for one in around.policies)
    elif len(around.configurations) == 1:
        [(file, framework)] = around.configurations
        click.echo(f"{file} is a configuration of {framework}", err=True)
        _of_file(Asked(data=(file,)), expand=False)
    elif around.configurations:
        _propose(
            f"{file} is a configuration of {framework}: ftcheck init {shlex.quote(file)}"
            for file, framework in around.configurations
        )
    elif around.data:
        _propose_checks(around)
    elif sample:
        _shipped(SAMPLE)
    else:
        raise UsageError(
            "no rows and no configuration here: ftcheck init DATA --model MODEL, ftcheck init CONFIG, or, to"
            " try it, ftcheck init sample"
        )


def _propose_checks(around: Around) -> None:
    """The command that checks each file of rows, those first that are called train."""
    model = shlex.quote(around.model or "MODEL")
    first = sorted(around.data, key=lambda file: "train" not in file)
    _propose(
        f"{file} holds rows: ftcheck check {shlex.quote(file)} --model {model} --save ftcheck.yaml"
        for file in first[:SHOWN]
    )
    if len(first) > SHOWN:
        click.echo(f"and {counted(len(first) - SHOWN, 'more file')} of rows")
    if around.model is None:
        click.echo("MODEL is the base model: a hub id, or a folder", err=True)


def _propose(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _after(around: Around) -> None:
    """Write the policy for the morning after that of this folder."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError
    from ftcheck.policy.lines import quoted

    if len(around.policies) != 1:
        said = "there is none here: ftcheck init makes one"
        if around.policies:
            listed = ", ".join(around.policies)
            said = f"there are several here ({listed}): write 'extends: [YOURS, recommended_after]'"
        raise UsageError(f"recommended_after is about the jobs of a policy, and {said}")
    [policy] = around.policies
    file = Path(policy).with_name(AFTER)
    if file.exists():
        raise UsageError(f"{file} already exists: nothing was written")
    own = quoted(Path(policy).name)
    text = f"ftcheck: 1\nstage: after\nextends: [{own}, recommended_after]\n"
    replace_file(file, f"# What was trained: ftcheck run {file}\n{text}".encode())
    _said([file], ", after training")


def _around() -> Around:
    """What lies in this folder, and in its folders `data` and `policies`."""
    from ftcheck.importers.importing import framework_of
    from ftcheck.importers.records import NAMES
    from ftcheck.runner.sources import has_jobs, kind_of

    found = [(file, kind_of(file)) for place in PLACES for file in _files(place)]
    configurations = [
        (file, NAMES[framework_of(Path(file)) or ""])
        for file, kind in found
        if kind == "configuration" and "/" not in file
    ]
    models = [path.name for path in sorted(Path().iterdir()) if (path / "config.json").is_file()]
    return Around(
        policies=tuple(file for file, kind in found if kind == "policy" and has_jobs(file)),
        configurations=tuple(configurations),
        data=tuple(file for file, kind in found if kind == "data"),
        model=models[0] if models else None,
    )


def _files(place: str) -> Iterator[str]:
    try:
        inside = sorted(Path(place).iterdir())[:MANY]
    except OSError:
        return
    yield from (path.as_posix() for path in inside if path.is_file() and not path.name.startswith("."))
