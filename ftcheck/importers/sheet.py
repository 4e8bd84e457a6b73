"""The work sheet of one import: which keys of a file are in which list, and what the policy is given.

An importer takes keys off the sheet one by one; what it leaves is looked up in the framework's table
(`ftcheck/tables/importers/`). So no key is in two lists, and none is in none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ftcheck import tables
from ftcheck.importers.records import IDS, MEMORY, NAMES, Default, Imported, Mapped, NotMapped, WithoutEffect
from ftcheck.policy import table
from ftcheck.policy.extra_keys import kind_at, members, section_of
from ftcheck.policy.messages import did_you_mean
from ftcheck.policy.nodes import Node, nested, plain, planted
from ftcheck.policy.nodes import merge as laid
from ftcheck.records import Location
from ftcheck.settings import JobSettings

YES = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
ABSENT = "the key is null, which is the same as absent"
TEMPLATE = "model.chat_template"
OFF: tuple[Any, ...] = (None, False, 0, "", [], {})
UNSET: Any = object()
NEITHER = frozenset(
    {
        "output_dir",
        "report_to",
        "run_name",
        "hub_model_id",
        "hub_token",
        "push_to_hub",
        "logging_steps",
        "logging_dir",
        "save_steps",
        "save_strategy",
        "seed",
        "learning_rate",
        "num_train_epochs",
        "max_steps",
        "warmup_steps",
        "weight_decay",
        "token",
    }
)
"""Arguments that change neither ids nor memory."""


class Computed(str):
    """A value that a script computes, as it is written there: nobody knows it before the script runs."""


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as it was read: its tree, and where it lies.

    `folder` is the folder in which the framework is started: paths inside the file begin there.
    """

    file: Path
    shown: str
    tree: Node
    folder: Path


@dataclass
class Sheet:
    """Keys that no list has yet (`left`), the lists, and the policy's keys with their nodes (`made`)."""

    framework: str
    source: Source
    facts: Mapping[str, Any]
    left: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Node] = field(default_factory=dict)
    mapped: list[Mapped] = field(default_factory=list)
    defaults: list[Default] = field(default_factory=list)
    without_effect: list[WithoutEffect] = field(default_factory=list)
    not_mapped: list[NotMapped] = field(default_factory=list)
    made: dict[str, Node] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """All keys are left at the beginning."""
        self.left = {key: node for key, node in leaves(self.source.tree) if not key.startswith("@")}
        self.keys = dict(self.left)
        self.files = {self.source.shown: str(self.source.file), **self.files}

    @property
    def name(self) -> str:
        """The framework as it writes itself."""
        return NAMES[self.framework]

    # --- looking ---

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value of a key or of a section; `default` where the file has none, or null."""
        node = self.node(key)
        value = plain(node) if node is not None else None
        return default if value is None else value

    def node(self, key: str) -> Node | None:
        """The node of a key or of a section."""
        if key in self.keys:
            return self.keys[key]
        node: Node | None = self.source.tree
        for step in key.split("."):
            if node is None:
                return None
            if isinstance(node.value, tuple):
                node = node.value[int(step)] if step.isdecimal() and int(step) < len(node.value) else None
            else:
                node = node.items.get(step)
        return node

    def at(self, key: str) -> Location:
        """Where a key stands; the file itself for one that it has not."""
        node = self.node(key)
        if node is None:
            return Location(self.source.shown, yaml_path=f"{key} ({self.name}'s default)")
        place = node.key or node.at
        return Location(place.path, place.line, place.column, key)

    def below(self, key: str) -> list[str]:
        """The keys of a section that no list has yet, itself included."""
        return [one for one in self.left if one == key or one.startswith(f"{key}.")]

    def replace(self, key: str, node: Node) -> None:
        """Another value for a key, where the framework reads one: a reference that was followed."""
        self.left[key] = self.keys[key] = node

    # --- the three lists ---

    def state(self, to: str, value: Any, key: str) -> None:
        """Give the policy a value that comes from a key, in whatever list the key is."""
        self.made[to] = self._node(to, value, key)

    def map(self, key: str, *to: str, value: Any = UNSET, note: str | None = None) -> None:
        """A key that states keys of the policy, the first with `value` (default: the file's own)."""
        taken = self._take(key)
        if taken is None:
            return
        said = plain(taken)
        if to and to[0] not in self.made:
            self.state(to[0], said if value is UNSET else value, key)
        self.mapped.append(Mapped(key, self.at(key), said, to, note))

    def default(self, key: str, to: str, value: Any, note: str | None = None) -> None:
        """The framework's own default, for a key that the file does not have (or leaves null)."""
        waiting = key in self.left and self.left[key].value is not None
        refused = any(one.key == key for one in self.not_mapped)
        if to not in self.made and not waiting and not refused:
            at = Location(self.source.shown, yaml_path=f"{key} ({self.name}'s default)")
            self.made[to] = planted(value, at)
            self.defaults.append(Default(key, to, value, note))

    def ignore(self, key: str, why: str) -> None:
        """A key (or all that is left of a section) without effect on what is checked."""
        for one in self.below(key):
            self._take(one)
            self.without_effect.append(WithoutEffect(one, self.at(one), why))

    def refuse(
        self, key: str, why: str, *changes: str, known: bool = True, stands: str | None = None
    ) -> None:
        """A key (or all that is left of a section) that the policy cannot say.

        `stands` is the policy's key that says it in another way, if it is stated.
        """
        for one in self.below(key):
            node = self._take(one)
            value = plain(node) if node is not None else None
            self.not_mapped.append(NotMapped(one, self.at(one), value, why, changes, known, stands))

    def missing(self, key: str, why: str, *changes: str, at: Location | None = None) -> None:
        """Something that is not mapped and stands in another file, or in none: it takes no key off."""
        self.not_mapped.append(NotMapped(key, at or self.at(key), None, why, changes))

    def unresolved(self) -> None:
        """Values that another program would have to put together: nobody knows them from the file alone."""
        for key, node in list(self.left.items()):
            text = node.value if isinstance(node.value, str) else ""
            if isinstance(node.value, Computed) or not re.search(r"\$\{|\{\{|\{%", text):
                continue
            if "${" in text:
                self.refuse(key, f"an interpolation that ftcheck does not compute: {text[:60]}", IDS, MEMORY)
            elif not re.search("template|prompt|format|message", key):
                self.refuse(key, f"Jinja, which {self.name} does not render: {text[:60]}", IDS, MEMORY)

    # --- the table ---

    def rest(self) -> None:
        """Put every key that is left into its list by the table, then state the table's defaults."""
        for key in list(self.left):
            if key in self.left:
                self._by_table(key)
        for key, spec in self.facts.get("mapped", {}).items():
            if "default" in spec:
                self.default(key, spec["to"], spec["default"], spec.get("default_note"))

    def computed(self, section: str = "") -> None:
        """Values that a script computes are not mapped: what they would state is not known."""
        for key, node in list(self.left.items()):
            if isinstance(node.value, Computed) and key.startswith(section):
                changes = () if key.rpartition(".")[2] in NEITHER else (IDS, MEMORY)
                self.refuse(key, f"computed by the script ({node.value}): ftcheck runs nothing", *changes)

    def _by_table(self, key: str) -> None:
        node = self.left[key]
        name = self.facts.get("renamed", {}).get(key, key)
        spec = self.facts.get("mapped", {}).get(name)
        if node.value is None:
            self.ignore(key, ABSENT)
        elif spec is not None:
            self._by_spec(key, spec)
        elif not (self._without_effect(key) or self._not_mapped(key) or self._passed(key, name)):
            self._unknown(key)

    def _by_spec(self, key: str, spec: Mapping[str, Any]) -> None:
        value = plain(self.left[key])
        values = spec.get("values")
        if values is None:
            self.map(key, spec["to"], note=spec.get("note"))
        elif str(value).lower() in values:
            if values[str(value).lower()] is None:
                self.ignore(key, "switched off")
            self.map(key, spec["to"], value=values[str(value).lower()], note=spec.get("note"))
        else:
            self.refuse(key, spec["else"], *spec.get("changes", ()))

    def _without_effect(self, key: str) -> bool:
        for why, patterns in self.facts.get("without_effect", {}).items():
            if matches(key, patterns):
                self.ignore(key, why)
                return True
        return False

    def _not_mapped(self, key: str) -> bool:
        for group in self.facts.get("not_mapped", ()):
            if matches(key, group["keys"]):
                if plain(self.left[key]) in OFF and not group.get("always"):
                    self.ignore(key, "switched off")
                else:
                    self.refuse(key, group["why"], *group.get("changes", ()))
                return True
        return False

    def _passed(self, key: str, name: str) -> bool:
        """A key that is one of trl.SFTConfig by name: those of nested arguments by their first part."""
        prefix = self.facts.get("passes")
        first = name.partition(".")[0]
        if prefix is None or not is_training(first):
            return False
        self.map(key, f"{prefix}.{name}")
        return True

    def _unknown(self, key: str) -> None:
        known = [*self.facts.get("mapped", {}), *self.facts.get("renamed", {})]
        known += [one for group in self.facts.get("not_mapped", ()) for one in group["keys"]]
        meant = did_you_mean(key, [one for one in known if "*" not in one])
        said = self.facts.get("unknown", "ftcheck does not know what it does with it")
        version = self.facts["version"]
        self.refuse(key, f"not a key of {self.name} {version}: {said}{meant}", known=False)

    # --- the result ---

    def tree(self) -> Node:
        """The layer of a job: all that the file states, with its places."""
        at = Location(self.source.shown)
        whole = Node({}, at, at)
        for to, node in self.made.items():
            whole = laid(whole, nested(to.split("."), node))
        return whole

    def imported(self) -> Imported:
        """The lists as a record."""
        assert not self.left, f"keys in no list: {list(self.left)}"
        return Imported(
            framework=self.framework,
            version=self.facts["version"],
            source=self.facts["source"],
            path=self.source.shown,
            folder=str(self.source.folder),
            mapped=tuple(self.mapped),
            defaults=tuple(self.defaults),
            without_effect=tuple(self.without_effect),
            not_mapped=tuple(self.not_mapped),
            files=self.files,
            stated={to: plain(node) for to, node in self.made.items()},
            could_state=frozenset(_targets(self.facts)),
            unknown=frozenset(self._unknown_targets()),
        )

    def _unknown_targets(self) -> Iterator[str]:
        """What the keys that are not mapped would have stated."""
        known = self.facts.get("mapped", {})
        for one in self.not_mapped:
            if one.key in known and known[one.key]["to"] not in self.made:
                yield known[one.key]["to"]
            if one.stands is not None:
                yield one.stands

    def _take(self, key: str) -> Node | None:
        """Take a key off the sheet; a section goes as a whole."""
        if key in self.left:
            return self.left.pop(key)
        taken = self.below(key)
        for one in taken:
            del self.left[one]
        return self.node(key) if taken else None

    def _node(self, to: str, value: Any, key: str) -> Node:
        node = self.node(key)
        place = self.at(key)
        if node is not None and plain(node) == value and type(plain(node)) is type(value):
            return _fitted(to, replace(node, key=node.key or place))
        return _fitted(to, planted(value, place))


def is_positive(value: object) -> bool:
    """Whether a value is a number above 0, and not true."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def leaves(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every key of a tree by its dotted path: scalars, lists of scalars, and sections that are empty."""
    inside = list(_children(node))
    if not inside:
        if prefix:
            yield prefix, node
        return
    for step, child in inside:
        yield from leaves(child, f"{prefix}.{step}" if prefix else str(step))


def _children(node: Node) -> Sequence[tuple[str | int, Node]]:
    if isinstance(node.value, Mapping):
        return list(node.value.items())
    if isinstance(node.value, tuple) and any(isinstance(one.value, Mapping) for one in node.value):
        return list(enumerate(node.value))
    return []


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Whether a key is one of the names or patterns, or stands below one of the names."""
    return any(fnmatchcase(key, one) or key.startswith(f"{one}.") for one in patterns)


def facts(name: str) -> Mapping[str, Any]:
    """The table of a framework (`axolotl`, `llama_factory`)."""
    return tables.load(f"importers/{name}")


def is_training(name: str) -> bool:
    """Whether a name is an argument of trl.SFTConfig that stands under `training`."""
    from ftcheck.policy.extra_keys import fields
    from ftcheck.settings import Training

    known = table.section(Training)
    return name in fields(Training) or (known is not None and known.takes(name))


def _targets(known: Mapping[str, Any]) -> Iterator[str]:
    for spec in known.get("mapped", {}).values():
        yield spec["to"]
    yield from known.get("states", ())


def _fitted(to: str, node: Node) -> Node:
    """The value in the type of the policy's key, where the framework's reader is laxer: '2e-5', `on`, 1.0."""
    kinds = _kinds(to)
    value = node.value
    if isinstance(value, str):
        node = replace(node, value=_of_text(kinds, value))
    elif value is False and any(get_origin(one) is Literal and "no" in get_args(one) for one in kinds):
        node = replace(node, value="no")
    elif isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        node = replace(node, value=int(value))
    return node


def _of_text(kinds: Sequence[Any], text: str) -> Any:
    if str in kinds or any(get_origin(one) is Literal and text in get_args(one) for one in kinds):
        return text
    if bool in kinds and text.lower() in YES:
        return YES[text.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _kinds(to: str) -> Sequence[Any]:
    steps = to.split(".")
    kind = kind_at(JobSettings, tuple(steps))
    if kind is None:
        owner = section_of(kind_at(JobSettings, tuple(steps[:-1])))
        known = table.section(owner) if owner is not None else None
        spec = known.fields.get(steps[-1]) if known is not None else None
        kind = table.kind_of(spec) if spec is not None else None
    return members(kind) if kind is not None else ()
