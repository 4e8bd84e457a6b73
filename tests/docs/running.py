"""Runs what a page shows, in order, in the folders that it asks for, and compares what is printed."""

import ast
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.commands import forked, fresh
from tests.docs.blocks import Block, Step, blocks, name_of, steps
from tests.docs.folders import KINDS
from tests.docs.same import same

PLAIN = re.compile(r"ftcheck [^|;&<>$`()*?#]*")
"""A command that needs no shell."""
COMMANDS = ("console", "sh")
DATA = ("yaml", "json", "toml", "text", "jinja", "")
"""Languages of blocks that show something and run nothing."""
WRAPPER = '#!/bin/sh\nexec "{python}" -m ftcheck "$@"\n'


@dataclass
class Shell:
    """Runs commands in a folder, with `ftcheck` on the path, one cache for all, and no GPU."""

    place: Path
    folder: Path = field(init=False)
    environment: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Put `ftcheck` on the path."""
        bin_folder = self.place / "bin"
        bin_folder.mkdir(parents=True, exist_ok=True)
        command = bin_folder / "ftcheck"
        command.write_text(WRAPPER.format(python=sys.executable), encoding="utf-8")
        command.chmod(0o755)
        self.environment = {
            "PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FTCHECK_CACHE": str(self.place.parent / "cache"),
            "HF_HOME": str(self.place / "hub"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TZ": "UTC",
            "COLUMNS": "120",
            "LANG": "C.UTF-8",
        }
        self.enter("empty")

    def enter(self, kind: str) -> None:
        """A new folder of a kind."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.place))
        KINDS[kind](self.folder)

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit code and the printed lines, those of both streams."""
        log = Path(tempfile.mkstemp(dir=self.place, suffix=".log")[1])
        if PLAIN.fullmatch(command):
            words = [sys.executable, "-m", "ftcheck", *shlex.split(command)[1:]]
            code = forked(words, self.folder, log, log, self.environment).wait()
        else:
            code = fresh(["bash", "-c", command], self.folder, log, log, self.environment).wait()
        return code, log.read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True)
class Wrong:
    """What is otherwise than the page says; with the lines that should stand there, where it is lines."""

    block: Block
    words: str
    step: Step | None = None
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The place, and what is wrong."""
        return f"{self.block}: {self.words}"


def run_page(path: Path, place: Path) -> list[Wrong]:
    """Everything on a page that is not so."""
    shell = Shell(place / re.sub(r"\W+", "-", name_of(path)))
    return [wrong for block in blocks(path) for wrong in run_block(block, shell)]


def run_block(block: Block, shell: Shell) -> list[Wrong]:
    """What is not as a block shows it."""
    for kind in block.comments("folder"):
        shell.enter(kind)
    for command in block.comments("setup"):
        code, printed = shell.run(command)
        if code != 0:
            return [Wrong(block, f"the setup {command!r} ended with {code}:\n" + "\n".join(printed))]
    if block.title is not None:
        file = shell.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
    if block.reason is not None or block.comments("shown"):
        return []
    if block.language in COMMANDS:
        return _commands(block, shell)
    return [] if block.title is not None else _read(block)


def _commands(block: Block, shell: Shell) -> list[Wrong]:
    wrong = []
    typed = steps(block)
    for step in typed:
        code, printed = shell.run(step.command)
        wanted = block.code if step is typed[-1] else 0
        if code != wanted:
            said = "\n".join(printed)
            wrong.append(Wrong(block, f"{step.command!r} ended with {code}, not {wanted}:\n{said}"))
        if step.printed is not None and not same(step.printed, printed, str(shell.folder)):
            clean = tuple(one.replace(f"{shell.folder}/", "").rstrip() for one in printed)
            said = "\n".join(clean)
            wrong.append(Wrong(block, f"{step.command!r} printed:\n{said}", step, clean))
    return wrong


def _read(block: Block) -> list[Wrong]:
    """A block that runs nothing must at least be of its language."""
    try:
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "yaml":
            from ruamel.yaml import YAML

            YAML(typ="safe").load(block.text)
        elif block.language not in DATA:
            return [Wrong(block, f"nobody knows what to do with a block of {block.language!r}")]
    except Exception as error:
        return [Wrong(block, f"it is not {block.language}: {error}")]
    return []
