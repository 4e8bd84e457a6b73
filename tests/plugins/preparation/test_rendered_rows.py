"""What observers say of rendered rows, and how it reaches the rows' remarks."""

from pathlib import Path

from tests.faults.bench import BASES
from tests.plugins.preparation.test_preparation import chat, prepare


def test_a_remark_on_a_rendered_row_names_the_row_of_the_data(samples: Path, tmp_path: Path) -> None:
    rows = [chat("<think>a</think>b"), "{broken", chat("<think>and on"), chat("fine")]

    prepared = prepare(samples, tmp_path, rows)

    assert prepared.rows.remarks["thought-open"] == (2,)


def test_no_two_who_look_at_rows_share_a_code(tmp_path: Path) -> None:
    bench = BASES["tool-turns"](tmp_path)
    bench.write()
    looked = bench.look()

    remarks = looked.inputs.get("prepared").rows.remarks
    assert {"calls", "call-ends", "tool-rows"} <= remarks.keys()
    assert {code: rows for code, rows in remarks.items() if list(rows) != sorted(set(rows))} == {}
