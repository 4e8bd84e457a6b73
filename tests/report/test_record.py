"""Whose ids a report is about, in words, and what it measured, as a table."""

import pytest

from ftcheck.records import Check, Measurement, Outcome, Result, Stage
from ftcheck.report.record import IdsFrom, Report


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (IdsFrom("trl", version="1.16"), "as TRL 1.16 prepares them"),
        (
            IdsFrom("prepared", framework="axolotl", path="ready", digest="sha256:0123456789abcdef"),
            "read from ready (axolotl), sha256:01234567…",
        ),
        (IdsFrom("prepared", path="ready"), "read from ready"),
        (
            IdsFrom("unverified", framework="command"),
            "unverified: the trainer command reads and tokenises the rows itself",
        ),
    ],
)
def test_whose_ids_were_checked(source: IdsFrom, said: str) -> None:
    assert str(source) == said


def test_measurements_are_rows_of_a_table() -> None:
    pandas = pytest.importorskip(
        "pandas", reason="pandas is what the rows are made for; it comes with [train]"
    )
    check = Check(
        id="mapper::lengths", name="lengths", rule="percentile-seq-len", job="mapper", stage=Stage.BEFORE
    )
    measured = (Measurement("p95", 812, "tokens", "<= 768"), Measurement("rows", 10))
    result = Result(check, Outcome.PASSED, measurements=measured)
    report = Report(status="complete", policy_path="p.yaml", policy_name="p", results=(result,))

    rows = report.measurements
    table = pandas.DataFrame(rows)

    assert rows[0] == {
        "check": "mapper::lengths",
        "job": "mapper",
        "rule": "percentile-seq-len",
        "name": "p95",
        "value": 812,
        "unit": "tokens",
        "limit": "<= 768",
    }
    assert list(table.columns) == ["check", "job", "rule", "name", "value", "unit", "limit"]
    assert table[table["name"] == "p95"]["value"].item() == 812
