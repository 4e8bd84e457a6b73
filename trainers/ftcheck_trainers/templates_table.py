"""Makes `ftcheck/tables/training_templates.json`: how TRL changes known templates to train on answers only.

Run `python -m ftcheck_trainers.templates_table` after an upgrade of trl. Where TRL is not installed,
`ftcheck.templates` applies the table to the template of a tokenizer, and gets TRL's training template
byte for byte.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import SequenceMatcher
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck import digest, tables, templates

SOURCE = "trl/chat_templates/NAME.jinja and NAME_training.jinja: python -m ftcheck_trainers.templates_table"
LICENSE = "Apache-2.0, Copyright 2020-2026 The HuggingFace Team. All rights reserved. (the inserted texts)"
LEAST_KEPT = 12
"""Characters between two edits; of fewer, the edits are one."""


def make_table() -> dict[str, Any]:
    """The table of what the installed TRL changes. Raises `LookupError` without TRL."""
    folder = templates.trl_templates()
    if folder is None:
        raise LookupError("TRL is not installed")
    return {
        "as_of": datetime.now(UTC).date().isoformat(),
        "source": SOURCE,
        "license": LICENSE,
        "versions": {"trl": metadata.version("trl")},
        "templates": {name: entry(stock, training) for name, stock, training in templates.pairs_of(folder)},
    }


def entry(stock: str, training: str) -> dict[str, Any]:
    """A template by its digest, and what makes the training template of it."""
    return {
        "sha256": digest.of_text(stock),
        "training_sha256": digest.of_text(training),
        "edits": edits(stock, training),
    }


def edits(stock: str, training: str) -> list[list[Any]]:
    """The changes, in order: where in the stock text (in characters), how much it drops, what it inserts."""
    return [[start, stop - start, text] for start, stop, text in _joined(_changes(stock, training), stock)]


def _changes(stock: str, training: str) -> Iterator[tuple[int, int, str]]:
    for kind, start, stop, its, ends in SequenceMatcher(None, stock, training, autojunk=False).get_opcodes():
        if kind != "equal":
            yield start, stop, training[its:ends]


def _joined(changes: Iterator[tuple[int, int, str]], stock: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for start, stop, text in changes:
        if found and start - found[-1][1] < LEAST_KEPT:
            first, last, before = found.pop()
            start, text = first, before + stock[last:start] + text
        found.append((start, stop, text))
    return found


def main(target: Path | None = None) -> Path:
    """Write the table and return where."""
    path = target or Path(tables.__file__).parent / "training_templates.json"
    path.write_text(json.dumps(make_table(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
