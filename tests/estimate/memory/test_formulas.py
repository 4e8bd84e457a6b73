"""The memory model: stored bytes, and what an estimate adds up."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.estimate.memory.formulas import (
    estimate,
    quantised_bytes,
)
from ftcheck.estimate.memory.shapes import Method
from ftcheck.inputs.model_shape import Linear
from tests.estimate.memory.kit import NF4, SMALL, a_job, known, llama

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


# --- dimensions ----------------------------------------------------------------------------------------


# --- stored bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("double", [True, False])
def test_stored_bytes_are_those_that_bitsandbytes_allocates(double: bool) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes.functional")
    rows, columns = 1024, 768
    packed, state = functional.quantize_4bit(
        torch.randn(rows, columns, dtype=torch.bfloat16), quant_type="nf4", compress_statistics=double
    )
    held = [packed, state.absmax, state.code]
    held += [state.offset, state.state2.absmax, state.state2.code] if double else []
    shape = replace(llama(), layers=1)
    one = Linear("self_attn", "q_proj", columns, rows)
    assert sum(t.numel() * t.element_size() for t in held) == _stored(one, Method(double=double))
    a_weight = quantised_bytes(shape, Method(double=double)) / sum(m.weights for m in shape.linears)
    assert a_weight == pytest.approx(0.51593 if double else 0.5625, abs=1e-4)


def _stored(one: Linear, how: Method) -> float:
    from ftcheck.estimate.memory import formulas

    return formulas._stored(one, how)


# --- two ways ------------------------------------------------------------------------------------------


# --- the estimate --------------------------------------------------------------------------------------


def test_parts_add_up_and_the_interval_is_in_order() -> None:
    made = estimate(a_job(), known("Meta-Llama-3-8B-Instruct"), longest=2048)
    assert sum(made.parts.values()) == pytest.approx(made.likely)
    assert made.low < made.likely < made.high
    assert made.allocated.low < made.allocated.likely < made.allocated.high
    assert made.parts["weights"] == pytest.approx(0.51593 * 6_979_321_856, rel=1e-4)
    assert made.assumptions


def test_the_interval_of_what_torch_counts_is_within_ten_percent_for_known_models() -> None:
    for name in tables.load("architectures")["models"]:
        for batch, checkpointing in ((1, True), (8, True), (4, False)):
            tried = a_job(
                per_device_train_batch_size=batch, gradient_checkpointing=checkpointing, packing=True
            )
            made = estimate(tried, known(name), longest=2048).allocated
            assert made.high <= 1.10 * made.likely
            assert made.low >= 0.90 * made.likely


def test_memory_grows_with_each_thing_that_costs() -> None:
    def likely(**training: Any) -> float:
        return estimate(a_job(**training), known("Meta-Llama-3-8B-Instruct"), longest=1024).likely

    plain = likely()
    assert likely(per_device_train_batch_size=8) > plain
    assert likely(gradient_checkpointing=False) > 2 * plain
    assert likely(extra={"label_smoothing_factor": 0.1}) > plain
    assert likely(quantization={**NF4, "bnb_4bit_use_double_quant": False}) > plain
    assert likely(quantization=None) > plain + 6.9e9
    assert likely(optim="paged_adamw_32bit") > plain > likely(optim="paged_adamw_8bit")
    assert likely(lora={"r": 64, "target_modules": "all-linear"}) > plain
    assert (
        likely(lora={"r": 16, "target_modules": "all-linear", "modules_to_save": ("lm_head",)}) > plain + 3e9
    )


def test_a_model_type_that_was_not_looked_at_widens_the_interval() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    sure = estimate(a_job(), config, longest=2048)
    unsure = estimate(a_job(), {**config, "model_type": "novel"}, longest=2048)
    assert unsure.allocated.high - unsure.allocated.low > 2 * (sure.allocated.high - sure.allocated.low)
    assert unsure.likely == sure.likely
    assert any("novel" in words for words in unsure.assumptions)


def test_the_program_of_another_trainer_widens_the_upper_end() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    from ftcheck.settings import TrainerChoice

    ours = estimate(a_job(), config, longest=2048)
    theirs = estimate(a_job(trainer=TrainerChoice(use="command", argv=("x",))), config, longest=2048)
    assert theirs.high > ours.high + 1.9e9
    assert theirs.likely == ours.likely


# --- what to do ----------------------------------------------------------------------------------------


def test_the_formulas_import_nothing_heavy_and_take_no_time() -> None:
    code = (
        "import sys, time, json; from ftcheck.testing import job;"
        "from ftcheck.estimate.memory.formulas import estimate;"
        "from ftcheck.settings import Lora;"
        f"c = json.loads({json.dumps(json.dumps(SMALL))}); start = time.perf_counter();"
        "estimate(job(training={'lora': Lora()}), c, longest=512); took = time.perf_counter() - start;"
        "print(json.dumps([took, [m for m in ('torch', 'transformers', 'numpy') if m in sys.modules]]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    took, heavy = json.loads(out)
    assert heavy == []
    assert took < 1
