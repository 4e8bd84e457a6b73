"""Kept preparations go stale with the code that makes them: its version follows its sources."""

import ast
import hashlib
import json
from pathlib import Path

from ftcheck_plugins.preparation.version import PREPARATION_VERSION

from tests.imports import arrows, modules, reached

STARTS = ("ftcheck_plugins.preparation.preparation", "ftcheck_plugins.preparation.role_tokens")
CARRIERS = frozenset(
    {
        "ftcheck.errors",
        "ftcheck.records",
        "ftcheck.settings",
        "ftcheck.field_metadata",
        "ftcheck.paths",
        "ftcheck.cache",
        "ftcheck.inputs",
        "ftcheck.inputs.container",
        "ftcheck.inputs.loader",
        "ftcheck_plugins.preparation.version",
        # rows that are read prepared are read anew each time, and never kept
        "ftcheck.inputs.prepared_folder",
        "ftcheck_plugins.stored.first_pass",
        "ftcheck_plugins.stored.flat_rows",
        "ftcheck_plugins.stored.record_batches",
    }
)
"""What carries settings, places and errors to the preparation and back, and no ids, masks or columns that
are kept.
"""
WRITE = "python -m tests.plugins.preparation.test_version"
RECORD = Path(__file__).with_name("preparation_sources.json")


def sources() -> dict[str, str]:
    """A digest of each module that the preparation stands on, without comments, docstrings and layout."""
    texts = modules()
    standing = ({*STARTS} | reached(arrows(texts), STARTS)) - CARRIERS
    return {name: _digest(texts[name]) for name in sorted(standing)}


def _digest(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_version_follows_the_sources() -> None:
    held = json.loads(RECORD.read_text(encoding="utf-8"))
    now = sources()
    changed = sorted(
        name for name in held["modules"].keys() | now.keys() if held["modules"].get(name) != now.get(name)
    )

    assert not changed or held["version"] != PREPARATION_VERSION, (
        f"changed since version {PREPARATION_VERSION}: {', '.join(changed)}. If kept preparations may come "
        f"out different, raise PREPARATION_VERSION; then write the record: {WRITE}"
    )
    assert held == {"version": PREPARATION_VERSION, "modules": now}, f"write the record: {WRITE}"


def test_a_comment_changes_nothing_and_a_number_does() -> None:
    assert _digest('"""A."""\nX = 1\n') == _digest("# B\nX = 1\n")
    assert _digest("X = 1\n") != _digest("X = 2\n")


if __name__ == "__main__":
    record = {"version": PREPARATION_VERSION, "modules": sources()}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
