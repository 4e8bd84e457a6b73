"""The policy reader: from a YAML file to a policy and its planned checks.

    found = draft("policies/night_before.yaml", ["jobs.mapper.training.max_length=512"])
    host = make_host(found.plugins)
    policy, checks = bind(found, host)          # or PolicyError, with every problem at its place

`draft` reads files and never raises for what is in them; `bind` adds what only the plugins know and
raises everything at once. `show` prints the merged policy, `schema` is the JSON Schema of a policy file,
`init` copies a shipped policy, `make_params` builds a rule's parameters (in the worker too),
`describe_params` lists them for help texts, and `seconds` reads durations such as `max_age`.

Importing this package imports neither pydantic nor ruamel.yaml; using it does.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.extension.plugin_host import Host
    from ftcheck.extension.rules import Rule
    from ftcheck.policy.made import Made
    from ftcheck.policy.params import Parameter
    from ftcheck.policy.reading import Draft
    from ftcheck.records import Check, Stage
    from ftcheck.settings import Policy

__all__ = ["Draft", "bind", "describe_params", "draft", "init", "make_params", "schema", "seconds", "show"]


def draft(
    path: "str | Path | Made",
    overrides: Sequence[str] = (),
    *,
    presets: Path | None = None,
    today: date | None = None,
) -> "Draft":
    """Read a policy with its `--set` overrides. What is wrong is in the draft's `problems`.

    `presets` is another folder of presets than the shipped one, `today` another day (UTC) than today.
    """
    from ftcheck.policy.reading import draft as read

    return read(path, overrides, presets=presets, today=today)


def bind(draft: "Draft", host: "Host", stage: "Stage | None" = None) -> "tuple[Policy, tuple[Check, ...]]":
    """The policy and the checks of a stage (None: the policy's own). Raises `PolicyError`, all at once."""
    from ftcheck.policy.binding import bind as bound

    return bound(draft, host, stage)


def make_params(rule: "Rule", mapping: Mapping[str, Any]) -> Any:
    """A rule's parameters as its dataclass; None for a rule that takes none. Raises `PolicyError`."""
    from ftcheck.policy.params import make_params as made

    return made(rule, mapping)


def describe_params(rule: "Rule") -> "tuple[Parameter, ...]":
    """A rule's parameters for help texts: name, kind in words, default, meaning."""
    from ftcheck.policy.params import describe_params as described

    return described(rule)


def schema(host: "Host", *, draft_07: bool = False) -> dict[str, Any]:
    """The JSON Schema (2020-12, or draft-07) of a policy file, with the parameters of the host's rules."""
    from ftcheck.policy.draft_07 import as_draft_07
    from ftcheck.policy.json_schema import schema as made

    return as_draft_07(made(host)) if draft_07 else made(host)


def show(draft: "Draft", *, origin: bool = False) -> str:
    """The merged policy as YAML; with `origin` every line ends in the file and line it comes from."""
    from ftcheck.policy.show import show as shown

    return shown(draft, origin=origin)


def init(preset: str | None, folder: Path, *, presets: Path | None = None) -> list[Path]:
    """Copy a shipped policy with what it names into `folder/policies/`. Raises `UsageError`."""
    from ftcheck.policy.shipped import init as copied

    return copied(preset, folder, within=presets)


def seconds(duration: str) -> float | None:
    """The seconds of a duration such as `90m`, `24h` or `1h30m`; None if it is none."""
    from ftcheck.durations import seconds as counted

    return counted(duration)


def __getattr__(name: str) -> Any:
    """`Draft` is imported on first use."""
    if name == "Draft":
        from ftcheck.policy.reading import Draft

        return Draft
    raise AttributeError(f"module 'ftcheck.policy' has no attribute '{name}'")
