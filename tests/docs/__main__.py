"""Runs the pages' commands and, with `--write`, puts what they printed into the pages.

    python -m tests.docs [--write] [PAGE...]        pages such as guides/ci.md; all by default

A block whose lines, with its gaps (`...`), are what was printed stays as it is.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.docs.blocks import name_of, pages
from tests.docs.running import Wrong, run_page


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pages; 1 if something is not as they say."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs", description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("pages", nargs="*")
    asked = parser.parse_args(argv)
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in pages():
            if asked.pages and name_of(path) not in asked.pages:
                continue
            began = time.monotonic()
            wrong = run_page(path, Path(folder))
            print(f"{name_of(path)}: {len(wrong)} wrong, {time.monotonic() - began:.1f} s")
            if asked.write:
                write(path, wrong)
            for one in (one for one in wrong if not asked.write or one.step is None):
                print(f"  {one}")
            found += len(wrong)
    return 1 if found else 0


def write(path: Path, wrong: Sequence[Wrong]) -> None:
    """Put what was printed into a page, from its end on, so that line numbers stay true."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for one in sorted(
        wrong, key=lambda one: (one.block.line, one.step.first if one.step else 0), reverse=True
    ):
        if one.step is None or one.step.printed is None:
            continue
        start = one.block.line + one.step.first
        stop = start + len(one.step.printed)
        if lines[start:stop] != one.step.printed:
            print(f"  {one.block}: it stands in docs/parts: write it there")
            continue
        lines[start:stop] = one.lines
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
