"""What the plan works out, on small jobs whose right answers can be counted by hand."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from ftcheck import testing
from ftcheck.cli.pages import plan_page
from ftcheck.errors import InputError
from ftcheck.estimate.memory.fit import verdict
from ftcheck.estimate.memory.formulas import GIB, Memory
from ftcheck.estimate.memory.prediction import predict
from ftcheck.estimate.memory.shapes import usual_length
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.inputs.role_tokens import RoleTokens
from ftcheck.planning import Asked, JobPlan, plan
from ftcheck.planning import estimates as planning_estimates
from ftcheck.planning.lengths import cost, lengths, measured
from ftcheck.planning.records import Figure, Target
from ftcheck.planning.targets import targets
from ftcheck.settings import Job

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
QLORA = {
    "lora": {"r": 16, "target_modules": "all-linear"},
    "quantization": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "bf16": True,
}


def made(job: Job, rows: Prepared, asked: Asked | None = None, **opened: Any) -> JobPlan:
    """The plan of a job, on a machine without a GPU."""
    given = {"machine": testing.machine(), "model": testing.model_config(**LLAMA), **opened}
    return plan(job, testing.inputs(job, prepared=rows, **given), asked or Asked())


def rows_of(*lengths_: int, trained: int = 10, **more: Any) -> Prepared:
    return testing.prepared(lengths_, trained=[trained] * len(lengths_), **more)


def target(found: JobPlan, name: str) -> Target:
    return next(one for one in found.targets if one.name == name)


def test_prompt_and_completion_are_told_apart_by_the_loss() -> None:
    found = lengths(rows_of(30, 50, trained=10), testing.job())

    assert found.prompt is not None
    assert found.completion is not None
    assert (found.prompt.percentile(100), found.completion.percentile(100)) == (40, 10)


def test_where_the_whole_row_is_in_the_loss_there_is_no_prompt() -> None:
    found = lengths(testing.prepared([30, 50]), testing.job())

    assert (found.prompt, found.completion) == (None, None)
    assert found.trained.lost(40) == 10


def test_the_recommended_length_holds_the_percentile_and_the_trained_tokens() -> None:
    job = testing.job(training={"max_length": 1024})
    rows, few = rows_of(*[100] * 95, *[140] * 5), rows_of(*[100] * 995, *[140] * 5)

    assert lengths(rows, job, percentile=95).unpacked.length == 192  # 128 loses 50 of 1,000 trained tokens
    assert lengths(few, job, percentile=95).unpacked.length == 128
    assert lengths(few, job, percentile=99.9).unpacked.length == 192


def test_the_recommended_length_stays_in_the_targets_range_or_says_what_would_be_needed() -> None:
    rows = rows_of(*[100] * 95, *[700] * 5)
    inside = testing.job(targets={"max_length": (256, 1024)})
    below = testing.job(targets={"max_length": (128, 512)})
    above = testing.job(targets={"max_length": (1024, 2048)})

    assert lengths(rows, inside).unpacked.length == 704
    assert lengths(rows, below).unpacked.length is None
    assert "704" in lengths(rows, below).unpacked.why
    assert lengths(rows, above).unpacked.length == 1024


def test_with_packing_a_stated_length_that_holds_the_rows_is_kept() -> None:
    job = testing.job(training={"max_length": 768, "packing": True})

    assert lengths(rows_of(*[100] * 50), job).packed.length == 768


def test_costs_count_what_dropping_and_truncating_lose_in_trained_tokens() -> None:
    rows = rows_of(60, 66, 100, trained=10)
    found = cost(rows, measured(rows), 64)

    assert (found.rows, found.dropped, found.truncated, found.untrained) == (2, 20, 12, 1)
    assert found.kept == pytest.approx(18 / 30)


def test_truncation_that_keeps_the_end_loses_prompts_and_no_answer() -> None:
    rows = rows_of(60, 66, 100, trained=10)
    job = testing.job(training={"max_length": 128, "truncation_mode": "keep_end"})

    assert cost(rows, measured(rows), 64, from_end=True).truncated == 0
    assert lengths(rows, job).trained.lost(64) == 0
    assert lengths(rows, testing.job(training={"max_length": 128})).trained.lost(64) == 12


def test_rows_that_truncation_alone_keeps_from_being_fed_are_measured_all_the_same() -> None:
    rows = rows_of(40, 200, trained=10, max_length=100)

    assert not rows.used[1]
    assert lengths(rows, testing.job(training={"max_length": 100})).total.longest == 200


def test_the_longest_rows_are_named_by_their_place() -> None:
    found = lengths(rows_of(10, 90, 20, trained=5), testing.job())

    assert [(one.length, one.at.row) for one in found.outliers] == [(90, 2), (20, 3), (10, 1)]


@pytest.mark.parametrize(
    ("rows", "extra", "use", "shares", "said"),
    [
        (7, {}, "qlora", (4, 3), "3 to 4 rows per epoch; 1 more, outside of the loss, fills the last batch"),
        (
            7,
            {},
            "command",
            (4, 3),
            "3 to 4 rows per epoch; 1 row is repeated, if the trainer does",
        ),
        (8, {}, "qlora", (4, 4), "each GPU trains 4 rows per epoch"),
        (7, {"dataloader_drop_last": True}, "qlora", (2, 2), "2 rows per epoch; 3 rows are dropped"),
    ],
)
def test_rows_of_each_of_several_gpus_are_counted(
    rows: int, extra: dict[str, Any], use: str, shares: tuple[int, ...], said: str
) -> None:
    training = {"per_device_train_batch_size": 2, "packing": False, "extra": extra}
    one = testing.job("mapper", training=training, hardware={"count": 2}, trainer={"use": use})

    found = made(one, rows_of(*[20] * rows))

    assert found.step.shares == shares
    assert said in page(found)


def test_the_guides_accumulation_misses_its_range_and_sixteen_is_named() -> None:
    job = testing.job(
        training={
            "max_length": 768,
            "packing": True,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 8,
            **QLORA,
        },
        targets={"tokens_per_step": (32_768, 65_536), "memory_gib": 16},
        hardware={"gpu": "RTX 4090"},
    )
    found = made(job, rows_of(*[96] * 8000))

    missed = target(found, "tokens_per_step")
    assert missed.holds is False
    assert "8 -> 16" in missed.remedy
    assert found.options[0].problems
    best = next(one for one in found.options if one.role == "best")
    assert 32_768 <= best.nominal <= 65_536
    assert [one.path for one in found.changes] in (
        ["jobs.job.training.gradient_accumulation_steps"],
        ["jobs.job.training.per_device_train_batch_size"],
    )


def test_every_choice_keeps_to_the_bounds_and_the_best_is_no_slower_than_the_others() -> None:
    job = testing.job(
        training={"max_length": 1024, "packing": False, "per_device_train_batch_size": 1, **QLORA},
        targets={"tokens_per_step": (8_192, 65_536), "memory_gib": 24, "max_length": (128, 1024)},
        hardware={"gpu": "RTX 4090"},
    )
    generator = np.random.default_rng(0)
    found = made(job, rows_of(*generator.integers(40, 400, 3000).tolist(), trained=20))

    best = next(one for one in found.options if one.role == "best")
    assert best.packing
    for one in found.options[1:]:
        assert not one.problems
        assert 8_192 <= one.nominal <= 65_536
        assert one.memory.high is not None
        assert one.memory.high <= 24
        assert one.lost <= 0.01
        assert best.hours.likely is not None
        assert one.hours.likely is not None
        assert best.hours.likely <= one.hours.likely * 1.06


def test_a_larger_share_may_be_lost_only_if_that_is_stated() -> None:
    job = testing.job(
        training={"max_length": 1024, "packing": True, **QLORA},
        targets={"max_length": (64, 1024)},
        hardware={"gpu": "H100"},
    )
    rows = rows_of(*[60] * 900, *[1000] * 100, trained=10)

    strict = made(job, rows, Asked(max_lost=0.0))
    assert all(not one.lost for one in strict.options)
    with pytest.raises(StopIteration):
        next(one for one in made(job, rows, Asked(max_lost=0.01)).options if one.lost > 0.01)


def test_without_memory_and_time_nothing_larger_and_nothing_that_starves_the_gpu_is_recommended() -> None:
    job = testing.job(training={"max_length": 512, "packing": True, "per_device_train_batch_size": 4})
    found = made(job, rows_of(*[100] * 2000), model=testing.model_config(model_type="unheard-of"))

    assert not found.memory.known
    assert found.memory.why.startswith("unknown")
    assert not found.time.known
    for one in found.options[1:]:
        assert one.batch * one.length <= 4 * 512
        assert one.real / one.accumulation >= 0.75 * found.options[0].real / found.options[0].accumulation


def test_a_model_that_cannot_be_opened_takes_the_estimates_and_not_the_plan() -> None:
    job = testing.job(training={"max_length": 256})
    given = testing.inputs(
        job, broken={"model": "no config.json"}, prepared=rows_of(50, 60), machine=testing.machine()
    )
    found = plan(job, given)

    assert found.lengths.total.sequences == 2
    assert "no config.json" in found.memory.why
    assert "no config.json" in found.time.why


def page(found: JobPlan, *, verbose: bool = True) -> str:
    return "\n".join(
        f"{one.label:<9} {one.text}" for one in plan_page.lines(found) if verbose or not one.detail
    )


def test_words_that_cannot_be_counted_take_their_line_and_not_the_plan() -> None:
    job = testing.job(training={"max_length": 256})
    given = testing.inputs(
        job, broken={"role_tokens": "the file changed"}, prepared=rows_of(50, 60), machine=testing.machine()
    )
    found = plan(job, given)

    assert found.role_tokens is None
    assert "by role   not counted: the file changed" in page(found, verbose=False)


def test_a_drawn_part_and_rows_that_lose_words_are_said() -> None:
    words = RoleTokens.of(
        ["user", "assistant"] * 2, np.array([20, 30, 8, 9]), np.array([2, 2]), np.array([40, 20])
    )
    job = testing.job(training={"max_length": 256})
    shown = page(made(job, rows_of(40, 20), role_tokens=replace(words, total=500_000)), verbose=False)

    assert "user 8 (p95 20, 47 %) · assistant 9 (p95 30, 65 %) · template -4 per row (-12 %)" in shown
    assert "· from a sample of 2 rows" in shown
    assert "1 row with fewer tokens than their contents alone" in shown


def test_of_very_many_sequences_other_trainers_pack_a_drawn_part(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("ftcheck.planning.packing")
    job = testing.job(training={"max_length": 128, "packing": True})
    whole = made(job, rows_of(*[30, 90] * 100)).packing
    monkeypatch.setattr(module, "PACKED", 50)
    part = made(job, rows_of(*[30, 90] * 100))

    assert whole is not None
    assert part.packing is not None
    assert [one.sequences for one in whole.others] == [200, 200]
    for one, all_of in zip(part.packing.others, whole.others, strict=True):
        assert (one.sequences, one.total) == (50, 200)
        assert one.blocks < all_of.blocks
        assert 0.5 < one.fill <= 1
    assert "from a sample of 50 sequences" in page(part)


def test_a_job_without_rows_has_no_plan() -> None:
    with pytest.raises(InputError, match="no row is left to train on"):
        made(testing.job(), testing.prepared([]))


def test_a_target_that_lies_within_an_interval_neither_holds_nor_fails() -> None:
    job = testing.job(targets={"memory_gib": 10, "budget": 5, "deadline": "2h", "tokens_per_second": 900})
    found = made(job, rows_of(50, 60))
    inside = Figure(9.0, 9.5, 11.0, "GiB")
    hours = Figure(1.0, 1.5, 2.5, "h", rate=(500, 800, 1200))
    judged = {
        one.name: one.holds
        for one in targets(job, found.lengths, found.step, inside, hours, Figure(1.0, 2.0, 3.0), ())
    }

    assert judged == {"memory_gib": None, "budget": True, "deadline": None, "tokens_per_second": None}
    late = replace(hours, low=3.0, high=4.0)
    judged = {
        one.name: one.holds for one in targets(job, found.lengths, found.step, inside, late, inside, ())
    }
    assert judged["deadline"] is False
    assert judged["budget"] is False


def test_an_output_cap_that_cuts_answers_does_not_hold() -> None:
    job = testing.job(serving={"max_new_tokens": 256}, targets={"max_new_tokens": (128, 256)})
    found = made(job, testing.prepared([400] * 50, trained=[308] * 50))

    assert target(found, "max_new_tokens").holds is False
    assert "308" in target(found, "max_new_tokens").remedy


def test_money_is_the_price_times_the_hours_and_unknown_without_a_price() -> None:
    hours = Figure(1.0, 2.0, 4.0, "h")

    priced = planning_estimates.cost(testing.job(hardware={"price_per_hour": 0.5}), hours)
    assert (priced.low, priced.likely, priced.high) == (0.5, 1.0, 2.0)
    assert not planning_estimates.cost(testing.job(), hours).known


def test_the_written_configuration_is_taken_by_trl_peft_and_bitsandbytes_names() -> None:
    from ftcheck import tables

    job = testing.job(training={"max_length": 512, "packing": True, "output_dir": "out", **QLORA})
    config = made(job, rows_of(*[100] * 500)).config

    sections = tables.load("trainer_arguments")["sections"]
    training = dict(config["training"])
    lora, quantization = training.pop("lora"), training.pop("quantization")
    assert {"max_length", "packing", "per_device_train_batch_size"} <= set(training)
    for name, section in (("", training), (".lora", lora), (".quantization", quantization)):
        assert set(section) <= set(sections[f"training{name}"]["fields"])
    assert "packing_planner" not in training


def test_a_probe_speaks_for_the_stated_settings_and_scales_the_others() -> None:
    """The tables say that longer rows go slower; the probe, how fast the stated ones are."""
    training = {**QLORA, "max_length": 1024, "packing": True, "per_device_train_batch_size": 2}
    job = testing.job(training=training, hardware={"gpu": "L4"})
    rows = rows_of(*[500] * 400, trained=400)
    probed = Probe("NVIDIA L4", 3, 700.0, 9.0, 2, 1024)
    given: dict[str, Any] = {"machine": testing.machine(), "model": testing.model_config(**LLAMA)}

    blind = plan(job, testing.inputs(job, prepared=rows, **given))
    found = plan(job, testing.inputs(job, prepared=rows, **given), probed=probed)

    assert found.memory.likely == 9.0
    assert found.time.rate is not None
    assert found.time.rate[1] == pytest.approx(700.0)
    assert found.probe == "3 steps on NVIDIA L4, 2 x up to 1,024 tokens: 700 tokens/s, peak 9.00 GiB"
    stated, other = (next(o for o in one.options if o.role == "least memory") for one in (blind, found))
    assert stated.hours.rate is not None
    assert other.hours.rate is not None
    assert blind.time.rate is not None
    factor = stated.hours.rate[1] / blind.time.rate[1]
    assert other.hours.rate[1] == pytest.approx(700.0 * factor, rel=0.05)
    assert any("than the probed ones" in one for one in other.hours.assumes)


# --- memory of what is shown -------------------------------------------------------------------------------

UNPACKED = {"max_length": 1024, "packing": False, "per_device_train_batch_size": 1, **QLORA}


def searched(limit: float, **more: Any) -> tuple[Job, Prepared]:
    job = testing.job(
        training=UNPACKED,
        targets={"tokens_per_step": (8_192, 65_536), "memory_gib": limit, "max_length": (128, 1024)},
        hardware={"gpu": "RTX 4090"},
        **more,
    )
    generator = np.random.default_rng(0)
    return job, rows_of(*generator.integers(40, 400, 3000).tolist(), trained=20)


def test_what_is_shown_is_replayed_and_says_so() -> None:
    job, rows = searched(12)
    found = made(job, rows)

    assert len(found.options) > 2
    assert {one.memory.by for one in found.options} == {"replay"}
    assert found.largest_batch_by == "replay"
    shown = page(found)
    assert f"the largest batch that fits is {found.largest_batch} (replayed)" in shown
    assert shown.count("GiB replayed · ") == 1 + len(found.options)
    for one in found.options[1:]:
        training = replace(
            job.training,
            max_length=one.length,
            packing=one.packing,
            per_device_train_batch_size=one.batch,
            gradient_accumulation_steps=one.accumulation,
        )
        tried = replace(job, training=training)
        longest = one.length if one.packing else 399
        usual = usual_length(tried, rows.fed(one.length))
        memory = predict(tried, LLAMA, longest=longest, sequences=one.fed, usual=usual)
        assert memory.least is not None
        assert one.memory.likely == pytest.approx(memory.likely / GIB, rel=0.02)
        assert verdict(memory, 12) == "fits"


def test_far_from_the_limit_the_formulas_decide_and_say_so() -> None:
    job, rows = searched(22)
    found = made(job, rows)

    least = next(one for one in found.options if one.role == "least memory")
    assert least.memory.by == "formulas"
    assert "GiB by formulas · " in page(found)
    assert found.options[0].memory.by == "replay"


def test_settings_that_a_replay_refuses_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays that say twice as much of batches above two: nothing above is a choice."""
    job, rows = searched(12)
    asked: list[int] = []

    def heavier(job: Job, *given: Any, **named: Any) -> Memory:
        memory = predict(job, *given, **named)
        asked.append(job.training.per_device_train_batch_size)
        if asked[-1] <= 2:
            return memory
        assert memory.least is not None
        return replace(memory, high=2 * memory.high, likely=2 * memory.likely, least=memory.least.times(2))

    monkeypatch.setattr(planning_estimates, "predict", heavier)
    found = made(job, rows)

    assert max(asked) > 2
    for one in found.options[1:]:
        assert one.batch <= 2
        assert one.memory.fits(12) == "fits"
    assert found.largest_batch is not None
    assert found.largest_batch <= 2
    assert len(asked) < 25, "only what would be shown is replayed"


def test_a_probe_measures_and_needs_no_replay() -> None:
    job, rows = searched(12)
    given = testing.inputs(job, prepared=rows, machine=testing.machine(), model=testing.model_config(**LLAMA))
    found = plan(job, given, probed=Probe("NVIDIA RTX 4090", 3, 900.0, 6.5, 1, 399))

    assert {one.memory.by for one in found.options} == {"probe"}
    assert found.largest_batch_by == "probe"
    assert "(measured)" in page(found)


MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "vocab_size": 151936,
    "num_experts": 128,
    "moe_intermediate_size": 768,
}


@pytest.mark.parametrize(("limit", "fits"), [(24.0, False), (80.0, None)])
def test_where_the_memory_is_unknown_a_lower_bound_decides(limit: float, fits: bool | None) -> None:
    job, rows = searched(limit)
    job = replace(job, hardware=replace(job.hardware, gpu="A100 80GB"))
    found = made(job, rows, model=testing.model_config(**MOE))

    assert not found.memory.known
    assert found.memory.at_least == pytest.approx(54.0, abs=0.1)
    assert target(found, "memory_gib").holds is fits
    shown = page(found)
    assert "; at least 54.0 GiB" in shown
    assert (f"does not fit {limit:g} GiB" in shown) == (fits is False)
    # What does not fit as it is stated is in no other settings either.
    assert (len(found.options) == 1) == (fits is False)
    assert "does not fit 24 GiB" in found.options[0].problems or fits is None
