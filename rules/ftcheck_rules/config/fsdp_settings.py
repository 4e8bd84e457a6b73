"""What transformers and accelerate take of `training.fsdp` and `fsdp_config`, and what they refuse."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import Finding, Job, Severity, tables
from ftcheck.policy.messages import did_you_mean
from ftcheck_rules.config.stated_json import StatedJson, read

VERSION = 2
"""The version of FSDP that transformers takes where none is stated."""


def fsdp_findings(job: Job) -> Iterator[Finding]:
    """Settings of FSDP that stop the start, or that nothing reads."""
    config = read(job, "fsdp_config", "FSDP") if job.training.extra.get("fsdp_config") else None
    if isinstance(config, Finding):
        yield config
        return
    table = tables.load("fsdp_settings")
    version = _key(config, "version")[1] if config is not None else None
    version = VERSION if version is None else version
    yield from _words(job, version, table)
    if config is not None:
        yield from _values(config, version, table)
        if job.imported is None:  # another framework has keys of its own
            yield from _unread(config, table)


def _words(job: Job, version: Any, table: Mapping[str, Any]) -> Iterator[Finding]:
    """The words that transformers still takes in the place of `true`."""
    stated = job.training.extra.get("fsdp")
    words = stated.split() if isinstance(stated, str) else stated if isinstance(stated, list) else []
    older = table["words_of_version_1"]
    known = [*table["words"], *(older if version == 1 else ())]
    for word in (str(one) for one in words):
        if word.lower() not in known and word.lower() not in ("true", "false"):
            reason = " is for FSDP1 alone" if word in older else f" is unknown{did_you_mean(word, known)}"
            yield Finding(
                f"fsdp: '{word}'{reason}: transformers refuses to start",
                at=job.at("training.fsdp"),
                fix="set fsdp: true, and all else in fsdp_config",
            )


def _values(config: StatedJson, version: Any, table: Mapping[str, Any]) -> Iterator[Finding]:
    allowed = {
        "version": table["versions"],
        "auto_wrap_policy": table["auto_wrap_policies"],
        "state_dict_type": table["state_dict_types"].get(str(version)),
    }
    for name, values in allowed.items():
        key, stated = _key(config, name)
        if stated is None or values is None or stated in values or str(stated).upper() in map(str, values):
            continue
        listed = ", ".join(map(str, values))
        yield Finding(
            f"fsdp_config's {key} is {json.dumps(stated)}: it can be {listed}",
            at=config.at(key),
            fix=f"set {key} to one of: {listed}",
        )


def _unread(config: StatedJson, table: Mapping[str, Any]) -> Iterator[Finding]:
    for key in config.config:
        name = str(key).removeprefix("fsdp_")
        if name not in table["keys"]:
            yield Finding(
                f"fsdp_config's {key} is unknown, and transformers leaves it unread"
                f"{did_you_mean(name, table['keys'])}",
                Severity.WARNING,
                at=config.at(str(key)),
                fix=f"remove {key}, or correct its name",
            )


def _key(config: StatedJson, name: str) -> tuple[str, Any]:
    """A key as it is written, with `fsdp_` before it or without, and its value."""
    prefixed = f"fsdp_{name}"
    return (prefixed, config.config[prefixed]) if prefixed in config.config else (name, config.get(name))
