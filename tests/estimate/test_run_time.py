from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.run_time import (
    Duration,
    Evaluation,
    estimate,
    gpu_name,
    moment,
    seconds_left,
)
from ftcheck.estimate.step_time import Execution
from ftcheck.inputs.model_shape import Decoder, model_shape
from ftcheck.testing import gpu, job

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
TABLE = tables.load("training_speed")
LLAMA = TABLE["shapes"]["Llama-3.1-8B"]
QLORA: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 16,
    "lora": {"r": 16, "target_modules": "all-linear"},
    "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
}


def shape(config: dict[str, Any]) -> Decoder:
    return model_shape(config).decoder()


def made(
    training: dict[str, Any] | None = None,
    hardware: dict[str, Any] | None = None,
    *,
    config: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **given: Any,
) -> Duration:
    one = job(
        training={**QLORA, **(training or {})},
        hardware={"gpu": "RTX 4090"} if hardware is None else hardware,
        trainer=trainer or {"use": "qlora"},
    )
    stated: dict[str, Any] = {"steps": 63, "tokens_per_step": 49_152, "longest": 768}
    return estimate(one, LLAMA if config is None else config, **{**stated, **given})


def hours(found: Duration) -> Interval:
    assert found.hours is not None, found.problem
    return found.hours


def pace(found: Duration) -> Interval:
    assert found.tokens_per_second is not None, found.problem
    return found.tokens_per_second


def stated(point: dict[str, Any], trainer: dict[str, Any] | None = None) -> Interval:
    """Tokens a second of a public measurement's settings."""
    training = {
        "per_device_train_batch_size": point["batch"],
        "gradient_accumulation_steps": point["accumulation"],
        "lora": {"r": point["r"], "target_modules": "all-linear"},
        "quantization": None if point["method"] == "lora" else QLORA["quantization"],
    }
    found = made(
        training,
        {"gpu": point["gpu"]},
        config=TABLE["shapes"][point["model"]],
        trainer=trainer,
        steps=100,
        tokens_per_step=point["batch"] * point["accumulation"] * point["length"],
        longest=point["length"],
    )
    return pace(found)


QWEN = [one for one in TABLE["measured"] if one["source"].startswith("QwenLM") and one["method"] == "lora"]
TORCHTUNE = [one for one in TABLE["measured"] if "torchtune" in one["source"]]


@pytest.mark.parametrize("point", QWEN, ids=lambda p: f"{p['gpu']}-{p['model']}-{p['length']}")
def test_public_measurements_lie_in_the_interval(point: dict[str, Any]) -> None:
    got = stated(point)
    assert got.low <= point["tokens_per_second"] <= got.high
    assert got.low < got.likely < got.high
    assert got.high < 2.5 * got.low


@pytest.mark.parametrize("point", TORCHTUNE, ids=lambda p: f"{p['gpu']}-{p['model']}-{p['method']}")
def test_compiled_programs_lie_in_the_interval_of_a_command(point: dict[str, Any]) -> None:
    got = stated(point, {"use": "command", "argv": ("tune", "run")})
    assert got.likely < point["tokens_per_second"] <= got.high


def test_a_batch_adds_up() -> None:
    # One step of one batch without quantisation: twice the tokens take twice as long, less the optimizer.
    once, twice = (
        made(
            {"quantization": None, "gradient_accumulation_steps": 1},
            steps=1,
            tokens_per_step=tokens,
            longest=4096,
        )
        for tokens in (32_768, 65_536)
    )
    optimizer = 41_943_040 * 24 / 1008e9
    more = twice.seconds["training"].likely - once.seconds["training"].likely
    assert once.seconds["training"].likely == pytest.approx(more + optimizer, rel=1e-9)


def test_dequantisation_is_three_passes_over_the_base() -> None:
    one: dict[str, Any] = {"steps": 1, "tokens_per_step": 65_536, "longest": 1024}
    quantised, plain = made(**one), made({"quantization": None}, **one)

    more = quantised.seconds["training"].likely - plain.seconds["training"].likely
    by_hand = 16 * 3 * shape(LLAMA).linear_weights * 2.5625 / (0.38 * 1008e9)
    assert more == pytest.approx(by_hand, rel=1e-6)


def test_few_tokens_take_as_long_as_their_kernels_take_to_start() -> None:
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "quantization": None}
    config = TABLE["shapes"]["Qwen-1.8B"]
    ones = [
        made(small, config=config, steps=1, tokens_per_step=n, longest=n).seconds["training"].likely
        for n in (16, 32)
    ]
    assert ones[0] == pytest.approx(ones[1])
    assert ones[0] == pytest.approx(24 * 3 * 1.75e-3, rel=0.02)


def test_liger_may_be_faster_and_is_never_slower() -> None:
    plain, liger = made(), made({"extra": {"use_liger_kernel": True}})
    assert hours(liger).low < hours(plain).low / 1.2
    assert hours(liger).high == hours(plain).high
    assert any("fused kernels" in one for one in liger.assumes)


def test_a_t4_is_between_trls_way_and_that_of_the_runs_that_were_measured() -> None:
    four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}
    half = {"fp16": True, "bf16": False, "quantization": four}
    found = made(half, {"gpu": "T4"}, steps=1, tokens_per_step=65_536, longest=1024)
    assert any("37 steps of transformers" in one for one in found.assumes)
    assert any("TRL was not measured on GPUs without bfloat16" in one for one in found.assumes)
    ways = [
        made(half, {"gpu": "T4"}, steps=1, tokens_per_step=65_536, longest=1024, execution=how)
        for how in (Execution(quantised=True), Execution(quantised=True, stream=4, adapter=4))
    ]
    fast, slow = (one.seconds["training"].likely for one in ways)
    assert fast < found.seconds["training"].likely < slow


def test_what_makes_a_run_longer() -> None:
    plain = hours(made()).likely

    assert hours(made(padding=0.5)).likely > 1.5 * plain
    assert hours(made(steps=126)).likely > 1.5 * plain
    assert hours(made({"gradient_checkpointing": False})).likely < plain
    assert hours(made(evaluation=Evaluation(10, 100_000.0, 40, 768))).likely > plain
    assert hours(made(saves=10, checkpoint_bytes=10**9)).likely == pytest.approx(plain + 10 * 2 / 3600)
    assert hours(made(saves=10, checkpoint_bytes=10**9)).low < hours(made()).high


def test_trl_makes_logits_of_trained_tokens_only() -> None:
    some, every = made(trained=0.25), made()
    assert some.flops is not None
    assert every.flops is not None
    # Forward twice and the gradient of its input: 6 a weight of the head, for a quarter of the tokens.
    assert every.flops.training - some.flops.training == pytest.approx(0.75 * 6 * shape(LLAMA).table)
    assert hours(some).high == hours(every).high
    program = {"use": "command", "argv": ("axolotl",)}
    assert hours(made(trained=0.25, trainer=program)).likely == hours(made(trainer=program)).likely


def test_padding_is_computed_and_not_counted() -> None:
    padded, full = made(padding=0.5), made()
    assert padded.tokens == full.tokens == 63 * 49_152
    assert pace(padded).likely < 0.65 * pace(full).likely


def test_weights_that_are_gathered_for_each_batch_take_time_unless_it_is_hidden() -> None:
    """By hand: 3,489,660,928 bytes in 4-bit layers, 2,101,878,784 beside them; 7/8 of both come twice."""
    hardware = {"gpu": "A100 80GB", "count": 8}
    stored = {"quantization": {**QLORA["quantization"], "bnb_4bit_quant_storage": "bfloat16"}}
    training = {**stored, "extra": {"fsdp": True}}
    moved = 2 * 7 / 8 * (3_489_660_928 + 2_101_878_784) * 16 * 63 / 1e9
    slow, likely, fast = TABLE["overheads"]["gathered_gb_per_s"]["value"]

    alone, shared = made(stored, hardware), made(training, hardware)

    added = [
        getattr(shared.seconds["training"], end) - getattr(alone.seconds["training"], end)
        for end in ("low", "likely", "high")
    ]
    assert added == pytest.approx([0.0, moved / likely, moved / slow], rel=1e-3)
    assert fast > likely > slow
    assert any("weights are gathered for each batch" in one for one in shared.assumes)
    assert made({"extra": {"deepspeed": "none.json"}}, hardware).problem.startswith("training.deepspeed")


def test_devices_share_the_rows_and_lose_some_speed() -> None:
    one = made()
    four = made(hardware={"gpu": "RTX 4090", "count": 4}, tokens_per_step=4 * 49_152)

    # As many tokens on each device as on the one, at 92 % of its speed (70 to 100).
    assert four.seconds["training"].likely == pytest.approx(one.seconds["training"].likely / 0.92)
    assert four.seconds["training"].low == pytest.approx(one.seconds["training"].low)
    assert four.seconds["training"].high == pytest.approx(one.seconds["training"].high / 0.70)
    assert any("4 GPUs" in said for said in four.assumes)


def test_cost_is_hours_times_the_price() -> None:
    found = made(hardware={"gpu": "RTX 4090", "price_per_hour": 0.4})
    assert found.cost is not None
    assert found.cost.likely == pytest.approx(0.4 * hours(found).likely)
    assert made().cost is None


def test_another_program_widens_the_interval() -> None:
    other = made(trainer={"use": "command", "argv": ("axolotl",)})
    assert pace(other).high > 1.5 * pace(made()).high
    assert pace(other).low < pace(made()).low
    assert any("at most twice as fast as TRL" in one for one in other.assumes)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hardware": {}}, "this machine has no GPU, and hardware.gpu is not set"),
        ({"hardware": {"gpu": "MI300X"}}, "unknown speed: MI300X is not in"),
        ({"hardware": {"gpu": "A1000"}}, "unknown speed: A1000 is not in"),
        ({"hardware": {"gpu": "T4"}}, "T4 has no bfloat16 units"),
        ({"config": {"model_type": "mamba"}}, "the architecture 'mamba' is unknown"),
        ({"training": {"quantization": {"load_in_8bit": True}}}, "8-bit weights"),
        ({"training": {"quantization": {"load_in_4bit": True}}}, "4-bit layers compute in float32"),
        ({"training": {"bf16": False}}, "training computes in float32"),
        ({"training": {"lora": {"r": 8, "use_dora": True}}}, "DoRA"),
    ],
)
def test_what_is_not_known_gives_no_number(given: dict[str, Any], why: str) -> None:
    found = made(given.pop("training", None), given.pop("hardware", None), **given)
    assert why in found.problem
    assert (found.hours, found.tokens_per_second, found.cost) == (None, None, None)


def test_a_measurement_takes_the_place_of_the_tables() -> None:
    found = made(hardware={}, config={"model_type": "mamba"}, measured=1000.0)
    start = found.seconds["start"].likely
    assert hours(found).likely == pytest.approx((63 * 49_152 / 1000 + start) / 3600)
    assert pace(found).likely == pytest.approx(1000)
    assert 940 < pace(found).low < 1000 < pace(found).high < 1060
    assert found.measured


def test_the_gpu_is_the_stated_one_before_this_machines() -> None:
    assert gpu_name(job(hardware={"gpu": "L4"}), (gpu("H100"),)) == "L4"
    assert gpu_name(job(), (gpu("NVIDIA H100"),)) == "NVIDIA H100"
    assert gpu_name(job(), ()) is None


@pytest.mark.parametrize(
    ("deadline", "left"),
    [
        ("8h", 8),
        ("1h30m", 1.5),
        ("07:00", 9),
        ("23:00", 1),
        ("22:00", 24),
        ("2026-11-23", 26),
        ("2026-11-23T06:00", 8),
        ("2026-11-23T06:00+02:00", 6),
        ("2026-11-22T20:00", -2),
    ],
)
def test_a_deadline_is_a_duration_or_a_time(deadline: str, left: float) -> None:
    assert seconds_left(deadline, NOW) / 3600 == left


def test_times_without_a_zone_are_those_of_now() -> None:
    there = datetime(2026, 11, 22, 22, 0, tzinfo=timezone(timedelta(hours=-8)))
    assert seconds_left("2026-11-23T06:00", there) / 3600 == 8


def test_nonsense_is_no_deadline() -> None:
    with pytest.raises(ValueError, match="neither a duration nor a time"):
        moment("soon", NOW)
