from typing import Any

import pytest
from ftcheck_rules.lengths.cases.packing import CASES
from ftcheck_rules.lengths.packing import packing_efficiency, packing_isolation, tokens_per_step

from ftcheck import Severity
from ftcheck.inputs.machine import Gpu
from ftcheck.inputs.packed_batch import TINY_MODEL, PackedBatch
from ftcheck.packing import cutting_stock
from ftcheck.testing import Case, Ran, gpu, inputs, job, machine, model_config, packages, prepared, run

RULES = {one.id: one for one in (packing_efficiency, packing_isolation, tokens_per_step)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def packed(
    lengths: list[int], capacity: int | None, *, params: Any = None, targets: Any = None, **training: Any
) -> Ran:
    stated = {"max_length": capacity, "packing": True, "per_device_train_batch_size": 1, **training}
    made = job(training=stated, targets=targets or {})
    whole = made.training.packing_strategy != "bfd"
    rows = prepared(lengths, max_length=None if whole else capacity, packing=True)
    return run(packing_efficiency, params, job=made, prepared=rows)


def test_all_plans_are_measured() -> None:
    ran = packed([6, 4, 5, 5], 10)

    assert ran.result.outcome == "passed"
    assert ran.measured == {
        "sequences": 4,
        "blocks_trl": 2,
        "blocks_best_fit": 2,
        "blocks_planned": 2,
        "blocks_lower_bound": 2,
        "fill_trl": 1.0,
        "fill_planned": 1.0,
    }
    assert ran.result.summary == "2 blocks, 100.0 % full"


def test_trl_packs_a_thousand_rows_on_their_own_and_the_summary_says_so() -> None:
    ran = packed([6] * 1000 + [4] * 1000, 10)

    assert ran.measured["blocks_trl"] == 1500
    assert ran.measured["blocks_planned"] == 1000
    assert ran.result.summary == "1,000 blocks, 100.0 % full (TRL alone: 1,500)"


HARD = [18] * 22 + [28] * 33 + [35] * 28 + [40] * 51 + [41] * 31 + [47] * 25
"""Best-fit makes 74 blocks of 104, and 69 is the optimum."""


def test_the_planned_blocks_are_the_optimum() -> None:
    pytest.importorskip("highspy")
    ran = packed(HARD, 104)

    assert ran.measured["blocks_planned"] == 69
    assert ran.measured["blocks_best_fit"] == ran.measured["blocks_trl"] == 74
    assert ran.result.summary == "69 blocks, 94.6 % full (TRL alone: 74)"


def test_without_highspy_the_summary_says_that_fewer_may_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting_stock, "available", lambda: False)
    ran = packed([*HARD, 1], 104)

    assert 69 <= ran.measured["blocks_planned"] <= 74
    assert (ran.result.summary or "").endswith("; highspy is not installed: with it fewer may be found")


def test_the_planner_is_proposed_by_the_blocks_that_it_really_makes() -> None:
    pytest.importorskip("highspy")
    [finding] = packed(HARD, 104, params={"min_fill": 0.9}, packing_planner="trl").findings

    assert finding.fix == "packing_planner: optimal packs across all rows: 69 blocks instead of 74"


def test_longer_rows_are_cut_before_they_are_packed() -> None:
    ran = packed([25, 10], 10)
    assert ran.measured["blocks_planned"] == 2
    assert ran.measured["fill_planned"] == 1.0


@pytest.mark.parametrize(("strategy", "blocks"), [("bfd_split", 4), ("wrapped", 4)])
def test_other_strategies_keep_every_token(strategy: str, blocks: int) -> None:
    ran = packed([25, 12], 10, packing_strategy=strategy)
    assert ran.measured["blocks_planned"] == blocks
    assert ran.measured["fill_planned"] == 37 / 40


def test_loose_blocks_are_a_warning_at_max_length() -> None:
    [finding] = packed([6] * 8, 10).findings

    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.max_length")
    assert finding.message == "the blocks are 60.0 % full, below the minimum of 85.0 %"


def test_the_next_longer_block_that_is_full_enough_is_proposed() -> None:
    [finding] = packed([130] * 60, 256).findings

    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == (256, 448)


def test_the_planner_over_all_rows_is_proposed_where_it_is_enough() -> None:
    [finding] = packed([6] * 1000 + [4] * 1000, 10, packing_planner="trl").findings

    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.packing_planner"
    assert finding.change.safe


def test_blocks_that_are_just_full_enough_pass() -> None:
    assert packed([6] * 8, 10, params={"min_fill": 0.6}).result.outcome == "passed"


def test_fewer_blocks_than_a_step_are_an_error_with_the_steps_that_would_do() -> None:
    ran = packed([10] * 6, 10, per_device_train_batch_size=2, gradient_accumulation_steps=4)

    [finding] = ran.findings
    assert finding.message == "6 blocks are fewer than the 8 that one optimizer step takes"
    assert finding.at == job().at("training.gradient_accumulation_steps")
    assert finding.change is not None
    assert finding.change.new == 3


def test_fewer_blocks_than_a_batch_ask_for_a_smaller_batch() -> None:
    [finding] = packed([10], 10, per_device_train_batch_size=2).findings
    assert finding.at == job().at("training.per_device_train_batch_size")


def test_packing_without_max_length_is_an_error() -> None:
    [finding] = packed([5], None).findings
    assert finding.at == job().at("training.max_length")


def test_without_packing_it_is_skipped_and_says_what_packing_would_make() -> None:
    made = job(training={"max_length": 10, "per_device_train_batch_size": 2})

    ran = run(packing_efficiency, job=made, prepared=prepared([5, 5, 5, 5, 10, 10], max_length=10))

    assert ran.skipped is not None
    assert ran.skipped.startswith("packing is off: 6 rows, about 14 % of the computed tokens are padding")
    assert ran.skipped.endswith(
        "packing would make 4 blocks of 10 tokens, 100.0 % full: 2 steps per epoch instead of 3"
    )


@pytest.mark.parametrize("count", [1, 7, 30])
def test_few_blocks_are_judged_without_the_emptiest(count: int) -> None:
    ran = packed([95] * count + [5], 100)
    assert ran.result.outcome == "passed"
    assert packed([95] * count + [20], 100).result.outcome == "passed"


def padded(lengths: list[int], *, batch: int = 8, **training: Any) -> Ran:
    made = job(training={"max_length": 1000, "per_device_train_batch_size": batch, **training})
    return run(packing_efficiency, job=made, prepared=prepared(lengths, max_length=1000))


MIXED = ([20] * 9 + [900]) * 40


def test_batches_that_are_mostly_padding_are_a_warning_with_packing_as_the_change() -> None:
    ran = padded(MIXED)

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.packing")
    assert finding.message.startswith(
        "packing is off: 400 rows, about 79 % of the computed tokens are padding"
    )
    assert finding.change is not None
    assert (finding.change.new, finding.change.safe) == (True, False)
    packing = padded(MIXED, packing=True, per_device_train_batch_size=1)
    assert packing.result.outcome == "passed"


@pytest.mark.parametrize(
    "calmer",
    [
        {"batch": 1},
        {"extra": {"train_sampling_strategy": "group_by_length"}},
        {"padding_free": True},
    ],
)
def test_what_keeps_padding_low_is_no_finding(calmer: Any) -> None:
    assert padded(MIXED, **calmer).skipped is not None


def together(versions: Any = None, **training: Any) -> Ran:
    made = job(training={"packing": True, "max_length": 512, **training})
    have = packages(**{"transformers": "5.23.0", "trl": "1.16.0", **(versions or {})})
    return run(packing_isolation, job=made, packages=have, inputs=inputs(made, packed_batch=None))


def recurrent(batch: PackedBatch, *gpus: Gpu, kind: str = "jamba", **sections: Any) -> Ran:
    made = job(training={"packing": True, "max_length": 512}, **sections)
    opened = inputs(made, packed_batch=batch, model=model_config(model_type=kind), machine=machine(*gpus))
    return run(packing_isolation, job=made, packages=packages(), inputs=opened)


REFUSED = PackedBatch("refused", TINY_MODEL, "ValueError: install causal_conv1d")


def test_item_9_a_model_that_refuses_packed_rows_is_an_error() -> None:
    ran = recurrent(REFUSED)
    [finding] = ran.findings

    assert finding.severity is Severity.ERROR
    assert "install causal_conv1d" in finding.message
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.job.training.packing", False)
    assert ran.result.summary == "the model refuses packed rows"


@pytest.mark.parametrize(
    "sections", [{"hardware": {"gpu": "H100"}}, {"trainer": {"use": "command", "argv": ("train",)}}]
)
def test_item_9_what_is_installed_elsewhere_is_unknown_here(sections: Any) -> None:
    [finding] = recurrent(REFUSED, **sections).findings
    assert finding.severity is Severity.WARNING


def test_item_9_the_gpu_that_is_named_is_here() -> None:
    [finding] = recurrent(REFUSED, gpu("NVIDIA H100 80GB HBM3"), hardware={"gpu": "H100"}).findings
    assert finding.severity is Severity.ERROR


def test_item_9_a_leak_between_packed_rows_is_an_error_wherever_it_trains() -> None:
    [finding] = recurrent(
        PackedBatch("leaks", TINY_MODEL, difference=0.05), hardware={"gpu": "H100"}
    ).findings

    assert finding.severity is Severity.ERROR
    assert "by 5 %" in finding.message


def test_item_9_an_unknown_model_is_a_warning_and_an_isolated_one_passes() -> None:
    [finding] = recurrent(PackedBatch("unknown", "nothing", "it does not run")).findings
    assert finding.severity is Severity.WARNING
    assert not recurrent(PackedBatch("isolated", TINY_MODEL, difference=1e-7)).findings


def attention(name: str) -> dict[str, Any]:
    return {"extra": {"model_init_kwargs": {"attn_implementation": name}}}


def test_wrapped_packing_is_an_error_with_its_change() -> None:
    [finding] = together(packing_strategy="wrapped").findings

    assert finding.severity is Severity.ERROR
    assert finding.at == job().at("training.packing_strategy")
    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == ("wrapped", "bfd")
    assert together(packing_strategy=finding.change.new).result.outcome == "passed"


@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention", "flash_attention_2", "kernels/flash"])
@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_packing_needs_no_flash_attention(name: str, strategy: str) -> None:
    ran = together(packing_strategy=strategy, **attention(name))
    assert ran.result.outcome == "passed"
    assert not ran.findings


def test_an_attention_that_transformers_makes_no_mask_for_is_a_warning() -> None:
    [finding] = together(**attention("xformers")).findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.model_init_kwargs")


def test_what_older_versions_did_not_do_is_noted() -> None:
    old = {"transformers": "4.45.2"}

    [finding] = together(old).findings

    assert finding.severity is Severity.INFO
    assert finding.message.startswith("transformers 4.45.2 isolates packed rows with flash attention only")
    assert not together(old, **attention("flash_attention_2")).findings


def test_without_packing_isolation_is_skipped() -> None:
    assert together(packing=False).skipped is not None
    assert together(packing=False, padding_free=True).result.outcome == "passed"


def test_no_row_is_skipped() -> None:
    assert packed([], 10).skipped == "no row is left to train on"


def step(
    *, batch: int = 4, steps: int = 8, length: int | None = 768, target: Any = (32768, 65536), **more: Any
) -> Ran:
    training = {
        "max_length": length,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": steps,
        "packing": more.get("packing", False),
    }
    made = job(
        training=training,
        targets={"tokens_per_step": target},
        hardware={"count": more.get("count", 1)},
    )
    rows = prepared(more.get("lengths", [384, 768]), max_length=length, packing=training["packing"])
    return run(tokens_per_step, job=made, prepared=rows)


def test_the_guides_own_example_misses_its_range_and_sixteen_steps_reach_it() -> None:
    ran = step()

    [finding] = ran.findings
    assert finding.at == job().at("training.gradient_accumulation_steps")
    assert (
        finding.message
        == "4 x 8 x 768 = 24,576 tokens per step, outside targets.tokens_per_step 32,768 to 65,536"
    )
    assert finding.fix == "gradient_accumulation_steps: 8 -> 16 (49,152 tokens per step)"
    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == (8, 16)
    assert ran.measured == {"tokens_per_step": 24576, "filled_tokens_per_step": 18432}
    assert ran.measurements[0].limit == "32768 to 65536"


@pytest.mark.parametrize("length", [256, 512])
def test_both_ends_of_the_range_pass(length: int) -> None:
    assert step(steps=32, length=length).result.outcome == "passed"


def test_every_device_counts() -> None:
    assert step(steps=2, count=8).measured["tokens_per_step"] == 49152


def test_packed_blocks_count_by_their_own_fill() -> None:
    ran = step(packing=True, lengths=[384, 384, 384], steps=16)
    assert ran.measured["filled_tokens_per_step"] == 49152 * 3 // 4


def test_a_batch_that_is_too_large_alone_is_reported_at_the_batch() -> None:
    [finding] = step(batch=128, steps=1).findings
    assert finding.at == job().at("training.per_device_train_batch_size")
    assert finding.change is None


def test_without_a_target_it_is_only_measured() -> None:
    ran = step(target=None)
    assert ran.result.outcome == "passed"
    assert ran.measured["tokens_per_step"] == 24576


def test_without_max_length_it_is_skipped() -> None:
    assert step(length=None).skipped is not None
