"""Writes a policy for a framework's configuration: one that names it (`from`), or one with every key."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck.atomic import replace_file
from ftcheck.errors import PolicyError, UsageError
from ftcheck.importers import importing
from ftcheck.importers.records import FRAMEWORKS, Imported, NotMapped
from ftcheck.importers.sheet import TEMPLATE, facts
from ftcheck.inputs import bounded
from ftcheck.paths import near
from ftcheck.policy import document
from ftcheck.policy.limits import NAME
from ftcheck.policy.lines import block, quoted
from ftcheck.policy.made import Asked, Made, arguments, beside
from ftcheck.policy.nodes import Node, merge, plain, planted
from ftcheck.records import Location
from ftcheck.report import redact

FILE = "ftcheck.yaml"
TEMPLATE_FILE = "chat_template.jinja"
SHOWN = 10
"""Keys that are listed in comments."""


def write(file: Path, folder: Path, *, expand: bool, beside: Mapping[str, Any] | None = None) -> list[Path]:
    """Write `ftcheck.yaml` into `folder` for a configuration; with `expand` every key is written out.

    A template that stands in the file is written next to it; `beside` is what the job states over it. Returns
    the files written, the policy first. Raises `PolicyError` for a configuration that cannot be read, and
    `UsageError` where a file is there.
    """
    found = texts(file, folder, expand=expand, beside=beside)
    written = {folder / name: text for name, text in found.items()}
    for path in written:
        if path.exists():
            raise UsageError(f"{near(str(path))} already exists: nothing was written")
    for path, text in written.items():
        replace_file(path, text.encode("utf-8"))
    return list(written)


def texts(
    file: Path,
    folder: Path,
    *,
    name: str = FILE,
    beside: Mapping[str, Any] | None = None,
    expand: bool = False,
) -> dict[str, str]:
    """The policy `name` for a configuration, and the template that stands in that: texts by their names.

    `beside` is what the job states over the configuration. Raises as `write` does.
    """
    result = importing.read(None, file, folder=folder)
    if result.tree is None or result.imported is None:
        raise PolicyError(f"{file}: cannot be imported", result.problems)
    if result.imported.framework not in FRAMEWORKS:
        raise UsageError(_companion(result.imported))
    inline = _inline(result.imported)
    at = Location(result.imported.path)
    over = planted(dict(beside or {}), at)
    if inline is not None:
        over = merge(planted({"model": {"chat_template": TEMPLATE_FILE}}, at), over)
    found = _policy(result.tree, result.imported, file, folder, over, name=name, expand=expand)
    return {name: found} | ({TEMPLATE_FILE: str(inline.value)} if inline is not None else {})


def made_of(asked: Asked, templates: Path) -> Made:
    """The policy for a configuration as `init --from` writes it, without the file.

    A template that stands in the configuration is written into the folder `templates`. Paths begin in the
    current folder. Raises as `write` does.
    """
    [stated_file] = asked.data
    file, stated = Path(bounded.expanded(stated_file)), beside(asked)
    written = texts(file, Path.cwd(), beside=stated)
    tree, problems = document.parse(written[FILE], at=Location())
    assert tree is not None, problems
    settings = plain(tree)
    [(name, job)] = settings["jobs"].items()
    if TEMPLATE_FILE in written:
        path = templates / TEMPLATE_FILE
        path.write_text(written[TEMPLATE_FILE], encoding="utf-8")
        job["model"]["chat_template"] = str(path)
    return Made({**settings, "name": name}, arguments(asked), file, stated)


def _companion(record: Imported) -> str:
    key = (
        "training.deepspeed"
        if record.framework == "deepspeed"
        else "trainer.argv (accelerate launch --config_file)"
    )
    return f"{record.path} is a configuration of {record.name}, not a training: name it under {key}"


def _inline(record: Imported) -> NotMapped | None:
    """The template's text, where the file holds it."""
    for one in record.not_mapped:
        if one.stands == TEMPLATE and isinstance(one.value, str) and "{" in one.value:
            return one
    return None


def _policy(
    tree: Node, record: Imported, file: Path, folder: Path, over: Node, *, name: str, expand: bool
) -> str:
    shown = Path(os.path.relpath(file, folder)).as_posix()
    job = re.sub(r"[^A-Za-z0-9_.-]", "-", file.stem)
    assert re.fullmatch(NAME, job)
    lines = [
        f"# Checks the run that {redact.shown(shown)} describes ({record.name} {record.version}):",
        f"#   ftcheck run {shlex.quote(name)}",
        "ftcheck: 1",
        "extends: [recommended]",
        "",
        "jobs:",
        f"  {job}:",
    ]
    if expand:
        lines += block(merge(tree, over), "    ", origin=True)
    else:
        lines += [f"    from: {{{record.framework}: {quoted(shown)}}}  # read at each run"]
        lines += block(over, "    ", origin=False)
    lines += _trainer(record, shown, expand=expand)
    lines += _remarks(record, expand=expand)
    return "\n".join(lines) + "\n"


def _trainer(record: Imported, shown: str, *, expand: bool) -> Iterator[str]:
    command = facts(record.framework.replace("-", "_"))["command"]
    if shown.endswith(".py"):
        command = ["python", "FILE"]
    argv = ", ".join(quoted(shown if part == "FILE" else part) for part in command)
    files = f", files: [{quoted(shown)}]" if expand else ""  # `from` digests the file by itself
    line = f"trainer: {{use: command, argv: [{argv}]{files}}}"
    if "RECIPE" in command:
        yield f"    # {line}  # name your recipe"
    else:
        yield f"    {line}"


def _remarks(record: Imported, *, expand: bool) -> Iterator[str]:
    """The keys that the policy cannot say, and that change what is checked."""
    inline = _inline(record)
    marked = [one for one in record.not_mapped if (one.changes or not one.known) and one is not inline]
    if not marked:
        return
    said = "" if expand else " (the check imported-config lists all)"
    yield f"    # not mapped, although they may change the token ids or the memory{said}:"
    for one in marked[:SHOWN]:
        line = f" (line {one.at.line})" if one.at.line else ""
        yield f"    #   {redact.shown(f'{one.key}{line}: {one.why}')}"
    if len(marked) > SHOWN:
        yield f"    #   and {len(marked) - SHOWN} more"
