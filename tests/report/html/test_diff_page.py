from typing import Any

from ftcheck.report.html.diff_page import page

FINDING = {"message": "row 3 is cut", "path": "train.jsonl", "line": 3, "column": 1}
SIDE = {"policy": "night", "status": "complete", "verdict": "failed", "failed": 2, "finished_at": None}
"""`ftcheck.diff/1`, as `ftcheck.report.diff.to_dict` writes it."""


def change(check: str, **known: Any) -> dict[str, Any]:
    empty = {"new": [], "fixed": [], "still": [], "new_total": 0, "fixed_total": 0, "still_total": 0}
    return {"check": check, **empty, "exact": True, "unknown": "", **known}


def difference(**known: Any) -> dict[str, Any]:
    names = "gate checks findings measurements inputs jobs policy waivers versions run"
    nothing: dict[str, Any] = {name: [] for name in names.split()}
    totals = {"new": 1, "fixed": 1204, "still": 0, "exact": True}
    return {
        "differs": True,
        "totals": totals,
        "before": SIDE,
        "after": {**SIDE, "verdict": "passed", "failed": 0},
    } | (nothing | known)


def test_what_is_new_and_fixed_stands_in_sections_of_its_own() -> None:
    found = [
        change("j::truncation", new=[FINDING], new_total=1),
        change("j::answers", fixed_total=1204),
        change("j::memory-fit", unknown="the check is not planned any more"),
    ]
    text = page(difference(findings=found))

    assert text.index('id="new"') < text.index("train.jsonl:3:1") < text.index('id="fixed"')
    assert "1,204 more, of which the report keeps no text" in text
    assert "the check is not planned any more" in text
    assert 'id="still"' not in text


def test_lower_bounds_are_said_to_be_some() -> None:
    text = page(difference(totals={"new": 20, "fixed": 0, "still": 5, "exact": False}))

    assert "at least 20" in text
    assert "these are lower bounds" in text


def test_changed_measurements_inputs_outcomes_and_values_are_tables() -> None:
    measured = {
        "check": "j::percentile-seq-len",
        "name": "p95",
        "unit": "tokens",
        "presence": "changed",
        "before": 812,
        "after": 406,
        "limit_before": "<= 768",
        "limit_after": "<= 1024",
        "relative": -0.5,
    }
    inputs = {
        "name": "j.train",
        "before": None,
        "after": {"path": "a.jsonl", "digest": "sha256:" + "a" * 64, "rows": 7},
    }
    checked = {
        "check": "j::truncation",
        "presence": "changed",
        "before": "failed",
        "after": "passed",
        "blocked_before": True,
        "blocks_after": False,
    }
    versions = {"name": "trl", "before": "1.15", "after": None}
    text = page(difference(measurements=[measured], inputs=[inputs], checks=[checked], versions=[versions]))

    for needed in (
        "-50.0 %",
        "&lt;= 768 → &lt;= 1024",
        "a.jsonl",
        "7 rows",
        "failed, blocks",
        "not stated",
        "not there",
    ):
        assert needed in text


def test_nothing_is_said_to_be_nothing_and_markup_is_text() -> None:
    text = page(difference(differs=False, before={**SIDE, "policy": "<script>alert(1)</script>"}))

    assert "Nothing differs." in text
    assert "<script>alert" not in text
