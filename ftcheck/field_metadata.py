"""What the type of a setting does not say, as metadata on its field: `Annotated[int, ONE_UP, Mark.PREPARED]`.

Validation, the JSON Schema, absolute paths, the keys of cached preparations and the trainer's arguments are
derived from it, so that a new setting is one edit. Nothing heavy is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, auto
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Limit:
    """A range of numbers; of a pair of numbers both lie in it, and the first is not above the second."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range in words."""
        said = [
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        ]
        return " and ".join(f"{word} {number:g}" for word, number in said if number is not None)

    def schema(self) -> dict[str, float]:
        """The range in JSON Schema."""
        keys = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        numbers = (self.at_least, self.above, self.at_most, self.below)
        return {key: number for key, number in zip(keys, numbers, strict=True) if number is not None}


ONE_UP = Limit(at_least=1)
ZERO_UP = Limit(at_least=0)
POSITIVE = Limit(above=0)


class Form(Enum):
    """The form of a text."""

    DURATION = auto()
    """`90m`, `24h`, `7d`."""
    DURATION_OR_TIME = auto()
    """A duration, or `07:00`, or `2026-11-23T07:00`."""
    LAST_DAY = auto()
    """A date that has not passed (UTC)."""
    URL = auto()
    """The URL of an HTTP API, without a user, a password or a query."""


class PathKind(Enum):
    """What a path names. It is relative to the policy file that states it."""

    FILE = auto()
    """A file or a folder."""
    MODEL = auto()
    """A folder, or the hub's name of a model or tokenizer."""
    DATA = auto()
    """A file, a glob, or the hub's name of a data set."""
    SIGNER = auto()
    """A file with a public key, or an identity: `issuer#subject`, or an email address."""


class Mark(Enum):
    """A property that a field has or has not."""

    NOT_EMPTY = auto()
    """A text that says something."""
    OUTPUT = auto()
    """A path that the job writes to; every other one is read."""
    AFTER_TOKENISING = auto()
    """A training argument that rendering, tokenising and masking the rows do not look at: it does not change
    their ids. One without this mark is in the key of a cached preparation: the safe side."""
    PREPARED = auto()
    """A training argument that preparation has applied; TRL must not apply it to rows of ids and labels."""
    OWN = auto()
    """A training argument of ftcheck's own: the libraries do not know it."""
    RENAMED = auto()
    """A training argument that goes to the library under the name that the installed version has for it."""


@dataclass(frozen=True, slots=True)
class AlsoCalled:
    """What other trainers call the key: a policy that uses such a name is told the right one."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LibraryKeys:
    """Holds the library's other keys, which a policy writes beside the section's own.

    `section` names them in `tables/trainer_arguments.json`; those of `paths` may be the path of a file.
    """

    section: str
    paths: tuple[str, ...] = ()


def key_of(name: str) -> str:
    """The key of a policy that a field holds: `from_` is `from`, which is a word of Python's."""
    return name.removesuffix("_")


def metadata(owner: Any) -> Mapping[str, tuple[Any, ...]]:
    """The metadata of each field of a dataclass, by its name: often none. Of another class nothing."""
    return _metadata(owner)


@cache
def _metadata(owner: Any) -> Mapping[str, tuple[Any, ...]]:
    if not is_dataclass(owner):
        return {}
    hints = get_type_hints(owner, include_extras=True)
    return {
        key_of(one.name): getattr(hints[one.name], "__metadata__", ()) for one in fields(owner) if one.init
    }


def having(owner: Any, kind: type[Kind]) -> Mapping[str, Kind]:
    """The fields of a dataclass that have metadata of a kind, with it: `having(Training, Limit)`."""
    hashable: Any = kind
    return cast("Mapping[str, Kind]", _having(owner, hashable))


@cache
def _having(owner: Any, kind: Any) -> Mapping[str, Any]:
    parts = _metadata(owner).items()
    found = {name: next((one for one in of if isinstance(one, kind)), None) for name, of in parts}
    return {name: one for name, one in found.items() if one is not None}


def marked(owner: type[Any], mark: Mark) -> frozenset[str]:
    """The names of the fields that have a mark."""
    return frozenset(name for name, parts in metadata(owner).items() if mark in parts)
