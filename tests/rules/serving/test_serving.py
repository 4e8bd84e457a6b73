from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.serving.serving import OutputCap, output_cap, output_schema

from ftcheck.inputs.evaluation import GoldSet
from ftcheck.records import Change, Location, Severity
from ftcheck.settings import Evaluation
from ftcheck.testing import Ran, gold, job, prepared, rows, run
from ftcheck.testing import output_schema as schema_of

TEAM = {"type": "object", "required": ["team"], "properties": {"team": {"enum": ["hr", "it"]}}}
KEY = "jobs.job.serving.max_new_tokens"


def answers(*tokens: int) -> GoldSet:
    found = gold(*[("?", "A") for _ in tokens])
    sized = tuple(replace(one, answer_tokens=n) for one, n in zip(found.items, tokens, strict=True))
    return replace(found, items=sized)


def capped(
    cap: int | None, gold: GoldSet | None = None, trained: int | None = None, **more: Any
) -> dict[str, Any]:
    kept = prepared([300], trained=[trained]) if trained else prepared([300])
    return {"job": job(serving={"max_new_tokens": cap}, **more), "gold": gold, "prepared": kept}


def schema(expected: Any, prompt: str | None = "JSON only.", **more: Any) -> dict[str, Any]:
    return {
        "job": job(serving={"system_prompt": prompt}),
        "output_schema": schema_of(TEAM),
        "gold": gold(("?", expected)),
        "rows": rows(),
        **more,
    }


def test_a_cap_that_just_holds_the_longest_answer_passes() -> None:
    ran = run(output_cap, **capped(64, answers(60, 64)))

    assert ran.findings == ()
    assert ran.measured == {"gold_p99": 64, "gold_max": 64, "cap": 64}
    assert ran.result.summary == "gold p99 64 · max 64 tokens (max_new_tokens 64)"


def test_a_cap_below_the_percentile_is_an_error_with_the_cap_that_would_do() -> None:
    ran = run(output_cap, **capped(64, answers(10, 65)))

    [finding] = ran.findings
    assert finding.message == (
        "p99 of the gold answers is 65 tokens, max_new_tokens is 64: 1 of 2 gold answers"
        " is longer and would be cut"
    )
    assert finding.at == Location("policy.yaml", 1, 1, "jobs.job.serving.max_new_tokens")
    assert finding.change == Change(KEY, 64, 72)


def test_an_answer_above_the_percentile_alone_is_a_warning_with_its_count() -> None:
    ran = run(output_cap, **capped(64, answers(*[10] * 199, 65)))

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("max_new_tokens is 64: 1 of 200 gold answers is longer")


def test_training_answers_count_where_the_loss_is_on_answers_alone() -> None:
    masked = run(output_cap, **capped(64, trained=65))
    whole = run(output_cap, **capped(64))

    assert masked.worst is Severity.ERROR
    assert masked.measured["answers_p99"] == 65
    assert whole.skipped is not None
    assert whole.skipped.startswith("there are no gold answers")


def test_rows_in_trouble_and_rows_that_are_all_answer_do_not_count() -> None:
    some = prepared([300, 300], trained=[10, 300])

    ran = run(output_cap, job=job(serving={"max_new_tokens": 10}), gold=None, prepared=some)

    assert ran.measured["answers_max"] == 10


def test_headroom_is_kept_above_the_percentile() -> None:
    assert run(output_cap, {"headroom_tokens": 4}, **capped(64, answers(60))).findings == ()
    assert run(output_cap, {"headroom_tokens": 5}, **capped(64, answers(60))).worst is Severity.ERROR


def test_another_percentile_is_measured_beside_p99() -> None:
    ran = run(output_cap, {"percentile": 50.0}, **capped(10, answers(10, 11)))

    assert (ran.measured["gold_p50"], ran.measured["gold_p99"]) == (10, 11)
    assert ran.worst is Severity.WARNING


def test_no_cap_is_an_error_that_says_what_would_do() -> None:
    [finding] = run(output_cap, **capped(None, answers(60))).findings

    assert finding.message == "serving.max_new_tokens is not set"
    assert finding.change == Change(KEY, None, 64)


def test_no_cap_says_what_the_stated_engine_does_then() -> None:
    given = capped(None, answers(60)) | {"job": job(serving={"engine": "vllm"})}

    [finding] = run(output_cap, **given).findings

    assert "vLLM stops completions after 16 tokens" in finding.message


def evaluated(cap: int, serving: int = 64, gold: GoldSet | None = None) -> dict[str, Any]:
    return capped(serving, gold or answers(60), evaluation=Evaluation(max_new_tokens=cap))


def test_an_evaluation_that_stops_before_the_gold_answers_end_is_an_error_with_a_cap_that_mends_it() -> None:
    [finding] = run(output_cap, **evaluated(16)).findings

    assert finding.severity is Severity.ERROR
    assert finding.at == Location("policy.yaml", 1, 1, "jobs.job.evaluation.max_new_tokens")
    assert finding.change == Change("jobs.job.evaluation.max_new_tokens", 16, 64)
    assert run(output_cap, **evaluated(64)).findings == ()


def test_the_cap_of_evaluation_holds_the_percentile_and_is_not_held_against_training_answers() -> None:
    rare = answers(*[10] * 199, 40)

    assert run(output_cap, **evaluated(16, gold=rare)).findings == ()
    assert run(output_cap, **evaluated(16) | {"gold": None}).measured.get("evaluation_cap") is None


def test_a_cap_outside_the_targets_is_an_error_with_the_nearest_inside() -> None:
    ran = run(output_cap, **capped(128, answers(40), targets={"max_new_tokens": (32, 64)}))

    [finding] = ran.findings
    assert finding.message == "max_new_tokens 128 is outside targets.max_new_tokens, 32 to 64"
    assert finding.change == Change(KEY, 128, 64)


def test_answers_longer_than_the_targets_have_no_cap_that_would_do() -> None:
    ran = run(output_cap, **capped(64, answers(80), targets={"max_new_tokens": (32, 64)}))

    [finding] = ran.findings
    assert finding.change is None
    assert finding.fix is not None
    assert "raise targets.max_new_tokens" in finding.fix


def test_a_cap_far_above_the_longest_answer_is_worth_a_remark() -> None:
    assert run(output_cap, **capped(80, answers(10))).findings == ()
    assert run(output_cap, **capped(81, answers(10))).worst is Severity.INFO


@pytest.mark.parametrize("percentile", [0, 101])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        OutputCap(percentile=percentile)


@pytest.mark.parametrize("expected", [{"team": "hr"}, '{"team": "hr"}'])
def test_gold_answers_that_fit_pass_as_values_and_as_text(expected: Any) -> None:
    ran = run(output_schema, **schema(expected))

    assert ran.findings == ()
    assert ran.measured == {"gold_items": 1, "gold_valid": 1}


@pytest.mark.parametrize("expected", [{"team": "law"}, '{"team": 1}', '["hr"]'])
def test_a_gold_answer_that_breaks_the_schema_is_an_error_at_its_line(expected: Any) -> None:
    ran = run(output_schema, **schema(expected))

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at == Location("gold.json", 1, row=1)
    assert ran.measured["gold_valid"] == 0


@pytest.mark.parametrize("text", ["certainly! hr", '{"team": NaN}', '{"team": "hr"'])
def test_a_gold_answer_that_is_no_json_is_not_quoted(text: str) -> None:
    [finding] = run(output_schema, **schema(text)).findings

    assert "not JSON" in finding.message
    assert "hr" not in finding.message
    assert "certainly" not in finding.message


def test_a_schema_that_no_system_prompt_asks_for_is_an_error() -> None:
    instructed = rows(system_prompts=["JSON only."], system=[0, 0, 0])

    alone = run(output_schema, **schema({"team": "hr"}, None))
    trained = run(output_schema, **schema({"team": "hr"}, None, rows=instructed))

    assert alone.findings[0].message.startswith(
        "serving.output_schema is set, but neither serving nor training"
    )
    assert trained.findings == ()


def test_a_schema_that_lets_anything_through_is_a_warning() -> None:
    ran = run(output_schema, **schema({"team": "hr"}, output_schema=schema_of({"title": "answer"})))

    assert ran.worst is Severity.WARNING


def test_without_a_schema_or_without_gold_answers_the_check_is_skipped() -> None:
    assert run(output_schema, **schema("x", output_schema=None)).skipped == "serving.output_schema is not set"
    assert (
        run(output_schema, **schema("x", gold=None)).skipped
        == "there are no gold answers to compare with the schema"
    )


def json_answers(whole: int, broken: list[int], count: int = 40, **changes: Any) -> Ran:
    found = {"json-answer": [n for n in range(count) if n not in broken][:whole], "broken-json": broken}
    return run(output_schema, **schema({"team": "hr"}, rows=rows(count, remarks=found), **changes))


def test_a_training_answer_that_is_cut_json_is_a_warning_on_its_row() -> None:
    ran = json_answers(39, [13], output_schema=None)
    [finding] = ran.findings
    assert str(finding.at) == "train.jsonl:14:1"
    assert finding.severity is Severity.WARNING
    assert ran.measured["training_json_broken"] == 1


def test_answers_that_only_begin_with_a_bracket_are_no_broken_json() -> None:
    assert json_answers(0, [3, 4], output_schema=None).result.outcome == "skipped"
    assert json_answers(20, list(range(20)), output_schema=None).result.outcome == "skipped"


def test_20_a_job_without_serving_is_skipped_and_evaluation_is_still_looked_at() -> None:
    ran = run(output_cap, job=job(), gold=answers(60), prepared=prepared([300]))
    assert ran.skipped is not None
    assert "no `serving` section" in ran.skipped

    one = job(evaluation=Evaluation(max_new_tokens=50))
    [finding] = run(output_cap, job=one, gold=answers(60), prepared=prepared([300])).findings
    assert "evaluation.max_new_tokens is 50" in finding.message
