"""Imports run one way: no circle, and no arrow from a lower floor to a higher one."""

import ast

import pytest

from tests.imports import Arrow, arrows, circles, modules

FLOORS = (
    # ground: words, files, numbers; nothing of ftcheck's own flow
    (
        "ftcheck.exit_codes",
        "ftcheck.importers.records",
        "ftcheck.errors",
        "ftcheck.atomic",
        "ftcheck.records",
        "ftcheck.sampling",
        "ftcheck.durations",
        "ftcheck.digest",
        "ftcheck.distribution",
        "ftcheck.paths",
        "ftcheck.plurals",
        "ftcheck.cache",
        "ftcheck.tables",
        "ftcheck.offline",
        "ftcheck.ranks",
        "ftcheck.label_digest",
        "ftcheck.templates",
        "ftcheck.settings",
        "ftcheck.field_metadata",
        "ftcheck.inputs.bounded",  # reads files: on every floor there is one to be read
        "ftcheck.inputs.machine_memory",
        "ftcheck.inputs.remote_files",
        "ftcheck.inputs.work_folders",
        "ftcheck.attest.signers",  # what names a signer in a policy
        "ftcheck.gate.ticket",  # a record: what a trainer cannot be called without
        "ftcheck.training.reserved_arguments",  # a table
    ),
    ("ftcheck.packing", "ftcheck.report"),
    ("ftcheck.inputs", "ftcheck.dedup", "ftcheck.lock", "ftcheck.ledger"),
    ("ftcheck.extension",),
    ("ftcheck.policy", "ftcheck.importers"),
    ("ftcheck.runner", "ftcheck.gate", "ftcheck.attest", "ftcheck.estimate"),
    ("ftcheck.fix", "ftcheck.planning", "ftcheck.training"),
    ("ftcheck.testing",),
    ("ftcheck", "ftcheck.cli", "ftcheck.__main__"),
    ("ftcheck_rules", "ftcheck_plugins", "ftcheck_trainers"),
)
"""Each floor imports its own rooms and those of the floors before it."""

PLUGINS = FLOORS[-1]
LOADERS_ONLY = frozenset(
    {"transformers", "tokenizers", "datasets", "gigatoken", "safetensors", "pyarrow.parquet", "pyarrow.csv"}
)
"""Libraries that open tokenizers, data and models: loaders use them, and the trainer that trains."""
TRACE = "ftcheck.estimate.memory.trace"
"""Builds a model of tensors without memory from its shape: it opens nothing."""
SOURCES = modules()
ARROWS = arrows(SOURCES)


def floor(module: str) -> int:
    """The floor of a module: that of the longest name that it begins with."""
    rooms = {room: level for level, names in enumerate(FLOORS) for room in names}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in rooms and (name != "ftcheck" or module == "ftcheck"):
            return rooms[name]
    raise AssertionError(f"{module} has no floor: name it in FLOORS")


def forbidden(arrow: Arrow) -> str | None:
    """Why an import must not be; None for one that may."""
    own, other = (name.partition(".")[0] for name in (arrow.source, arrow.target))
    if own in PLUGINS and other in PLUGINS and own != other:
        return f"{arrow}: a plugin imports ftcheck only"
    if floor(arrow.source) < floor(arrow.target):
        return f"{arrow}: that runs upwards"
    return None


def wrong(found: list[Arrow]) -> list[str]:
    """Circles and forbidden arrows, each named."""
    said = [why for arrow in found if (why := forbidden(arrow)) is not None]
    return said + ["in a circle: " + "; ".join(map(str, circle)) for circle in circles(found)]


def test_imports_run_one_way() -> None:
    assert wrong(ARROWS) == []


@pytest.mark.parametrize(
    ("module", "planted", "said"),
    [
        ("ftcheck.records", "from ftcheck.policy.plan import of_job", "ftcheck.policy.plan"),
        (
            "ftcheck_rules.data.data",
            "from ftcheck_plugins.reading.files import Source",
            "imports ftcheck only",
        ),
        ("ftcheck.policy.nodes", "from ftcheck.policy.reading import draft", "in a circle"),
        ("ftcheck.gate.decide", "def f():\n    from ftcheck.fix import search", "that runs upwards"),
    ],
)
def test_a_planted_import_is_named_with_its_two_files(module: str, planted: str, said: str) -> None:
    found = wrong(arrows({**SOURCES, module: f"{SOURCES[module]}\n{planted}\n"}))

    assert any(said in one and module in one for one in found)


def test_a_circle_for_annotations_is_a_circle_too() -> None:
    planted = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import one\n"

    [circle] = circles(arrows({"a": "from b import two", "b": planted}))

    assert sorted(map(str, circle)) == ["a imports two from b", "b imports one from a"]


def test_libraries_that_open_things_are_imported_by_loaders_and_trainers_only() -> None:
    for module, text in SOURCES.items():
        if module.startswith(("ftcheck_plugins.", "ftcheck_trainers.")) or module == TRACE:
            continue
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            opened = {name for name in names if LOADERS_ONLY & {name, name.partition(".")[0]}}
            assert not opened, f"{module} imports {', '.join(opened)}: that is a loader's work"
