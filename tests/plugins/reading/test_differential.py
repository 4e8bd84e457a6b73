"""The first files of `python -m tests.plugins.reading.differential` (issue 13)."""

from collections import Counter

import pytest

from tests.plugins.reading.differential import Case, cases, compare, folders

pytest.importorskip("trl")
FILES = 200


def test_ftcheck_makes_of_files_what_datasets_and_trl_make_of_them_or_says_what_differs() -> None:
    outcomes: Counter[str] = Counter()
    wrong: list[tuple[Case, str]] = []
    with folders() as (trl, folder):
        for case in cases(FILES):
            verdict = compare(case, trl, folder)
            if verdict is None:
                continue
            outcomes[verdict.outcome] += 1
            if verdict.outcome == "wrong":
                wrong.append((case, verdict.why))

    assert not wrong
    assert outcomes["same"] > FILES // 5
    assert outcomes["refused"] > FILES // 5
