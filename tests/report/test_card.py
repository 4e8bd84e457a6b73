"""The section of a model card: what it says, and that nothing in a report breaks out of it."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from ftcheck.records import Check, Finding, Measurement, Outcome, Result, Severity, Stage
from ftcheck.report.card import card
from ftcheck.report.record import InputDigest, JobDigests, Report, WaiverUse, from_dict
from tests.cli.project import Project

DIGEST = "sha256:" + "ab" * 32


def _result(rule: str, outcome: Outcome = Outcome.PASSED, **more: object) -> Result:
    check = Check(id=f"mapper::{rule}", name=rule, rule=rule, job="mapper", stage=Stage.BEFORE)
    return Result(check, outcome, **more)  # type: ignore[arg-type]


def _report(*results: Result) -> Report:
    return Report(
        status="complete",
        verdict="passed",
        policy_path="p.yaml",
        policy_name="night",
        jobs={"mapper": JobDigests(digest=DIGEST, plan=DIGEST, ids=DIGEST, template=DIGEST)},
        inputs={"mapper.train": InputDigest("train.jsonl", DIGEST, 1234)},
        waivers=(WaiverUse("mapper::duplicates", "paraphrases | reviewed", "data-team", "2026-12-31", True),),
        gate={"mapper": "open"},
        results=results,
    )


ACCURACY = (
    Measurement("accuracy", 0.925),
    Measurement("accuracy_low", 0.884),
    Measurement("accuracy_high", 0.954),
    Measurement("n", 240, "rows"),
)
PACKING = (Measurement("blocks_planned", 1333, "blocks"), Measurement("fill_planned", 0.974))


def test_what_it_says() -> None:
    said = card(
        _report(
            _result("accuracy", measurements=ACCURACY),
            _result("packing-efficiency", measurements=PACKING),
            _result("duplicates", Outcome.WAIVED, reason="waived until 2026-12-31"),
            _result("tool-calls", Outcome.SKIPPED, reason="no row has tool calls"),
        )
    )

    assert "verdict **passed**" in said
    assert "gate open for mapper" in said
    assert f"| mapper.train | train.jsonl | 1,234 | {DIGEST} |" in said
    assert f"| mapper: token ids and labels | unverified |  | {DIGEST} |" in said
    assert "- mapper: 92.5% of 240 gold questions are right (95 % interval 88.4% to 95.4%)" in said
    assert "- mapper: packed into 1,333 blocks, 97.4% full" in said
    assert r"| mapper::duplicates | paraphrases \| reviewed | data-team | 2026-12-31 |" in said
    assert "| mapper::tool-calls | skipped | no row has tool calls |" in said


def test_what_was_not_checked_is_never_left_out() -> None:
    assert card(_report()).endswith("Nothing was checked.\n")
    assert card(_report(_result("accuracy", measurements=ACCURACY))).endswith("All planned checks ran.\n")
    broken = _result("memory-fit", Outcome.ERRORED, reason="the model cannot be opened")
    assert "| mapper::memory-fit | errored | the model cannot be opened |" in card(_report(broken))
    assert "| leakage | removed by the policy |  |" in card(replace(_report(broken), removed=("leakage",)))


def test_a_card_with_it_is_read_by_the_hub_and_keeps_its_metadata(gated: Project) -> None:
    report = from_dict(json.loads((gated.folder / "r.json").read_bytes()))

    read = ModelCard(f"---\nlicense: mit\n---\n\n# Mapper\n\n{card(report)}")

    assert read.data.license == "mit"
    assert "## What was checked" in read.text
    assert report.jobs["mapper"].ids in read.text


@pytest.mark.parametrize("text", ["<script>x</script>", "a\n## b", "](http://x)", "---\nlicense: evil\n---"])
def test_nothing_breaks_out(text: str) -> None:
    finding = Finding(f"secret {text}", severity=Severity.ERROR)
    failed = _result("leakage", Outcome.FAILED, blocking=True, findings=(finding,), findings_total=1)
    skipped = _result("truncation", Outcome.SKIPPED, reason=text)
    report = replace(_report(failed, skipped), policy_name=text)

    said = card(report)

    assert "<script>" not in said
    assert "secret" not in said, "no message of a finding, which may name what a row holds"
    assert [line for line in said.splitlines() if line.startswith("#")] == ["## What was checked"]
    assert "---" not in [line.strip() for line in said.splitlines()]
    assert "](http://x)" not in said.replace(r"\]", "")
