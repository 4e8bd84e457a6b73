"""Reads Python scripts, notebooks and shell commands: with `ast` and `shlex` only, nothing is run.

The tree of a script has a section for each call that sets something (`SFTConfig`, `load_dataset`); a value
that is not written as a literal is a `Computed`. Names that are given one literal, once, stand for it.
"""

import ast
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftcheck.errors import Problem
from ftcheck.importers.documents import Read
from ftcheck.importers.sheet import Computed
from ftcheck.inputs import bounded
from ftcheck.policy import document
from ftcheck.policy.nodes import Node, Scalar, planted, problem
from ftcheck.records import Location

FIRST = {
    "load_dataset": "path",
    "from_pretrained": "pretrained_model_name_or_path",
    "get_peft_model": "model",
    "train_on_responses_only": "trainer",
}
"""What the first argument without a name is."""
CALLS = frozenset({*FIRST, "SFTTrainer", "UnslothTrainer", "TrainingArguments", "UnslothTrainingArguments"})
CONFIG = re.compile(
    r"(SFT|Lora|BitsAndBytes|GRPO|DPO|KTO|ORPO|CPO|RLOO|PPO|Reward|GKD|GOLD|XPO|NashMD|OnlineDPO)Config"
)
PARSERS = frozenset({"TrlParser", "HfArgumentParser"})
CHANGING = frozenset(
    {
        "map",
        "filter",
        "select",
        "remove_columns",
        "rename_column",
        "rename_columns",
        "train_test_split",
        "shuffle",
        "select_columns",
        "cast_column",
    }
)
"""Methods of a data set that change its rows."""
NOTHING = "calls nothing that ftcheck reads: SFTConfig, TrainingArguments, LoraConfig, load_dataset, ..."
COMMANDS = {"llamafactory-cli": "llama-factory", "trl": "trl"}
MAX_CELLS = 10_000
PYTHON_CELLS = ("%%capture", "%%time")
"""Commands of IPython under which a cell is Python all the same."""
SHOWN = 80
UNREAD = "unread cell"
MAX_BYTES = 32 << 20
"""Notebooks hold their outputs."""


def read(file: Path, shown: str) -> Read:
    """The tree of a script, and what is wrong with it."""
    at = Location(path=shown)
    try:
        text = bounded.read(file, MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return None, (problem(f"cannot be read: {bounded.told(error)}", at),)
    if file.suffix == ".sh":
        return _shell(text, shown)
    lines: Mapping[int, int | None] = {}
    dropped: list[int | None] = []
    if file.suffix == ".ipynb":
        found = _cells(text)
        if found is None:
            return None, (problem("is not a notebook: it has no cells", at),)
        text, lines, dropped = found
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        place = Location(shown, lines.get(line or 0, line), None)
        return None, (problem(f"is not Python: {getattr(error, 'msg', error)}", place),)
    return _Script(shown, lines, dropped).tree(module)


# --- notebooks ---


def _cells(text: str) -> tuple[str, Mapping[int, int | None], list[int | None]] | None:
    """The code of a notebook, the line in the file of each of its lines, and where other cells begin."""
    try:
        cells = json.loads(text).get("cells")
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(cells, list) or len(cells) > MAX_CELLS:
        return None
    code: list[str] = []
    lines: dict[int, int | None] = {}
    position = 0
    dropped: list[int | None] = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", [])
        parts = list(map(str, source)) if isinstance(source, list) else str(source).splitlines(keepends=True)
        begun = len(code)
        for part in parts:
            position = max(position, text.find(json.dumps(part, ensure_ascii=False)[1:-1] or "\0", position))
            code.append(part.rstrip("\n"))
            lines[len(code)] = text.count("\n", 0, position) + 1 if isinstance(source, list) else None
        python = _python(code[begun:])
        if python is None:
            dropped.append(lines.get(begun + 1))
        code[begun:] = python or ["" for _ in code[begun:]]
    return "\n".join(code) + "\n", lines, dropped


def _python(cell: list[str]) -> list[str] | None:
    """The lines of a cell without those of IPython and of the shell; None for a cell that is no Python."""
    kept: list[str] = []
    continued = False
    for line in cell:
        command = line.lstrip().startswith(("!", "%"))
        indent = line[: len(line) - len(line.lstrip())]
        kept.append("" if continued else f"{indent}pass" if command else line)
        continued = (command or continued) and line.rstrip().endswith("\\")
    foreign = bool(cell) and cell[0].startswith("%%") and not cell[0].startswith(PYTHON_CELLS)
    if foreign:
        return ["" for _ in cell]
    return kept if _parses("\n".join(kept)) else None


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


# --- Python ---


@dataclass
class _Script:
    """What is known of a script while it is read."""

    shown: str
    lines: Mapping[int, int | None]
    dropped: list[int | None]
    names: dict[str, Scalar] = field(default_factory=dict)
    rows: set[str] = field(default_factory=set)
    sections: dict[str, Node] = field(default_factory=dict)

    def tree(self, module: ast.Module) -> Read:
        """The tree: a section per call, in the order of the script."""
        self.names = _literals(module)
        calls = [one for one in _running(module) if isinstance(one, ast.Call)]
        calls.sort(key=lambda one: (one.lineno, one.col_offset))
        self.rows = _data_sets(module)
        for call in calls:
            self._call(call)
        if not self.sections:
            return None, (problem(NOTHING, Location(self.shown)),)
        for number, line in enumerate(self.dropped, start=1):
            at = Location(self.shown, line)
            self.sections[f"{UNREAD} {number}"] = Node(Computed("not Python"), at, at)
        framework = "unsloth" if _imports(module, "unsloth") else "trl"
        at = Location(self.shown, 1, 1)
        head = {"@framework": Node(framework, at), "@script": Node(True, at)}
        return Node({**head, **self.sections}, at), ()

    def _call(self, call: ast.Call) -> None:
        name, owner = _name(call.func), _owner(call.func)
        if name in PARSERS:
            self._section(name, call, {"arguments": Computed("command line")})
        elif name == "from_pretrained" and owner is not None:
            self._arguments(f"{owner}.{name}", call)
        elif name in CALLS or (name is not None and CONFIG.fullmatch(name)):
            self._arguments(name or "", call)
        elif owner in self.rows and name in CHANGING:
            key = f"{owner}.{name}"
            self.sections.setdefault(key, Node(Computed(_source(call)), self._at(call), self._at(call)))

    def _arguments(self, section: str, call: ast.Call) -> None:
        first = FIRST.get(section.rpartition(".")[2])
        nodes: dict[str, ast.expr] = {}
        for number, one in enumerate(call.args):
            nodes[first if number == 0 and first else f"argument {number + 1}"] = one
        for keyword in call.keywords:
            nodes[keyword.arg or "**"] = keyword.value
        values = {name: self._node(name, one) for name, one in nodes.items()}
        while section in self.sections:
            section = f"{section} again"
        at = self._at(call)
        self.sections[section] = Node(values, at, at)

    def _section(self, name: str, call: ast.Call, values: Mapping[str, Scalar]) -> None:
        at = self._at(call)
        self.sections[name] = Node({key: Node(value, at, at) for key, value in values.items()}, at, at)

    def _node(self, name: str, value: ast.expr) -> Node:
        at = self._at(value)
        try:
            return planted(self._value(value), at)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return Node(Computed(_source(value)), at, at)

    def _value(self, value: ast.expr) -> object:
        """A literal, a name that stands for one, or a text put together of such. Raises `ValueError`."""
        if isinstance(value, ast.Name) and value.id in self.names:
            return self.names[value.id]
        if isinstance(value, ast.JoinedStr):
            return "".join(str(self._part(part)) for part in value.values)
        if isinstance(value, ast.Attribute) and _owner(value) == "torch":
            return value.attr
        if isinstance(value, ast.List | ast.Tuple):
            return [self._value(one) for one in value.elts]
        if isinstance(value, ast.Dict) and all(isinstance(key, ast.Constant) for key in value.keys):
            keys = [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
            return dict(zip(keys, [self._value(one) for one in value.values], strict=True))
        found = ast.literal_eval(value)
        if not isinstance(found, str | int | float | bool | None):
            raise ValueError("not a plain value")
        return found

    def _part(self, part: ast.expr) -> object:
        if isinstance(part, ast.FormattedValue):
            if part.format_spec is not None or part.conversion != -1:
                raise ValueError("formatted")
            return self._value(part.value)
        return self._value(part)

    def _at(self, node: ast.expr) -> Location:
        line = self.lines.get(node.lineno, None if self.lines else node.lineno)
        return Location(self.shown, line, node.col_offset + 1 if not self.lines else None)


def _running(module: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if False:`, which notebooks keep for later."""
    for one in ast.iter_child_nodes(module):
        if isinstance(one, ast.If) and isinstance(one.test, ast.Constant) and not one.test.value:
            for other in one.orelse:
                yield from _running(other)
            continue
        yield one
        yield from _running(one)


def _source(node: ast.expr) -> str:
    """An expression as it is written, cut short."""
    try:
        return ast.unparse(node)[:SHOWN]
    except RecursionError:
        return "nested too deeply"


def _name(func: ast.expr) -> str | None:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else None


def _owner(func: ast.expr) -> str | None:
    return func.value.id if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) else None


def _imports(module: ast.Module, package: str) -> bool:
    for one in ast.walk(module):
        names = [one.module or ""] if isinstance(one, ast.ImportFrom) else []
        names += [name.name for name in one.names] if isinstance(one, ast.Import) else []
        if any(name.partition(".")[0] == package for name in names):
            return True
    return False


def _assigned(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for one in ast.walk(module):
        if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.targets[0], ast.Name):
            yield one.targets[0].id, one.value
        elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.value is not None:
            yield one.target.id, one.value


def _literals(module: ast.Module) -> dict[str, Scalar]:
    """Names that are stored once in the whole script, and there as a plain literal."""
    stored = Counter(
        one.id for one in ast.walk(module) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    )
    arguments = {one.arg for one in ast.walk(module) if isinstance(one, ast.arg)}
    found: dict[str, Scalar] = {}
    for name, value in _assigned(module):
        once = stored[name] == 1 and name not in arguments
        if once and isinstance(value, ast.Constant) and isinstance(value.value, str | int | float | None):
            found[name] = value.value
    return found


def _data_sets(module: ast.Module) -> set[str]:
    """Names that hold what load_dataset returned, or something made of it."""
    names: set[str] = set()
    for _ in range(2):
        for name, value in _assigned(module):
            inside = [one for one in ast.walk(value) if isinstance(one, ast.Call)]
            if any(_name(one.func) == "load_dataset" or _owner(one.func) in names for one in inside):
                names.add(name)
    return names


# --- shell ---


def _shell(text: str, shown: str) -> Read:
    """The arguments of the first command that trains: `llamafactory-cli train --key value`."""
    variables: dict[str, str] = {}
    for number, line in _commands(text):
        at = Location(shown, number, 1)
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            return None, (problem(f"is not a command: {error}", at),)
        if len(words) == 1 and re.fullmatch(r"[A-Za-z_]\w*=[^$`]*", words[0]):
            name, _, value = words[0].partition("=")
            variables[name] = value
            continue
        framework = next((COMMANDS[word] for word in words[:1] if word in COMMANDS), None)
        if framework is not None:
            return _command(words, framework, variables, shown, text)
    known = ", ".join(COMMANDS)
    return None, (problem(f"starts no trainer that ftcheck reads ({known})", Location(shown)),)


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Commands with the number of their first line: lines that end in a backslash are joined."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        begun = begun if parts else number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield begun, " ".join(parts)
            parts = []
    if parts:
        yield begun, " ".join(parts)


def _command(words: list[str], framework: str, variables: Mapping[str, str], shown: str, text: str) -> Read:
    at = Location(shown, 1, 1)
    stated: dict[str, Node] = {"@framework": Node(framework, at)}
    problems: list[Problem] = []
    for number, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, given = word[2:].partition("=")
        following = words[number + 1 : number + 2]
        value = given if equals else next((one for one in following if not one.startswith("--")), "true")
        value = re.sub(
            r"\$\{?([A-Za-z_]\w*)\}?", lambda found: variables.get(found.group(1), found.group()), value
        )
        place = _place(text, word, shown)
        key = name.replace("-", "_")
        if "$" in value or "`" in value:
            stated[key] = Node(Computed(value), place, place)
            continue
        node, wrong = document.parse(value or "''", at=place)
        problems += wrong
        if node is not None:
            stated[key] = Node(node.value, place, place)
    return Node(stated, at), tuple(problems)


def _place(text: str, word: str, shown: str) -> Location:
    position = max(text.find(word), 0)
    begin = text.rfind("\n", 0, position) + 1
    return Location(shown, text.count("\n", 0, position) + 1, position - begin + 1)
