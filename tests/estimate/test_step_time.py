import math
import statistics

import pytest

from ftcheck import tables
from ftcheck.estimate.flops import flops
from ftcheck.estimate.gpus import Speed, card
from ftcheck.estimate.interval import Interval, between
from ftcheck.estimate.lora_targets import Adapter
from ftcheck.estimate.step_time import Execution, Load, batch_seconds, load, overhead
from ftcheck.inputs.model_shape import Decoder, model_shape
from tests.benchmarks import measured_time
from tests.benchmarks.step_time import MEASURED

SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
ADAPTER = Adapter(trained=0, ranks={"q_proj": 8}, layers=2, products=0, head=False, down_ranks=())


def decoder() -> Decoder:
    return model_shape(SMALL).decoder()


def loaded(how: Execution, adapter: Adapter | None = None, *, training: bool = True) -> Load:
    counted = flops(decoder(), adapter, positions=8, checkpointing=how.checkpointing)
    return load(decoder(), adapter, how, counted, tokens=10, longest=16, training=training)


def speed() -> Speed:
    found = card("A100 80GB")
    assert found is not None
    assert found.speed is not None
    return found.speed


def test_what_a_layer_moves_by_hand() -> None:
    # Norms 2 x 64 numbers at 4 x 2 + 28 bytes, residuals 6, rotary 9 for 64 + 32, gate 5 for 128, at 2 bytes.
    layer = 2 * 64 * (4 * 2 + 28) + 2 * (6 * 64 + 9 * 96 + 5 * 128)
    # Three passes, the backward one counts twice; two layers; tiles of 100 logits at 8 bytes.
    assert loaded(Execution()).moved == 10 * (4 * 2 * layer + 100 * 8)
    assert loaded(Execution(checkpointing=False)).moved == 10 * (3 * 2 * layer + 100 * 8)
    # The adapter on q_proj, 64 x 64, in 16 bits: 12 bytes a number of the output, 2 of the input, and 5 with
    # dropout.
    adapted = loaded(Execution(dropout=True), ADAPTER).moved - loaded(Execution(), None).moved
    assert adapted == 10 * 4 * 2 * 64 * (12 + 2 + 5)
    # Scores of 4 heads and 16 positions.
    eager = loaded(Execution(eager=True)).moved - loaded(Execution()).moved
    assert eager == 10 * 4 * 2 * 4 * 16 * (8 + 3 * 2)


def test_quantised_weights_are_written_out_once_a_pass() -> None:
    assert loaded(Execution(quantised=True)).unpacked == 3 * decoder().linear_weights * 2.5625
    assert loaded(Execution(quantised=True), training=False).unpacked == decoder().linear_weights * 2.5625
    assert loaded(Execution()).unpacked == 0


def test_a_float32_stream_computes_head_and_attention_in_float32() -> None:
    counted = {
        one.name: 10 * one.training for one in flops(decoder(), None, positions=8, checkpointing=True).parts
    }
    found = loaded(Execution(stream=4))
    assert found.single == counted["head"]
    assert (found.attention, found.attention_bytes) == (counted["attention"], 4)
    eager = loaded(Execution(stream=4, eager=True))
    assert (eager.single, eager.attention) == (counted["head"] + counted["attention"], 0)
    assert loaded(Execution()).half == counted["base"] + counted["adapter"] + counted["head"]


def test_seconds_of_a_batch_by_hand() -> None:
    one = Load(1e15, 1e12, 1e13, 2, 1e11, 1e10, 96)
    found = batch_seconds((one, one, one), speed())
    # A100 80GB: 74 % of 312 TFLOP/s, 65 % of 19.5 in float32, 1987 GB/s of which 75 % and 38 % are reached.
    rate = 0.74 * 312e12
    by_hand = (
        1e15 / rate + 1e12 / (0.65 * 19.5e12) + 1.3 * 1e13 / rate + 100 / (0.75 * 1987) + 10 / (0.38 * 1987)
    )
    assert found.likely == pytest.approx(by_hand)
    assert found.low < found.likely < found.high


def test_a_batch_takes_at_least_what_its_kernels_take_to_start() -> None:
    one = Load(1e9, 0, 0, 2, 0, 0, 96)
    start = overhead("launch_ms")
    found = batch_seconds((one, one, one), speed())
    assert (found.low, found.high) == pytest.approx((96 * start.low / 1000, 96 * start.high / 1000))


def test_an_interval_for_one_of_two_numbers() -> None:
    one = Interval(0.5, 1.0, 2.0)
    assert between(one) == one
    found = between(one, one.times(4))
    assert found.likely == pytest.approx(2)
    # Both spreads are a factor of 2, and their squares add up.
    assert found.high == pytest.approx(2 * math.exp(math.log(2) * math.sqrt(2)))
    assert found.low == pytest.approx(2 / math.exp(math.log(2) * math.sqrt(2)))


@pytest.mark.realdata
@pytest.mark.parametrize("as_trl", [False, True], ids=["as they compute", "as TRL"])
@pytest.mark.parametrize(("name", "count"), [("T4", 37), ("A100", 31), ("L40S", 3)])
def test_measured_steps_lie_in_the_interval(name: str, count: int, as_trl: bool) -> None:
    rows = [one for one in measured_time.rows(MEASURED) if one.known and one.name == name]
    assert len(rows) == count
    found = [measured_time.judged(one, as_trl=as_trl) for one in rows]
    assert sum(one.inside for one in found) >= 0.9 * count
    assert statistics.median(one.said.high / one.said.low for one in found) <= 2.5
    assert statistics.median(abs(one.error) for one in found) <= (0.25 if as_trl else 0.12)


@pytest.mark.realdata
def test_rows_of_a_model_that_the_rates_were_not_fitted_to_lie_in_the_interval() -> None:
    rows = [one for one in measured_time.rows(MEASURED) if one.known and one.name == "A100"]
    found = measured_time.held_out(rows, lambda one: one.group)
    assert sum(one.inside for one in found) >= 0.85 * len(found)


def test_every_number_of_the_tables_says_where_it_is_from() -> None:
    table = tables.load("training_speed")
    assert all(one["what"] for kind in ("overheads", "traffic") for one in table[kind].values())
