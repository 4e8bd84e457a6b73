"""Hub rules: is the base model available, and can the trackers start unattended?"""

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
"""A download needs slightly more than its size: files are complete before they are moved."""


@rule("hub-access", family="host", cases="ftcheck_rules.host.cases.hub")
def hub_access(job: Job, environment: Environment, repository: Repository) -> Iterator[Yield]:
    """The base model is a local folder, is in the hub's cache, or can be downloaded into it.

    A gated model without a token, an offline machine, a typo in the name or a full disk ends the run before
    its first step, at night, after the queue.

    The cache counts if it contains the config and every weight file; otherwise the hub is asked for the
    repository, its licence gate and its size, with a timeout. The token is not read, only whether there is
    one.
    """
    if repository.local and repository.found:
        yield Measurement("cached", True)
        yield Summary("local folder")
        return
    yield Measurement("cached", repository.cached)
    if repository.cached:
        yield Summary("complete in the hub's cache")
        return
    if repository.size is not None:
        yield Measurement("download_gib", round(repository.size / GIB, 2), unit="GiB")
    if environment.cache_free is not None:
        free = round(environment.cache_free / GIB, 1)
        yield Measurement("cache_free_gib", free, unit="GiB", volatile=True)
    findings = list(_out_of_reach(job, environment, repository))
    yield from findings
    yield Summary("not available" if findings else _download(repository))


def _download(found: Repository) -> str:
    return "to be downloaded" + (f", {found.size / GIB:.1f} GiB" if found.size is not None else "")


def _out_of_reach(job: Job, here: Environment, found: Repository) -> Iterator[Finding]:
    at, name = job.at("model.name"), job.model.name
    meant = f"; did you mean '{found.close}'?" if found.close else ""
    if found.local:
        fix = "set model.name to an existing folder, relative to the policy"
        yield Finding(f"no such folder: {near(name)}", at=at, fix=fix)
    elif here.offline:
        yield Finding(
            f"this machine is offline, and {name} is missing or incomplete in the cache"
            f" {near(here.hub_cache)}{meant}",
            at=at,
            fix=f"run `hf download {name}` with a network connection, or unset HF_HUB_OFFLINE",
        )
    elif found.found is False:
        token = "" if here.hub_token else ", or log in: private models are not visible without a token"
        hint = "" if "/" in name else " (names on the hub are OWNER/NAME)"
        reason = f" ({found.problem})" if found.problem else ""
        message = f"the hub has no model {name}{reason}{meant}"
        yield Finding(message, at=at, fix=f"correct the name{hint}{token}")
    elif found.gated and not here.hub_token:
        yield Finding(
            f"{name} is gated, and this machine has no token",
            at=at,
            fix=f"accept the licence at https://huggingface.co/{name}, and export HF_TOKEN",
        )
    elif found.gated and found.size is None:
        yield Finding(
            f"{name} is gated, and the hub rejected the token of this machine",
            at=at,
            fix=f"accept the licence at https://huggingface.co/{name} with the token's account",
        )
    elif found.found is None:
        yield Finding(
            f"it is unknown whether {name} is available: {found.problem or 'the hub was not asked'}",
            Severity.WARNING,
            at=at,
            fix=f"run `hf download {name}` before the run",
        )
    else:
        yield from _no_room(job, here, found)


def _no_room(job: Job, here: Environment, found: Repository) -> Iterator[Finding]:
    if found.size is None or here.cache_free is None or found.size * MARGIN <= here.cache_free:
        return
    yield Finding(
        f"{job.model.name} needs {found.size / GIB:.1f} GiB, but the disk of {near(here.hub_cache)} has"
        f" {here.cache_free / GIB:.1f} GiB free",
        at=job.at("model.name"),
        fix="set HF_HOME to a folder on a larger disk, or free disk space (hf cache)",
    )


@rule("trackers", family="host", cases="ftcheck_rules.host.cases.hub")
def trackers(job: Job, packages: Packages, environment: Environment) -> Iterator[Yield]:
    """Every tracker of training.report_to is installed and starts without a login.

    Without a key, wandb asks for one and waits: the job hangs all night at a prompt that nobody sees. A
    tracker that is not installed ends the run at its start.

    Names and packages are those of transformers (ftcheck/tables/trackers.json, dated). For wandb, a key in
    WANDB_API_KEY or ~/.netrc counts, as does WANDB_MODE set to offline or disabled; the key is not read.
    """
    stated = job.training.report_to
    named = [stated] if isinstance(stated, str) else list(stated)
    table: Mapping[str, Any] = tables.load("trackers")["packages"]
    installed = sorted(name for name in table if table[name] and _is_installed(packages, table[name]))
    wanted = installed if "all" in named else [name for name in named if name != "none"]
    if not wanted:
        yield Measurement("trackers", "none")
        yield Summary("no tracker")
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
            f"transformers has no tracker '{name}'{hint}", at=at, fix=f"use one of {', '.join(table)}"
        )
    elif table[name] and not _is_installed(packages, table[name]):
        fix = f"pip install {table[name][0]}, or remove {name} from training.report_to"
        why = "The run ends at its start, after the model has been loaded."
        yield Finding(f"{name} is not installed", at=at, fix=fix, change=without, why=why)
    elif name == "wandb" and environment.wandb is None:
        yield Finding(
            "wandb has no API key on this machine and would wait for a login",
            at=at,
            fix="export WANDB_API_KEY or WANDB_MODE=offline where training runs, or set report_to: none",
            change=without,
        )
