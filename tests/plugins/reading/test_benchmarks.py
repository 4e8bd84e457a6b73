import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading.benchmarks import benchmarks

from ftcheck import InputError
from ftcheck.inputs.benchmarks import Benchmarks
from ftcheck.inputs.container import Run
from ftcheck.testing import job


def opened(folder: Path, *rows: Any) -> Benchmarks:
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found: Benchmarks = benchmarks.open(job(data={"benchmarks": str(path)}), Run(folder / "work"))
    return found


def test_the_question_is_found_under_the_names_of_well_known_sets(tmp_path: Path) -> None:
    found = opened(
        tmp_path,
        {"question": "how many clips", "answer": "72"},
        {"problem": "find x", "solution": "2"},
        {"messages": [{"role": "user", "content": "and now"}, {"role": "assistant", "content": "no"}]},
        {"prompt": "def add(a, b):", "canonical_solution": "return a + b"},
    )
    assert [one.text for one in found.questions] == ["how many clips", "find x", "and now", "def add(a, b):"]
    assert [one.at.line for one in found.questions] == [1, 2, 3, 4]


def test_rows_without_a_question_are_counted_and_a_file_without_any_is_an_error(tmp_path: Path) -> None:
    found = opened(tmp_path, {"question": "why"}, {"label": 1})
    assert [at.line for at in found.unread] == [2]
    with pytest.raises(InputError, match="no row has a question"):
        opened(tmp_path, {"label": 1})


def test_a_job_without_benchmarks_has_none(tmp_path: Path) -> None:
    assert benchmarks.open(job(), Run(tmp_path)) is None
