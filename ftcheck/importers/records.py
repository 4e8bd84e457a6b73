"""What was read of another framework's configuration: records that a job carries and rules look at.

Every key of the file is in exactly one of three lists: mapped, without effect on what is checked, not mapped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcheck.records import Location

IDS = "ids"
"""A key that changes token ids, labels, or which rows are trained on."""
MEMORY = "memory"
"""A key that changes the memory of training."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A key with the keys of the policy that it states (`training.max_length`).

    `value` is what the file says; `note` is what the framework does otherwise than TRL.
    """

    key: str
    at: Location
    value: Any
    to: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Default:
    """A default of the framework's own, for a key that the file does not have."""

    key: str
    to: str
    value: Any
    note: str | None = None


@dataclass(frozen=True, slots=True)
class WithoutEffect:
    """A key that changes nothing that is checked, and why."""

    key: str
    at: Location
    why: str


@dataclass(frozen=True, slots=True)
class NotMapped:
    """A key that the policy cannot say, and why. `changes` are of `ids` and `memory`; often neither.

    `known` is false for a key that the framework does not have. A policy that states `stands` says it in
    another way: `model.chat_template` for a template that stands in the file.
    """

    key: str
    at: Location
    value: Any
    why: str
    changes: tuple[str, ...] = ()
    known: bool = True
    stands: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of the policy that is not that of the file. `key` is the file's, None where it has none."""

    to: str
    policy: Any
    framework: Any
    key: str | None
    at: Location
    policy_at: Location
    stated: bool = True


@dataclass(frozen=True, slots=True)
class Imported:
    """One configuration as it was imported. `version` is the framework's that the facts are from.

    Paths inside the file are relative to `folder`, where the framework is started. `files` are the file and
    those that it leads to (dataset_info.json), by their names in messages. `stated` are the policy's keys
    with the values that the file gives them, defaults included; `could_state` are those that some key of the
    framework states. `unknown` are those that a key of the file states whose value is not mapped: a policy
    that states one stands in for the file.
    """

    framework: str
    version: str
    source: str
    path: str
    folder: str = ""
    mapped: tuple[Mapped, ...] = ()
    defaults: tuple[Default, ...] = ()
    without_effect: tuple[WithoutEffect, ...] = ()
    not_mapped: tuple[NotMapped, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    could_state: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    differences: tuple[Difference, ...] = ()

    @property
    def name(self) -> str:
        """The framework as it writes itself."""
        return NAMES[self.framework]

    def marked(self, change: str) -> tuple[NotMapped, ...]:
        """The keys that are not mapped and change `ids` or `memory`."""
        return tuple(one for one in self.not_mapped if change in one.changes)


NAMES: Mapping[str, str] = {
    "axolotl": "axolotl",
    "llama-factory": "LLaMA-Factory",
    "trl": "TRL",
    "alignment-handbook": "alignment-handbook",
    "torchtune": "torchtune",
    "unsloth": "unsloth",
    "litgpt": "LitGPT",
    "nemo-automodel": "NeMo AutoModel",
    "accelerate": "accelerate",
    "deepspeed": "DeepSpeed",
}
FRAMEWORKS = tuple(NAMES)[:8]
"""The frameworks that `from:` takes."""
