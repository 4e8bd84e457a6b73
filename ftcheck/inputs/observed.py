"""Records that tell what is read of them: a job as a loader or a rule sees it.

An observed record is of the same class as the record itself, equal to it and hashed like it; reading a field
tells which field it was and what it held. So what was worked out of one job holds for every other job in
which the same fields hold the same values: see `traces`.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

from ftcheck.records import Location
from ftcheck.settings import Job

Cell = tuple[str, str]
"""What was read: a kind (`value`, `class`, `states`, `placed`, `at`, `input`, `digest`, `policy`), a name."""
Tell = Callable[[Cell, Any], None]
Record = TypeVar("Record")
PLACES = "places"
get, put = object.__getattribute__, object.__setattr__


def observed(record: Record, tell: Tell, path: str = "") -> Record:
    """A record, its fields at `path` of the job, that tells of each field that is read what it holds."""
    made: Record = object.__new__(_class_of(cast(Hashable, type(record))))
    for name, value in (("_real", record), ("_tell", tell), ("_path", path)):
        put(made, name, value)
    return made


def plain(value: Any) -> Any:
    """The record itself in the place of an observed one, of which all is read thereby; else the value."""
    return _whole(value) if _is_observed(value) else value


def place_key(place: Location | None) -> str | None:
    """The setting that a place of an observed job stands for; None for any other place."""
    return get(place, "_path")[1:] if _is_observed(place) and get(place, "_path")[:1] == "@" else None


def read(job: Job, cell: Cell) -> Any:
    """What a job holds in a cell of kind `value`, `class`, `states` or `at`."""
    kind, name = cell
    if kind == "placed":
        return name in job.places
    if kind == "states":
        return job.states(name)
    if kind == "at":
        return job.at(name)
    value: Any = job
    for part in name.split(".") if name else ():
        value = getattr(value, part)
    return type(value) if kind == "class" else value


def _is_observed(value: Any) -> bool:
    return hasattr(type(value), "_observed")


def _whole(record: Any) -> Any:
    real, tell, path = (get(record, name) for name in ("_real", "_tell", "_path"))
    tell(("at", path[1:]) if path[:1] == "@" else ("value", path), real)
    return real


def _seen(value: Any, tell: Tell, path: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        tell(("class", path), type(value))
        return observed(value, tell, path)
    tell(("value", path), value)
    return value


class ToldPlaces(Mapping[str, Location]):
    """The places of a job's settings; which of them the policy states is told one by one."""

    def __init__(self, real: Mapping[str, Location], tell: Tell) -> None:
        """`real` are the places themselves."""
        self._real, self._tell = real, tell

    def __contains__(self, key: object) -> bool:
        """Whether a setting is stated."""
        self._tell(("placed", str(key)), key in self._real)
        return key in self._real

    def __getitem__(self, key: str) -> Location:
        """Where a setting is stated."""
        if key not in self:
            raise KeyError(key)
        return self._whole()[key]

    def __iter__(self) -> Iterator[str]:
        """All settings that are stated."""
        return iter(self._whole())

    def __len__(self) -> int:
        """How many are stated."""
        return len(self._whole())

    def _whole(self) -> Mapping[str, Location]:
        self._tell(("value", PLACES), self._real)
        return self._real


@cache
def _class_of(kind: type[Any]) -> type[Any]:
    """A class whose instances stand for those of a class of records."""
    names = frozenset(one.name for one in fields(kind))

    def attribute(self: Any, name: str) -> Any:
        if name == "__class__":
            return kind
        if name in names:
            if get(self, "_path")[:1] == "@":
                return getattr(_whole(self), name)
            path = f"{get(self, '_path')}.{name}".lstrip(".")
            value, tell = getattr(get(self, "_real"), name), get(self, "_tell")
            return ToldPlaces(value, tell) if path == PLACES else _seen(value, tell, path)
        return get(self, name)

    body: dict[str, Any] = {
        "__slots__": ("_real", "_tell", "_path"),
        "_observed": True,
        "__getattribute__": attribute,
        "__eq__": lambda self, other: _whole(self) == plain(other),
        "__hash__": lambda self: hash(_whole(self)),
        "__repr__": lambda self: repr(_whole(self)),
        "__reduce_ex__": lambda self, protocol: _whole(self).__reduce_ex__(protocol),
    }
    return type(kind.__name__, (kind,), body | (_JOB if issubclass(kind, Job) else {}))


def _at(self: Any, key: str) -> Location:
    place: Location = get(self, "_real").at(key)
    return observed(place, get(self, "_tell"), f"@{key}")


def _states(self: Any, key: str) -> bool:
    found: bool = get(self, "_real").states(key)
    get(self, "_tell")(("states", key), found)
    return found


_JOB: dict[str, Any] = {"at": _at, "states": _states, "label": property(lambda self: get(self, "_real").name)}
"""What a job tells by itself; of its label nothing, for nothing that is worked out depends on it."""
