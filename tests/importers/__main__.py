"""`python -m tests.importers [FOLDER]`: imports every real configuration, and prints the table by framework.

Every file counts: also configurations of accelerate and DeepSpeed, scripts that take their arguments from the
command line, and shell scripts of frameworks that ftcheck does not read.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftcheck.importers import importing
from ftcheck.importers.records import IDS, MEMORY, NAMES, Imported
from tests.places import DATA

CONFIGS = DATA / "configs"
NONE = "not recognised"
COLUMNS = (
    "framework",
    "files",
    "imported",
    "keys",
    "mapped",
    "without effect",
    "not mapped",
    "of these ids",
    "of these memory",
    "unknown keys",
)


@dataclass(frozen=True)
class Row:
    """What became of one file."""

    file: Path
    framework: str
    record: Imported | None
    error: str | None


def rows(folder: Path) -> Iterator[Row]:
    """Every file of a folder, imported as its content says."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        result = importing.read(None, file, folder=folder)
        error = "; ".join(map(str, result.problems)) or None
        record = result.imported
        yield Row(file, NAMES[record.framework] if record else NONE, record, error)


def keys_of(record: Imported) -> list[str]:
    """The keys of all three lists."""
    keys = [one.key for one in record.mapped] + [one.key for one in record.without_effect]
    return keys + [one.key for one in record.not_mapped]


def whole(record: Imported) -> bool:
    """Whether no key is in two lists."""
    keys = keys_of(record)
    return len(keys) == len(set(keys))


def table(found: list[Row]) -> str:
    """The table by framework."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    frameworks = Counter(row.framework for row in found)
    for framework, files in frameworks.most_common():
        lines.append(_line(framework, [row for row in found if row.framework == framework], files))
    lines.append(_line("all", found, len(found)))
    return "\n".join(lines)


def _line(name: str, found: list[Row], files: int) -> str:
    records = [row.record for row in found if row.record is not None]
    counts = [
        files,
        len(records),
        sum(len(one.mapped) + len(one.without_effect) + len(one.not_mapped) for one in records),
        sum(len(one.mapped) for one in records),
        sum(len(one.without_effect) for one in records),
        sum(len(one.not_mapped) for one in records),
        sum(len(one.marked(IDS)) for one in records),
        sum(len(one.marked(MEMORY)) for one in records),
        sum(not each.known for one in records for each in one.not_mapped),
    ]
    return f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |"


def main(arguments: list[str]) -> int:
    """Print the table, then what could not be imported; 1 if that is more than 5 %."""
    folder = Path(arguments[0]) if arguments else CONFIGS
    found = list(rows(folder))
    print(table(found))
    failed = [row for row in found if row.record is None or not whole(row.record)]
    print(f"\nimported without error: {len(found) - len(failed)} of {len(found)}")
    for row in failed:
        print(f"  {row.error or row.file}")
    return int(len(failed) > 0.05 * len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
