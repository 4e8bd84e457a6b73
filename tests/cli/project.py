"""A small project in a temporary folder: a policy, rules of its own, and the command line run on it."""

import json
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import Started, forked, fresh

HEAD = '''
"""Rules for tests."""
import os, sys, time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from ftcheck import Finding, InputError, Job, Location, Measurement, Prepared, Severity, Skip, rule
'''

FINE = '''
@rule("fine")
def fine() -> Iterator[Any]:
    """All is well.

    Otherwise it is not.
    """
    yield Measurement("answer", 42)
'''


def rule_text(name: str, body: str, inputs: str = "") -> str:
    """The source of a rule with this body."""
    function = name.replace("-", "_")
    doc = '    """Something holds.\n\n    Otherwise something goes wrong.\n    """\n'
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f'\n@rule("{name}")\ndef {function}({inputs}) -> Iterator[Any]:\n{doc}{lines}\n    yield from ()\n'


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report that the command was asked to write to r.json."""
        loaded: dict[str, Any] = json.loads((self.folder / "r.json").read_text(encoding="utf-8"))
        return loaded

    def outcome(self, check: str) -> str:
        """The outcome of a check in the report."""
        return str(self.result(check)["outcome"])

    def result(self, check: str) -> dict[str, Any]:
        """The result of a check in the report."""
        return next(r for r in self.report["results"] if r["id"] == check)


@dataclass
class Running:
    """A command that was started, and the files that it prints to."""

    started: Started
    folder: Path
    said: Path

    def end(self) -> Ran:
        """Wait for it, and take what it printed."""
        code = self.started.wait()
        out, err = (self.said / name for name in ("out", "err"))
        return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"), self.folder)


@dataclass
class Project:
    """A folder with a policy and rules. Its commands are forked, `fresh` ones have their own interpreter."""

    folder: Path
    fresh: bool = False

    def write(self, name: str, text: str) -> Path:
        """A file in the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def rules(self, *sources: str) -> None:
        """The project's rules, `fine` among them."""
        self.write("rules/mine.py", HEAD + FINE + "".join(sources))

    def policy(self, checks: str, *, more: str = "", jobs: str | None = None) -> Path:
        """A policy with these checks (YAML, one a line)."""
        about = jobs or "  job: {model: {name: ./model}}\n"
        listed = textwrap.indent(textwrap.dedent(checks).strip("\n"), "  ")
        return self.write("policy.yaml", f"ftcheck: 1\nname: test\njobs:\n{about}checks:\n{listed}\n{more}")

    def start(self, *arguments: str, **environment: str) -> Running:
        """Start a command and do not wait for it."""
        said = Path(tempfile.mkdtemp(prefix="said-", dir=self.folder.parent))
        about = {"FTCHECK_CACHE": str(self.folder / "cache"), "COLUMNS": "120", **environment}
        start = fresh if self.fresh else forked
        words = [sys.executable, "-m", "ftcheck", *arguments]
        return Running(start(words, self.folder, said / "out", said / "err", about), self.folder, said)

    def call(self, *arguments: str, **environment: str) -> Ran:
        """Run a command to its end."""
        ran = self.start(*arguments, **environment).end()
        assert "Traceback" not in ran.err, ran.err
        return ran

    def run(self, *arguments: str, **environment: str) -> Ran:
        """`ftcheck run` with the project's rules, writing r.json and r.xml."""
        files = ("-o", "json=r.json", "-o", "junit=r.xml")
        return self.call("run", "policy.yaml", "--rules-dir", "rules", *files, *arguments, **environment)
