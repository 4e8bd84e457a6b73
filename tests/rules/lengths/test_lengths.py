from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ftcheck_rules.lengths.cases.lengths import CASES
from ftcheck_rules.lengths.lengths import PercentileSeqLen, context_window, percentile_seq_len

from ftcheck import Location, Severity
from ftcheck.packing.padding import padding, padding_by_length
from ftcheck.testing import Case, Ran, inputs, job, model_config, prepared, run

RULES = {one.id: one for one in (percentile_seq_len, context_window)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def percentile(lengths: list[int], max_length: int | None, *, target: Any = None, **params: Any) -> Ran:
    made = job(training={"max_length": max_length}, targets={"max_length": target})
    return run(percentile_seq_len, params, inputs=inputs(), job=made, prepared=prepared(lengths))


def test_all_percentiles_are_measured_by_nearest_rank() -> None:
    ran = percentile(list(range(1, 101)), 100)

    assert ran.measured == {
        "rows": 100,
        "tokens": 5050,
        "p50": 50,
        "p90": 90,
        "p95": 95,
        "p99": 99,
        "max": 100,
        "histogram": " ".join(["2", *["3"] * 32, "2"]),  # 0 to 2, 3 to 5, ... 99 to 101 tokens
        "engine": "tokenizers",
    }
    assert next(one.unit for one in ran.measurements if one.name == "histogram") == "rows per 3 tokens"
    assert next(one.limit for one in ran.measurements if one.name == "p95") == "<= 100"
    assert ran.result.summary == "p95 95 · p99 99 · max 100 tokens (max_length 100)"


def test_the_line_says_which_engine_made_the_ids_where_a_faster_one_could_not() -> None:
    note = "gigatoken cannot load this tokenizer"
    one = prepared([3])
    slow = replace(one, rows=replace(one.rows, notes=(note,)))
    made = job(training={"max_length": 100})
    ran = run(percentile_seq_len, {}, inputs=inputs(), job=made, prepared=slow)
    assert ran.result.summary is not None
    assert ran.result.summary.endswith(f"(max_length 100) · ids by tokenizers: {note}")


def test_another_percentile_is_measured_besides() -> None:
    ran = percentile([1, 2, 3, 4], 4, percentile=97.5)
    assert ran.measured["p97.5"] == 4


def test_a_percentile_past_max_length_is_reported_at_the_policy_key_with_a_change() -> None:
    ran = percentile([100] * 90 + [812] * 10, 768)

    [finding] = ran.findings
    assert finding.at == job().at("training.max_length")
    assert (
        finding.message == "p95 is 812 tokens, max_length is 768: 10 of 100 rows are longer and will be cut"
    )
    assert finding.change is not None
    assert (finding.change.old, finding.change.new, finding.change.safe) == (768, 832, False)


def test_where_the_policy_sets_none_the_message_says_that_it_is_trls_default() -> None:
    [finding] = percentile([3000] * 10, 1024).findings
    assert finding.message.startswith("p95 is 3,000 tokens, max_length is not set (TRL's default: 1024)")


def test_a_default_that_is_stated_is_no_default() -> None:
    made = job()
    said = replace(made, places={**made.places, "training.max_length": Location(path="policy.yaml", line=7)})

    [finding] = run(percentile_seq_len, inputs=inputs(), job=said, prepared=prepared([3000] * 10)).findings

    assert finding.message.startswith("p95 is 3,000 tokens, max_length is 1024:")


def test_a_percentile_that_just_fits_passes() -> None:
    ran = percentile([768] * 95 + [900] * 5, 768, target=(512, 768))
    assert ran.result.outcome == "passed"
    assert not ran.findings


def test_a_max_length_outside_its_target_is_an_error_with_the_nearest_one_inside() -> None:
    [finding] = percentile([600], 1024, target=(512, 768)).findings

    assert finding.message == "max_length 1024 is outside targets.max_length, 512 to 768"
    assert finding.change is not None
    assert finding.change.new == 768


def test_no_max_length_misses_a_target_and_fits_everything_else() -> None:
    [finding] = percentile([600], None, target=(512, 768)).findings

    assert finding.change is not None
    assert finding.change.new == 640
    assert percentile([600], None).result.outcome == "passed"


def test_nothing_is_proposed_where_no_length_in_the_target_would_do() -> None:
    [finding] = percentile([900], 768, target=(512, 768)).findings
    assert finding.change is None
    assert "data.outliers" in (finding.fix or "")


def test_a_percentile_far_below_is_noted_without_packing_and_passes() -> None:
    ran = percentile([10, 10, 10, 100], 768, percentile=50)

    [finding] = ran.findings
    assert ran.result.outcome == "passed"
    assert finding.severity is Severity.INFO
    assert "saves no compute" in finding.message
    assert "max_length: 128" in (finding.fix or "")


@pytest.mark.parametrize(("longest", "advice"), [(300, "max_length: 320"), (1500, None)])
def test_a_lower_max_length_holds_the_evaluation_rows_too(longest: int, advice: str | None) -> None:
    made = job(training={"max_length": 768, "eval_strategy": "steps"}, data={"eval": "eval.jsonl"})
    opened = inputs(made, prepared_eval=prepared([10, longest]))

    [finding] = run(percentile_seq_len, inputs=opened, job=made, prepared=prepared([10, 100])).findings

    assert finding.fix == "set training.packing: true" + (
        f", or {advice}, which holds every row" if advice else ""
    )


def test_packing_has_no_use_for_that_remark() -> None:
    packed = job(training={"max_length": 768, "packing": True})
    assert not run(percentile_seq_len, inputs=inputs(), job=packed, prepared=prepared([10])).findings


def test_rows_that_truncation_alone_keeps_out_are_counted() -> None:
    rows = prepared([10, 50], trained=[5, 5], max_length=20)

    ran = run(percentile_seq_len, inputs=inputs(), job=job(training={"max_length": 20}), prepared=rows)

    assert ran.measured["rows"] == 2
    assert ran.measured["max"] == 50


def test_no_row_is_skipped() -> None:
    assert percentile([], 768).skipped == "there are no rows to measure"


@pytest.mark.parametrize("wrong", [0, 101, -5])
def test_what_is_no_percentile_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        PercentileSeqLen(percentile=wrong)


def test_the_expected_padding_is_what_shuffled_batches_have() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, size=4000)
    batches = np.random.default_rng(1).permutation(lengths).reshape(-1, 8)
    real = 1 - batches.sum() / (batches.max(axis=1) * 8).sum()

    assert padding(lengths, 8) == pytest.approx(real, abs=0.01)
    assert padding(lengths, 1) == pytest.approx(0, abs=1e-9)


def window(lengths: list[int], *, context: int | None, max_length: int | None = 1024, **more: Any) -> Ran:
    config = more.pop("config", {})
    made = job(training={"max_length": max_length, **more.pop("training", {})}, serving=more)
    return run(context_window, job=made, model=model_config(context, **config), prepared=prepared(lengths))


def test_a_row_past_the_context_is_reported_at_max_length() -> None:
    ran = window([8, 513], context=512)

    [finding] = ran.findings
    assert finding.at == job().at("training.max_length")
    assert finding.severity is Severity.ERROR
    assert finding.change is not None
    assert finding.change.new == 512
    assert ran.measured == {"context": 512, "longest": 513, "rows_over": 1}


def test_a_row_of_just_the_context_passes() -> None:
    ran = window([512], context=512, max_length=512, max_model_len=512)
    assert ran.result.outcome == "passed"


def test_a_max_length_that_no_row_reaches_is_a_warning_with_a_safe_change() -> None:
    [finding] = window([8], context=512).findings
    assert finding.severity is Severity.WARNING
    assert finding.change is not None
    assert finding.change.safe


def test_packed_rows_begin_anew_so_only_their_own_length_counts() -> None:
    assert not window([8], context=512, training={"packing": True}).findings


def test_wrapped_packing_counts_on_through_the_block() -> None:
    wrapped = {"packing": True, "packing_strategy": "wrapped"}
    assert window([8], context=512, training=wrapped).worst is Severity.ERROR


def test_a_server_with_a_smaller_window_is_reported_at_its_own_key() -> None:
    [finding] = window([8, 600], context=4096, max_model_len=512).findings
    assert finding.at == job().at("serving.max_model_len")
    assert "at least 640" in (finding.fix or "")


def test_a_server_cannot_take_more_than_the_model() -> None:
    [finding] = window([8], context=1024, max_model_len=8192).findings
    assert finding.severity is Severity.ERROR
    assert finding.message == "serving.max_model_len 8192 exceeds the model's context window of 1,024"


@pytest.mark.parametrize(("config", "noted"), [({}, 1), ({"use_sliding_window": False}, 0)])
def test_a_sliding_window_below_max_length_is_noted(config: dict[str, Any], noted: int) -> None:
    ran = window([8], context=4096, config={"sliding_window": 512, **config})
    assert len(ran.findings) == noted
    assert ran.result.outcome == "passed"


@pytest.mark.parametrize(
    ("attention", "severity"),
    [
        ("xformers", Severity.WARNING),
        ("sdpa", Severity.INFO),
        ("kernels-community/flash-attn3", Severity.INFO),
    ],
)
def test_an_attention_that_ignores_the_window_is_a_warning_at_its_own_key(
    attention: str, severity: Severity
) -> None:
    training = {"extra": {"model_init_kwargs": {"attn_implementation": attention}}}

    ran = window([8, 600], context=4096, config={"sliding_window": 512}, training=training)

    assert ran.worst is severity
    if severity is Severity.WARNING:
        assert ran.findings[0].at == job().at("training.model_init_kwargs")


def test_an_attention_that_ignores_a_window_no_row_reaches_is_only_noted() -> None:
    training = {"extra": {"model_init_kwargs": {"attn_implementation": "xformers"}}}
    ran = window([8, 500], context=4096, config={"sliding_window": 512}, training=training)
    assert ran.worst is Severity.INFO


def test_sorting_by_length_takes_padding_away() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, size=4000)
    assert padding_by_length(lengths, 8) < 0.05 < padding(lengths, 8)


def test_a_model_that_names_no_window_is_skipped() -> None:
    assert window([8], context=None).skipped == "config.json has no max_position_embeddings"


@pytest.mark.parametrize(
    ("version", "longest", "fails"),
    [
        (None, 4097, True),
        (None, 4096, False),
        ("0.5.1", 2049, True),
        ("0.6.7", 4096, False),
        ("0.20.0", 4097, True),
    ],
)
def test_16_the_default_context_of_ollama_counts_where_none_is_stated(
    version: str | None, longest: int, fails: bool
) -> None:
    training = {"max_length": 40_960}
    one = job(training=training, serving={"engine": "ollama", "engine_version": version})
    ran = run(context_window, job=one, model=model_config(context=40_960), prepared=prepared([8, longest]))

    assert bool(ran.findings) is fails
    for finding in ran.findings:
        assert "num_ctx" in (finding.fix or "")
    stated = job(training=training, serving={"engine": "ollama", "max_model_len": 8192})
    assert (
        run(
            context_window, job=stated, model=model_config(context=40_960), prepared=prepared([longest])
        ).findings
        == ()
    )
