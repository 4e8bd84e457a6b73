"""Small policies, presets and hosts for the tests of the policy reader."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pluggy

from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule, rule
from ftcheck.extension.trainers import Trainer
from ftcheck.gate.ticket import Ticket
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.loader import Loader
from ftcheck.policy import Draft, draft
from ftcheck.records import Finding, Severity, Stage
from ftcheck.report.record import PluginInfo
from ftcheck.settings import Job

TODAY = date(2026, 11, 22)
HEAD = "ftcheck: 1\njobs:\n  mapper:\n    model: {name: tiny}\n"


@dataclass(frozen=True)
class Percentile:
    """Options with a percentile."""

    percentile: float = 95
    """Which percentile is looked at."""
    at: Severity = Severity.ERROR
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.percentile > 100:
            raise ValueError(f"percentile {self.percentile:g} is above 100")


@rule("lengths")
def lengths(prepared: Any, params: Percentile) -> Iterator[Finding]:
    """Rows fit.

    Else they are cut.
    """
    yield Finding(f"{prepared} {params}")


@rule("duplicates")
def duplicates(rows: Any) -> Iterator[Finding]:
    """Rows differ.

    Else they are learnt by heart.
    """
    yield Finding(f"{rows}")


@rule("environment")
def environment(packages: Any) -> Iterator[Finding]:
    """Versions fit.

    Else nothing runs.
    """
    yield Finding(f"{packages}")


@rule("accuracy", stage=Stage.AFTER)
def accuracy(job: Any, params: Percentile) -> Iterator[Finding]:
    """Answers are right.

    Else it was for nothing.
    """
    yield Finding(f"{job} {params}")


def _train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool = False) -> str:
    return f"{ticket} {job} {inputs} {resume}"


def host(rules: Sequence[Rule] = (lengths, duplicates, environment, accuracy)) -> Host:
    """A host with a few rules, the loaders they need, and two trainers."""
    info = PluginInfo("rules", "ftcheck", "0.1")
    loaders = [
        Loader("packages", print),
        Loader("rows", print, ("job",)),
        Loader("prepared", print, ("rows", "run")),
    ]
    return Host(
        manager=pluggy.PluginManager("ftcheck"),
        plugins=(info,),
        rules={one.id: one for one in rules},
        loaders={one.name: one for one in loaders},
        reporters={},
        trainers={name: Trainer(name, _train) for name in ("command", "qlora")},
        owner={f"rule:{one.id}": info for one in rules},
    )


def write(name: str, text: str | bytes) -> Path:
    """A file in the test's folder."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def presets(**texts: str) -> Path:
    """A folder of presets."""
    folder = Path("presets")
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        write(f"presets/{name}.yaml", text)
    return folder


def read(text: str | bytes, *overrides: str, files: Mapping[str, str] | None = None) -> Draft:
    """The draft of `policy.yaml` with this text, read today, with the presets that were written."""
    for name, content in (files or {}).items():
        write(name, content)
    return draft(write("policy.yaml", text), overrides, presets=presets(), today=TODAY)


def said(found: Draft) -> list[str]:
    """The problems of a draft, as they are printed."""
    return [str(problem) for problem in found.problems]


def job(*lines: str) -> str:
    """A policy with one job `mapper`; the lines are keys of the job, the first on line 5."""
    return HEAD + "".join(f"    {line}\n" for line in lines)
