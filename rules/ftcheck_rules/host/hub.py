"""Hub rules: can the base model be had, and can the trackers report without anybody at the keyboard?"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import Change, Finding, Job, Measurement, Packages, Severity, Summary, rule, tables
from ftcheck.extension.rules import Yield
from ftcheck.inputs.environment import Environment
from ftcheck.inputs.repository import Repository
from ftcheck.paths import near

GIB = 1 << 30
MARGIN = 1.05
"""A download needs a little more than its size: files are whole before they are moved."""


@rule("hub-access", family="host", cases="ftcheck_rules.host.cases.hub")
def hub_access(job: Job, environment: Environment, repository: Repository) -> Iterator[Yield]:
    """The base model is a folder, is in the hub's cache, or can be downloaded into it.

    A gated model without a token, a machine that is offline, a name with a slip or a full disk end the
    run before its first step, in the night, after the queue.

    The cache counts if it holds the config and every weight file; else the hub is asked for the
    repository, its licence gate and its size, with a timeout. No token is read, only whether there is one.
    """
    if repository.local and repository.found:
        yield Measurement("cached", True)
        yield Summary("a local folder")
        return
    yield Measurement("cached", repository.cached)
    if repository.cached:
        yield Summary("in the hub's cache, whole")
        return
    if repository.size is not None:
        yield Measurement("download_gib", round(repository.size / GIB, 2), unit="GiB")
    if environment.cache_free is not None:
        free = round(environment.cache_free / GIB, 1)
        yield Measurement("cache_free_gib", free, unit="GiB", volatile=True)
    findings = list(_out_of_reach(job, environment, repository))
    yield from findings
    yield Summary("cannot be had" if findings else _download(repository))


def _download(found: Repository) -> str:
    return "to be downloaded" + (f", {found.size / GIB:.1f} GiB" if found.size is not None else "")


def _out_of_reach(job: Job, here: Environment, found: Repository) -> Iterator[Finding]:
    at, name = job.at("model.name"), job.model.name
    meant = f"; did you mean '{found.close}'?" if found.close else ""
    if found.local:
        yield Finding(f"no such folder: {near(name)}", at=at, fix="name the folder, relative to the policy")
    elif here.offline:
        yield Finding(
            f"offline, and {name} is not whole in the cache {near(here.hub_cache)}{meant}",
            at=at,
            fix=f"hf download {name} where there is a network, or unset HF_HUB_OFFLINE",
        )
    elif found.found is False:
        token = "" if here.hub_token else ", or log in: a private model is not shown without a token"
        hint = "" if "/" in name else " (a name on the hub is OWNER/NAME)"
        reason = f" ({found.problem})" if found.problem else ""
        yield Finding(f"the hub has no {name}{reason}{meant}", at=at, fix=f"correct the name{hint}{token}")
    elif found.gated and not here.hub_token:
        yield Finding(
            f"{name} is gated, and there is no token here",
            at=at,
            fix=f"accept the licence at https://huggingface.co/{name}, and export HF_TOKEN",
        )
    elif found.gated and found.size is None:
        yield Finding(
            f"{name} is gated, and the token here was refused",
            at=at,
            fix=f"accept the licence at https://huggingface.co/{name} with the token's account",
        )
    elif found.found is None:
        yield Finding(
            f"whether {name} can be had cannot be told: {found.problem or 'the hub was not asked'}",
            Severity.WARNING,
            at=at,
            fix=f"hf download {name} before the run",
        )
    else:
        yield from _no_room(job, here, found)


def _no_room(job: Job, here: Environment, found: Repository) -> Iterator[Finding]:
    if found.size is None or here.cache_free is None or found.size * MARGIN <= here.cache_free:
        return
    yield Finding(
        f"{job.model.name} takes {found.size / GIB:.1f} GiB, the disk of {near(here.hub_cache)} has"
        f" {here.cache_free / GIB:.1f} free",
        at=job.at("model.name"),
        fix="set HF_HOME to a folder on a larger disk, or make room (hf cache)",
    )


@rule("trackers", family="host", cases="ftcheck_rules.host.cases.hub")
def trackers(job: Job, packages: Packages, environment: Environment) -> Iterator[Yield]:
    """Every tracker of training.report_to is installed and starts without a login.

    wandb without a key asks for one and waits: the job hangs all night at a prompt that nobody sees. A
    tracker that is not installed ends the run at its start.

    Names and packages are transformers' own (ftcheck/tables/trackers.json, dated). For wandb a key in
    WANDB_API_KEY or ~/.netrc counts, or WANDB_MODE offline or disabled; no key is read.
    """
    stated = job.training.report_to
    named = [stated] if isinstance(stated, str) else list(stated)
    table: Mapping[str, Any] = tables.load("trackers")["packages"]
    installed = sorted(name for name in table if table[name] and _is_installed(packages, table[name]))
    wanted = installed if "all" in named else [name for name in named if name != "none"]
    if not wanted:
        yield Measurement("trackers", "none")
        yield Summary("none")
        return
    yield Measurement("trackers", ", ".join(wanted))
    findings = [one for name in wanted for one in _mute(job, name, packages, environment, table)]
    yield from findings
    yield Summary(", ".join(wanted))


def _is_installed(packages: Packages, names: list[str]) -> bool:
    return any(packages.versions.get(name) is not None for name in names)


def _mute(
    job: Job, name: str, packages: Packages, environment: Environment, table: Mapping[str, Any]
) -> Iterator[Finding]:
    at, stated = job.at("training.report_to"), job.training.report_to
    listed = [stated] if isinstance(stated, str) else list(stated)
    left = [one for one in listed if one not in (name, "all")]
    without = Change(f"jobs.{job.name}.training.report_to", stated, left or "none")
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        yield Finding(
            f"transformers knows no tracker '{name}'{hint}", at=at, fix=f"one of {', '.join(table)}"
        )
    elif table[name] and not _is_installed(packages, table[name]):
        fix = f"pip install {table[name][0]}, or take it out"
        yield Finding(f"{name} is not installed here", at=at, fix=fix, change=without)
    elif name == "wandb" and environment.wandb is None:
        yield Finding(
            "wandb has no key here and would wait for a login",
            at=at,
            fix="export WANDB_API_KEY where training runs, or WANDB_MODE=offline, or report_to: none",
            change=without,
        )
