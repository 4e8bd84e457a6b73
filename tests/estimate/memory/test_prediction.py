"""A job's prediction: shorter batches before the longest, what every path of it assumes, how wide it is."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import InputError
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory import prediction
from ftcheck.estimate.memory.fit import worst
from ftcheck.estimate.memory.formulas import GIB, Memory, estimate
from ftcheck.estimate.memory.prediction import ALIKE, predict, scale, scaled
from ftcheck.importers import importing
from ftcheck.inputs.machine import Gpu, Machine
from ftcheck.settings import Job, TrainerChoice
from tests.estimate.memory.kit import SMALL, a_job, known
from tests.estimate.memory.test_frameworks import AXOLOTL, FACTORY

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
pytest.importorskip("torch")
pytest.importorskip("transformers")

LLAMA = known("Meta-Llama-3-8B-Instruct")
A100 = {"gpu": "A100 80GB"}
COMMAND = TrainerChoice(use="command", argv=("python", "train.py"))
TRL = "model_name_or_path: m\ndataset_name: d\nuse_peft: true\n"


def width(made: Memory) -> float:
    return (made.high - made.low) / made.likely


# --- shorter batches first -------------------------------------------------------------------------------


@pytest.mark.parametrize("usual", [500, 1500])
def test_gaps_that_a_shorter_batch_leaves_are_counted(usual: int) -> None:
    """Its blocks are cached in sizes that the longest batch's do not fit into."""
    job = a_job(gradient_checkpointing=False, hardware=A100)
    alone = predict(job, LLAMA, longest=2048)
    after = predict(job, LLAMA, longest=2048, usual=usual)

    assert after.allocated.likely == pytest.approx(alone.allocated.likely, rel=1e-4)
    assert after.likely > alone.likely + 2 * GIB
    assert after.least is not None
    assert alone.least is not None
    # PyTorch gives some of it back before it goes out of memory, not all.
    assert alone.least.likely < after.least.likely < after.likely


def test_the_interval_holds_both_orders() -> None:
    for changes in ({}, {"extra": {"model_init_kwargs": {"attn_implementation": "eager"}}}):
        job = a_job(hardware=A100, **changes)
        alone = predict(job, LLAMA, longest=2048)
        after = predict(job, LLAMA, longest=2048, usual=700)
        assert after.low <= min(alone.low, after.likely)
        assert after.high >= alone.high
        assert after.least is not None
        assert alone.least is not None
        assert after.least.likely >= 0.99 * alone.least.likely


def test_the_batch_before_is_told_and_part_of_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.estimate.memory import unroll

    asked: list[int] = []
    real = unroll.whole_step

    def noted(config: Any, program: Any, feed: Any) -> Any:
        asked.append(feed.length)
        return real(config, program, feed)

    monkeypatch.setattr(unroll, "whole_step", noted)
    monkeypatch.setattr(prediction, "_REPLAYED", {})
    made = predict(a_job(), SMALL, longest=640, usual=320)
    assert made.assumptions[-1] == "fed before it: a batch of 4 x 320 tokens"
    assert predict(a_job(), SMALL, longest=640, usual=320) == made
    assert sorted(asked) == [320, 640]
    predict(a_job(), SMALL, longest=640, usual=384)
    assert sorted(asked) == [320, 384, 640, 640]


def test_where_all_batches_are_alike_nothing_is_fed_before() -> None:
    packed = a_job(packing=True)
    for job, usual in ((a_job(), 640), (packed, 100)):
        made = predict(job, SMALL, longest=640, usual=usual)
        assert made == predict(job, SMALL, longest=640)
        assert not any("fed before" in one for one in made.assumptions)


# --- what a prediction assumes -----------------------------------------------------------------------------

BASICS = ("worst batch: ", "attention by ", " in 4-bit", "for the backward pass")
REPLAYED, FORMULAS = "replayed through PyTorch's allocator, on ", "by formulas"


def of_file(text: str, framework: str, folder: Path, **given: Any) -> Job:
    file = folder / "run.yaml"
    file.write_text(text)
    found = importing.read(framework, file, folder=folder)
    assert found.imported is not None, found.problems
    job = a_job(trainer=COMMAND, hardware=A100, **given)
    object.__setattr__(job, "imported", found.imported)
    return job


def made(job: Job, **given: Any) -> Memory:
    return predict(job, given.pop("config", SMALL), longest=512, **given)


WINDOWS = Machine("Windows", 4, 1 << 34)
UNKNOWN_TYPE = {**SMALL, "model_type": "novel"}
GRANITE = {**SMALL, "model_type": "granite", "residual_multiplier": 0.22}
PATHS: Mapping[str, tuple[Callable[[Path], Memory], tuple[str, ...]]] = {
    "qlora": (
        lambda _: made(a_job(hardware=A100)),
        (f"{REPLAYED}A100 80GB", "without full logits", "adamw_torch_fused"),
    ),
    "shorter first": (lambda _: made(a_job(), usual=200), (REPLAYED, "fed before it: a batch of 4 x 200")),
    "no card": (lambda _: made(a_job()), (f"{REPLAYED}an unknown GPU", "this kind of GPU was measured")),
    "unknown card": (
        lambda _: made(a_job(hardware={"gpu": "Quantum 9"})),
        (f"{REPLAYED}an unknown GPU", "this kind of GPU was measured"),
    ),
    "card nobody measured": (
        lambda _: made(a_job(hardware={"gpu": "RTX 4090"})),
        (f"{REPLAYED}RTX 4090", "no run on this kind of GPU was measured"),
    ),
    "unmeasured family": (
        lambda _: made(a_job(), config=GRANITE),
        (REPLAYED, "model_type granite were not measured"),
    ),
    "unknown family": (lambda _: made(a_job(), config=UNKNOWN_TYPE), (FORMULAS, "novel", "+-25 %")),
    "TRL's configuration": (
        lambda folder: made(of_file(TRL, "trl", folder)),
        (REPLAYED, "the configuration is TRL's"),
    ),
    "axolotl": (
        lambda folder: made(of_file(AXOLOTL, "axolotl", folder)),
        (REPLAYED, "axolotl", "not measured", "adapter in float32", "full logits", "expandable_segments"),
    ),
    "LLaMA-Factory": (
        lambda folder: made(of_file(FACTORY, "llama-factory", folder)),
        (REPLAYED, "LLaMA-Factory", "not measured", "adapter in float32", "the full logits are allocated"),
    ),
    "kernels of its own": (
        lambda folder: made(of_file(f"{FACTORY}use_unsloth: true\n", "llama-factory", folder)),
        (REPLAYED, "does is unknown", "the upper end full logits"),
    ),
    "unknown program": (
        lambda _: made(a_job(trainer=COMMAND)),
        (REPLAYED, "what the trainer 'command' does is unknown", "the upper end full logits"),
    ),
    "unknown program and family": (
        lambda _: made(a_job(trainer=COMMAND), config=UNKNOWN_TYPE),
        (FORMULAS, "what the trainer 'command' does is unknown"),
    ),
    "lighter kernels": (
        lambda _: made(a_job(extra={"use_liger_kernel": True})),
        (REPLAYED, "Liger's or compiled kernels may keep less"),
    ),
    "Windows": (lambda _: made(a_job(), machine=WINDOWS), (REPLAYED, "no Triton on Windows")),
    "several GPUs": (
        lambda _: made(a_job(hardware={"gpu": "A100 80GB", "count": 2})),
        (REPLAYED, "every GPU has the whole model"),
    ),
    "far from the limit": (
        lambda _: worst(a_job(), SMALL, 500, longest=512)[0],
        ("by formulas: the limit is 2 times away",),
    ),
    "scaled": (
        lambda _: scaled(estimate(a_job(), SMALL, longest=512), Interval(0.9, 1.0, 1.1)),
        ("by formulas, scaled to a replayed step",),
    ),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_prediction_names_its_assumptions(path: str, tmp_path: Path) -> None:
    make, words = PATHS[path]
    found = make(tmp_path)
    for one in (*BASICS, *words):
        assert any(one in said for said in found.assumptions), f"{one}: {found.assumptions}"
    assert len(set(found.assumptions)) == len(found.assumptions)
    # It was the one or the other, and says so.
    assert (found.least is not None) == any(REPLAYED in said for said in found.assumptions)
    assert (found.least is None) == any("by formulas" in said for said in found.assumptions)


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_libraries_the_formulas_say_so(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    found = made(a_job())
    assert found.least is None
    assert found.assumptions[-1] == f"by formulas, not by a replayed step: {missing} is not installed"
    assert all(any(one in said for said in found.assumptions) for one in BASICS)


@pytest.mark.parametrize(
    "error", [InputError("a branch"), RuntimeError("a branch\nmore"), TypeError("a branch")]
)
def test_a_step_that_cannot_be_traced_says_so(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def untraceable(*_: Any) -> None:
        raise error

    monkeypatch.setattr(prediction, "replayed", untraceable)
    found = made(a_job())
    assert found.least is None
    assert found.assumptions[-1] == "by formulas: a step of this model could not be traced (a branch)"


# --- how wide it is ----------------------------------------------------------------------------------------


def test_liger_may_take_15_percent_less_and_no_more() -> None:
    plain = predict(a_job(hardware=A100), LLAMA, longest=1024)
    liger = predict(a_job(hardware=A100, extra={"use_liger_kernel": True}), LLAMA, longest=1024)

    assert liger.allocated.low == pytest.approx(0.85 * plain.allocated.low)
    context = plain.context.low
    assert liger.low - context == pytest.approx(0.85 * (plain.low - context))
    assert (liger.likely, liger.high) == (plain.likely, plain.high)


def test_what_a_configuration_says_narrows_the_interval(tmp_path: Path) -> None:
    """Of the programs of a job: TRL's own, two frameworks', and one of which nothing is known."""

    def of(text: str | None, framework: str = "") -> Memory:
        job = a_job(trainer=COMMAND, hardware=A100) if text is None else of_file(text, framework, tmp_path)
        return predict(job, LLAMA, longest=1024)

    own = predict(a_job(hardware=A100), LLAMA, longest=1024)
    trl, unknown = of(TRL, "trl"), of(None)
    factory, axolotl = of(FACTORY, "llama-factory"), of(AXOLOTL, "axolotl")
    plain = of(f"{AXOLOTL}lora_mlp_kernel: false\n", "axolotl")

    assert width(trl) == pytest.approx(width(own))
    # Read, not measured: 2 % at each end, as for TRL's tiles.
    assert width(factory) < width(own) + 0.02
    assert width(plain) < width(own) + 0.02
    # Its LoRA kernels are on where no key says otherwise, and may keep 15 % less.
    assert 0.08 < width(axolotl) - width(plain) < 0.16
    assert width(unknown) > 0.5
    # The unknown program may be any of them.
    for one in (own, factory, plain, axolotl):
        assert unknown.low <= one.likely <= unknown.high


def test_a_traced_scaled_family_is_as_narrow_as_any_that_was_not_measured() -> None:
    """Granite: the formulas' 25 % are for what they do not know, and the trace runs granite's own code."""
    config = {**LLAMA, "model_type": "granite", "residual_multiplier": 0.22, "embedding_multiplier": 12.0}
    job = a_job(hardware=A100)
    formula = estimate(job, config, longest=1024, traced=True)
    traced, plain = predict(job, config, longest=1024), predict(job, LLAMA, longest=1024)

    # 2 % at each end, for GPU kernels that were not measured.
    assert width(traced) < width(plain) + 0.06
    # Other settings are as narrow: the formulas are scaled to the trace, end by end.
    twice = replace(job, training=replace(job.training, per_device_train_batch_size=8))
    other = scaled(estimate(twice, config, longest=1024, traced=True), scale(traced, formula))
    exact = predict(twice, config, longest=1024)
    assert width(other) < 1.3 * width(exact)
    assert other.likely == pytest.approx(exact.likely, rel=0.05)


def test_a_scale_says_of_the_stated_settings_what_the_replay_does() -> None:
    formula, replayed = estimate(a_job(), LLAMA, longest=512), predict(a_job(), LLAMA, longest=512)
    again = scaled(formula, scale(replayed, formula))
    assert (again.low, again.likely, again.high) == pytest.approx(
        (replayed.low, replayed.likely, replayed.high)
    )
    assert scaled(formula, ALIKE) is formula


def test_a_head_that_is_trained_whole_has_a_float32_gradient() -> None:
    """Llama 3's head has 525 million weights: copy, gradient, both moments in bfloat16, 1 GiB each; the
    gradient once more in float32, 2 GiB, and its cast."""
    lora = {"r": 16, "target_modules": "all-linear"}
    head = LLAMA["vocab_size"] * LLAMA["hidden_size"]
    for accumulation in (1, 4):
        given = {"gradient_accumulation_steps": accumulation, "hardware": A100}
        plain = predict(a_job(lora=lora, **given), LLAMA, longest=512)
        whole = predict(a_job(lora={**lora, "modules_to_save": ["lm_head"]}, **given), LLAMA, longest=512)
        # While the loss goes backward, its layers' activations and half of the adapter's gradients are not.
        standing = 2 + 4 + (2 if accumulation > 1 else 0)
        extra = (whole.allocated.likely - plain.allocated.likely) / head
        assert standing + 4 < extra < standing + 6


def test_triton_that_is_missing_where_it_trains_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Machine("Linux", 4, 1 << 34, (Gpu("NVIDIA A100-SXM4-80GB", 80 << 30, None, (8, 0), "580"),))
    real = importlib.util.find_spec
    installed = {"triton": real("torch")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed.get(name) or real(name))
    there = predict(a_job(), LLAMA, longest=512, machine=gpu)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else real(name))
    without = predict(a_job(), LLAMA, longest=512, machine=gpu)
    windows = predict(a_job(), LLAMA, longest=512, machine=WINDOWS)
    elsewhere = predict(a_job(hardware={"gpu": "H100"}), LLAMA, longest=512, machine=gpu)

    assert any("Triton is not installed" in one for one in without.assumptions)
    assert not any("Triton" in one for one in (*there.assumptions, *elsewhere.assumptions))
    # A tile in float32 and what is made of it: 4 x 511 x 32768 numbers of 4 bytes, several times.
    tile = 4 * 511 * 32768 * 4
    for one in (without, windows):
        assert one.allocated.likely > there.allocated.likely + 2 * tile
