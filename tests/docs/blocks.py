"""The pages' fenced blocks: what a reader may type, what then is printed, and the files that are shown.

A comment before a block says what the page cannot show:

    <!-- folder: NAME -->     this and the following blocks run in a fresh folder of that kind (`folders.py`)
    <!-- setup: COMMAND -->   run before the block, not shown
    <!-- exit: 1 -->          the block's last command ends with this code (default: 0)
    <!-- not run: REASON -->  the block is not run here, and why
    <!-- shown: NAME -->      the block has no commands of its own: another test holds it (its path)

A block of commands is `console` (lines that begin with `$ ` are typed, the others are printed; a line of dots
stands for any lines, dots in a line for any words) or `sh` (each line is typed, what it prints is not shown).
A block with `title="FILE"` is that file. Python and YAML without a title must at least be read as such.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.places import CHECKOUT

DOCS = CHECKOUT / "docs"
FENCE = re.compile(r"^(?P<indent> *)```+ *(?P<info>[^`\n]*)$")
COMMENT = re.compile(r"^ *<!-- (folder|setup|exit|not run|shown): (.*?) -->$")
SNIPPET = re.compile(r'^--8<-- "([^"]+)"$')
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and first line, its language, its lines, and what comments say of it."""

    page: str
    line: int
    language: str
    title: str | None
    lines: tuple[str, ...]
    said: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """`guides/ci.md:12`."""
        return f"{self.page}:{self.line}"

    @property
    def text(self) -> str:
        """What stands in it; files that it takes in are read."""
        return "".join(f"{one}\n" for one in _taken_in(self.lines))

    def comments(self, name: str) -> list[str]:
        """What the comments of this name before the block say."""
        return [value for key, value in self.said if key == name]

    @property
    def reason(self) -> str | None:
        """Why it is not run; None where it is."""
        return next(iter(self.comments("not run")), None)

    @property
    def code(self) -> int:
        """What its last command ends with."""
        return int(next(iter(self.comments("exit")), "0"))


@dataclass
class Step:
    """A command with the lines that are printed, as the page has them (None: not shown)."""

    command: str
    printed: list[str] | None
    first: int = field(default=0)
    """The first printed line, counted from the block's first."""


def _taken_in(lines: tuple[str, ...]) -> Iterator[str]:
    for line in lines:
        found = SNIPPET.match(line)
        if found:
            yield from (CHECKOUT / found[1]).read_text(encoding="utf-8").splitlines()
        else:
            yield line


def pages() -> list[Path]:
    """The pages that somebody wrote, and the README."""
    skipped = {DOCS / "generator", DOCS / "parts"}
    written = [path for path in DOCS.rglob("*.md") if not skipped & set(path.parents)]
    return [CHECKOUT / "README.md", *sorted(written)]


def name_of(path: Path) -> str:
    """A page as tests name it."""
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else path.name


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order, with those of the parts that it takes in."""
    return list(_blocks(name_of(path), path.read_text(encoding="utf-8").splitlines()))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    said: list[tuple[str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if comment := COMMENT.match(line):
            said.append((comment[1], comment[2]))
        elif fence := FENCE.match(line):
            end = _end_of(lines, number, line.strip().partition(" ")[0])
            info, indent = fence["info"], len(fence["indent"])
            title = TITLE.search(info)
            inside = tuple(one[indent:] for one in lines[number:end])
            yield Block(page, number, info.split(" ")[0], title and title[1], inside, tuple(said))
            said, number = [], end + 1
        elif line.strip():
            said = [one for one in said if one[0] == "folder"]


def _end_of(lines: list[str], start: int, fence: str) -> int:
    ticks = re.match("`+", fence)
    assert ticks is not None
    return next(n for n in range(start, len(lines)) if lines[n].strip() == ticks[0])


def steps(block: Block) -> list[Step]:
    """The commands of a block."""
    if block.language == "sh":
        return [Step(one, None) for one in _joined(block.lines) if not one.startswith("#")]
    found: list[Step] = []
    for number, line in enumerate(block.lines):
        if line.startswith("$ "):
            found.append(Step(line.removeprefix("$ "), [], number + 1))
        elif found and found[-1].command.endswith("\\") and not found[-1].printed:
            found[-1].command = found[-1].command[:-1] + line.strip()
            found[-1].first = number + 1
        elif found:
            printed = found[-1].printed
            assert printed is not None
            printed.append(line)
    return found


def _joined(lines: tuple[str, ...]) -> list[str]:
    """Lines without those that go on after a backslash, and without empty ones."""
    text = "\n".join(lines).replace("\\\n", " ")
    return [line for line in text.split("\n") if line.strip()]
