"""What one of eight GPUs holds of Llama-3-8B under QLoRA, counted by hand.

Linear layers: 32 x 218,103,808 = 6,979,321,856 weights, half a byte each packed; their scales are no
parameters, and stay whole. Embedding and head: 128,256 x 4,096 in 16 bits each. Adapter: 41,943,040 numbers.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck.estimate.memory.formulas import Memory, estimate
from ftcheck.estimate.memory.shapes import CannotTell
from tests.estimate.memory.kit import NF4, a_job, known

LAYER, TABLE, ADAPTER = 109_051_904, 1_050_673_152, 41_943_040
PACKED = 32 * LAYER
PLAIN = 2 * TABLE + 2 * 266_240
FLOATING = {**NF4, "bnb_4bit_quant_storage": "bfloat16"}


def memory(count: int, extra: dict[str, Any] | None = None, **training: Any) -> Memory:
    given = {"quantization": FLOATING, "extra": extra or {}, **training}
    job = a_job(hardware={"count": count}, **given)
    return estimate(job, known("Meta-Llama-3-8B-Instruct"), longest=2048)


ALONE = memory(1)


def zero(stage: int, **more: Any) -> dict[str, Any]:
    return {"deepspeed": {"zero_optimization": {"stage": stage, **more}}}


def test_one_gpu_is_left_as_it_is() -> None:
    assert memory(1, {"ddp_timeout": 60}) == ALONE


def test_each_ddp_process_has_the_whole_model_and_its_gradients_once_more_in_buckets() -> None:
    found = memory(8)

    assert {**found.parts, "buckets": 0} == {**ALONE.parts, "buckets": 0}
    assert found.parts["buckets"] == 2 * ADAPTER
    assert found.likely == pytest.approx(ALONE.likely + 2 * ADAPTER)
    assert any("every GPU has the whole model (DDP)" in one for one in found.assumptions)


def test_fsdp2_shards_what_is_stored_in_floats_and_gathers_two_layers_and_the_head() -> None:
    found = memory(8, {"fsdp": True})

    assert found.parts["weights"] == pytest.approx(ALONE.parts["weights"] - PACKED * 7 / 8)
    assert found.parts["unquantised"] == pytest.approx(PLAIN / 8)
    assert found.parts["adapter"] == pytest.approx(2 * ADAPTER / 8)
    assert found.parts["gradients"] == 2 * ADAPTER  # whole between the batches of a step (no_sync)
    assert found.parts["optimizer"] == pytest.approx(4 * ADAPTER / 8)
    assert found.parts["gathered"] == pytest.approx(2 * LAYER + TABLE)
    assert found.parts["activations"] == ALONE.parts["activations"]
    assert found.likely == pytest.approx(sum(found.parts.values()))
    assert memory(8, {"fsdp": True}, gradient_accumulation_steps=1).parts["gradients"] == pytest.approx(
        ADAPTER / 8
    )


def test_a_quantised_base_is_whole_on_each_gpu_while_it_loads() -> None:
    """Of Llama-3-70B 34 GiB in 4-bit; a sixty-fourth of it is less than half a GiB."""
    job = a_job(hardware={"count": 64}, quantization=FLOATING, extra={"fsdp": True})
    config = {**known("Meta-Llama-3-8B-Instruct"), "num_hidden_layers": 80, "hidden_size": 8192}
    config |= {"intermediate_size": 28672, "num_attention_heads": 64}

    found = estimate(job, config, longest=64)

    alone = estimate(a_job(quantization=FLOATING), config, longest=64).parts
    whole = alone["weights"] + alone["unquantised"] + alone["context"]
    assert found.likely == pytest.approx(whole)
    assert found.likely == pytest.approx(sum(found.parts.values()))
    assert found.parts["loading"] > 0
    assert found.low < whole < found.high
    assert any("whole on each GPU while it loads" in one for one in found.assumptions)


def test_fsdp2_leaves_4_bit_weights_in_bytes_whole() -> None:
    found = memory(8, {"fsdp": True}, quantization=NF4)

    assert found.parts["weights"] == ALONE.parts["weights"]
    assert found.parts["unquantised"] == pytest.approx(PLAIN / 8)
    assert any("stored as uint8 are not sharded" in one for one in found.assumptions)


def test_weights_that_are_not_resharded_after_the_forward_pass_are_all_there() -> None:
    found = memory(8, {"fsdp": True, "fsdp_config": {"reshard_after_forward": False}})

    assert found.parts["gathered"] == pytest.approx(PACKED + PLAIN)


def test_zero_2_shards_the_optimizer_with_its_master_copy_and_no_weights() -> None:
    found = memory(8, zero(2))

    assert found.parts["weights"] == ALONE.parts["weights"]
    assert found.parts["gradients"] == pytest.approx(2 * ADAPTER / 8)
    assert found.parts["optimizer"] == pytest.approx(12 * ADAPTER / 8)
    assert "gathered" not in found.parts


def test_zero_3_gathers_as_much_as_deepspeed_keeps_alive() -> None:
    found = memory(8, zero(3))
    fewer = memory(8, zero(3, stage3_max_live_parameters=100_000_000, stage3_max_reuse_distance=0))

    assert found.parts["weights"] == pytest.approx(ALONE.parts["weights"] - PACKED * 7 / 8)
    assert found.parts["gathered"] == pytest.approx(
        (LAYER + 2e9) / 2
    )  # from a layer to 1e9 numbers of 2 bytes
    assert fewer.parts["gathered"] == pytest.approx((LAYER + 1e8 * 2) / 2)
    assert fewer.likely < found.likely


def test_what_is_offloaded_takes_no_gpu_memory() -> None:
    found = memory(8, zero(3, offload_optimizer={"device": "cpu"}, offload_param={"device": "cpu"}))

    assert found.parts["optimizer"] == 0
    assert found.parts["unquantised"] == 0


def test_the_interval_is_wider_than_that_of_one_gpu_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    file.write_text(json.dumps(zero(3)["deepspeed"]), encoding="utf-8")

    found = memory(8, {"deepspeed": str(file)})

    assert found.parts == memory(8, zero(3)).parts
    assert found.low < found.likely < found.high
    assert found.high / found.low > ALONE.high / ALONE.low
    assert any("not measured on several GPUs: 15 % wider" in one for one in found.assumptions)
    assert not any("whole model (DDP)" in one for one in found.assumptions)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"deepspeed": "none.json"}, "none.json cannot be read"),
        ({"deepspeed": {"tensor_parallel": {"autotp_size": 2}}}, "tensor_parallel"),
        ({"fsdp": True, "fsdp_config": {"xla": True}}, "xla"),
        ({"fsdp": True, "fsdp_config": {"version": 1}}, "FSDP1"),
        ({"deepspeed": {"zero_optimization": {"stage": "auto"}}}, "stage is none of 0, 1, 2 and 3"),
        ({"deepspeed": {"zero_optimization": 3}}, "stage is none of 0, 1, 2 and 3"),
    ],
)
def test_what_is_not_modelled_is_unknown(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotTell, match=words):
        memory(8, extra)
