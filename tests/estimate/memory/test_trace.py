"""Steps traced on tensors without memory: against the formulas, and against real steps on the CPU."""

import time
from dataclasses import replace
from typing import Any

import pytest

from ftcheck.estimate.memory.formulas import step
from ftcheck.estimate.memory.frameworks import of_job
from ftcheck.estimate.memory.prediction import predict, replayed
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, Method
from tests.estimate.memory.kit import SMALL, a_job, architecture, known

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
pytest.importorskip("torch")
pytest.importorskip("transformers")

QLORA = Program(Method())
PLAIN = replace(QLORA, loss="model")
"""The loss of a small vocabulary; TRL's tile is larger than all else of a small model."""


def peaks(program: Program, feed: Feed, layers: int | None = None, **config: Any) -> tuple[int, int]:
    """Bytes beyond weights: the most at once, and what stands after the forward pass."""
    from ftcheck.estimate.memory.trace import trace

    made = trace({**SMALL, **config}, program, feed, layers)
    sizes: dict[int, int] = {}
    now = most = saved = 0
    for index, (number, size) in enumerate((*made.forward, *made.backward)):
        if number == 0:
            continue
        now += size or -sizes[number]
        sizes[number] = size
        most = max(most, now)
        if index < len(made.forward):
            saved = now
    return most, saved


@pytest.mark.parametrize("model", ["Llama-3.2-1B-Instruct", "Phi-3-mini-4k-instruct", "Qwen2.5-7B-Instruct"])
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    ("dropout", "batch"), [(0.0, Feed(4, 512)), (0.05, Feed(1, 2048, masked=True))], ids=["plain", "dropout"]
)
def test_formulas_and_trace_agree(model: str, checkpointing: bool, dropout: float, batch: Feed) -> None:
    how = Method(checkpointing=checkpointing, dropout=dropout)
    shape = replace(architecture(known(model)), layers=4)
    most, saved = peaks(replace(QLORA, method=how), batch, 4, **known(model))
    made = step(shape, how, batch)
    gradients = 2 * how.adapter(shape)
    assert made.peak == pytest.approx(most, rel=0.06, abs=gradients)
    assert made.saved == pytest.approx(saved, rel=0.03)


def test_every_layer_takes_the_same() -> None:
    at = {layers: peaks(QLORA, Feed(2, 512), layers)[0] for layers in (2, 4, 6)}
    assert at[6] - at[4] == pytest.approx(at[4] - at[2], rel=0.01)


def test_gradients_stand_after_the_step_and_nothing_else_does() -> None:
    from ftcheck.estimate.memory.trace import trace

    made = trace(SMALL, QLORA, Feed(2, 128))
    sizes = {number: size for number, size in made.backward if size}
    assert sorted(sizes[one] for one in made.gradients) == sorted(2 * one for one in made.trained)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"method": Method(attention="eager")}, 8 * 2 * 512**2 * 4),
        ({"loss": "smoothed"}, 4096 * 32768 // 4),
        ({"method": Method(checkpointing=False)}, 6 * 2 * 512 * 704 * 2 * 3),
        ({"plain": "float32", "adapter": "float32"}, 6 * 2 * 512 * 256 * 2),
        ({"method": Method(checkpointing=False, dropout=0.1)}, 6 * 2 * 512 * (704 * 2 * 3 + 5 * 256 + 704)),
    ],
    ids=["scores", "smoothing", "kept layers", "float32 stream", "dropout"],
)
def test_what_a_program_does_more_costs_at_least_what_it_holds(change: dict[str, Any], more: int) -> None:
    plain = peaks(PLAIN, Feed(2, 512))[0]
    assert peaks(replace(PLAIN, **change), Feed(2, 512))[0] >= plain + more / 2


def test_older_transformers_hold_the_logits_once_more() -> None:
    new, old = (
        peaks(replace(PLAIN, loss=loss), Feed(2, 512), vocab_size=16384)[0] for loss in ("model", "shifted")
    )
    assert old - new == pytest.approx(2 * 512 * 16384 * 2, rel=0.1)


def test_a_gpu_without_flash_attention_repeats_keys_in_full_matrices() -> None:
    feed = Feed(2, 1024)
    ampere = peaks(replace(PLAIN, capability=(8, 0)), feed)[0]
    turing = peaks(replace(PLAIN, capability=(7, 5)), feed)[0]
    assert turing - ampere > 8 * 2 * 1024**2 * 2


def test_16_bit_weights_are_counted_once() -> None:
    method = Method(bits=16, adapter_bytes=4)
    found = replayed(SMALL, replace(QLORA, method=method, adapter="float32"), Feed(1, 16))
    weights = 2 * architecture(SMALL).weights
    assert weights < found.allocated < weights + 40e6


def test_accumulation_keeps_gradients_through_the_next_batch() -> None:
    method = Method(rank=256)
    once = replayed(SMALL, replace(QLORA, method=method), Feed(1, 512))
    twice = replayed(SMALL, replace(QLORA, method=method, accumulation=2), Feed(1, 512))
    assert twice.allocated > once.allocated


def test_a_prediction_names_the_replay_and_costs_seconds() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    start = time.process_time()
    made = predict(a_job(hardware={"gpu": "A100 80GB"}), config, longest=1024)
    assert time.process_time() - start < 8
    assert made.least is not None
    assert made.low < made.least.likely <= made.likely < made.high
    assert sum(made.parts.values()) == pytest.approx(made.likely)
    assert any("replayed" in one for one in made.assumptions)


def test_an_unknown_architecture_card_or_program_is_wider() -> None:
    config = known("Meta-Llama-3-8B-Instruct")

    def width(**given: Any) -> float:
        kind = given.pop("model_type", "llama")
        job = a_job(**{"hardware": {"gpu": "A100 80GB"}, **given})
        made = predict(job, {**config, "model_type": kind, "head_dim": 128}, longest=512)
        return (made.high - made.low) / made.likely

    from ftcheck.settings import TrainerChoice

    sure = width()
    assert width(hardware={"gpu": "RTX 5090"}) > sure
    assert width(model_type="smollm3") > sure + 0.1
    # Held against a real step on the CPU, not on a GPU.
    assert sure + 0.03 < width(model_type="qwen3") < sure + 0.06
    assert width(trainer=TrainerChoice(use="command", argv=("x",))) > sure + 0.05


def test_what_cannot_be_traced_is_estimated_and_said() -> None:
    config = {**known("Meta-Llama-3-8B-Instruct"), "model_type": "novel"}
    made = predict(a_job(), config, longest=512)
    assert made.least is None
    assert "novel" in made.assumptions[-1]
    assert "formulas" in made.assumptions[-1]


def test_a_job_is_trained_as_trl_does() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    made = of_job(a_job(), config)
    assert (made.dtype, made.plain, made.adapter, made.loss) == ("bfloat16", "bfloat16", "bfloat16", "tiled")
    assert of_job(a_job(quantization=None), config).adapter == "float32"
    assert of_job(a_job(extra={"label_smoothing_factor": 0.1}), config).loss == "smoothed"
    assert of_job(a_job(fp16=True, bf16=False), config).dtype == "float16"


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_saved_tensors_are_those_of_a_real_step(dropout: float) -> None:
    """PEFT on bitsandbytes' 4-bit layers, on the CPU, against formula and trace."""
    for name in ("peft", "bitsandbytes"):
        pytest.importorskip(name)
    batch = Feed(2, 128)
    real = _really_saved(dropout, batch)
    how = Method(checkpointing=False, dropout=dropout, rank=8)
    made = step(architecture(SMALL), how, batch).saved
    traced = peaks(replace(QLORA, method=how), batch)[1]
    # On the CPU dropout keeps its noise in the input's dtype (2 bytes a number), on CUDA a mask of 1 byte.
    linears = architecture(SMALL).linears
    noise = batch.tokens * sum(one.inputs for one in linears) * SMALL["num_hidden_layers"] if dropout else 0
    assert real == pytest.approx(made + noise, rel=0.03)
    assert real == pytest.approx(traced + noise, rel=0.03)


def _really_saved(dropout: float, batch: Feed) -> int:
    """Bytes of distinct storages that autograd keeps in a forward pass, weights left out."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SMALL), dtype=torch.bfloat16)
    for name, module in list(base.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            made = Linear4bit(
                module.in_features,
                module.out_features,
                bias=False,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
            )
            made.load_state_dict(module.state_dict())
            parent, _, own = name.rpartition(".")
            setattr(base.get_submodule(parent), own, made.to("cpu"))
    lora = LoraConfig(r=8, target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.train()
    standing = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in standing and not isinstance(tensor, torch.nn.Parameter):
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.zeros(batch.rows, batch.length, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.get_base_model().model(input_ids=ids, use_cache=False).last_hidden_state
        scored = hidden[:, :-1].reshape(-1, hidden.shape[-1]).clone()
    return sum(int(one.nbytes()) for one in [*kept.values(), scored.untyped_storage()])
