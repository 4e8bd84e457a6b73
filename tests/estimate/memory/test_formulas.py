"""The memory model: stored bytes, formulas against the simulation, the simulation against a real step."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.estimate.memory.fit import cheapest, largest_batch, verdict
from ftcheck.estimate.memory.formulas import (
    GIB,
    Memory,
    estimate,
    quantised_bytes,
    step,
)
from ftcheck.estimate.memory.shapes import (
    Architecture,
    CannotTell,
    Feed,
    Linear,
    Method,
    architecture,
    feed,
    method,
    well_known,
)
from ftcheck.settings import Job
from ftcheck.testing import job

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


def a_job(*, hardware: Any = None, trainer: Any = None, **training: Any) -> Job:
    given = {
        "max_length": 2048,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "lora": {"r": 16, "target_modules": "all-linear"},
        "quantization": NF4,
        **training,
    }
    return job(training=given, hardware=hardware or {}, **({"trainer": trainer} if trainer else {}))


def known(name: str) -> dict[str, Any]:
    found = well_known(name)
    assert found is not None
    return dict(found)


def llama(**changes: Any) -> Architecture:
    return architecture({**known("Meta-Llama-3-8B-Instruct"), **changes})


# --- dimensions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("microsoft/Phi-3-mini-4k-instruct", 3_821_079_552),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
    ],
)
def test_weights_of_well_known_models_are_the_published_numbers(name: str, weights: int) -> None:
    assert architecture(known(name)).weights == weights


def test_a_local_folder_of_a_known_name_is_found_and_another_is_not() -> None:
    assert well_known("/models/phi-3-mini-4k-instruct/") is not None
    assert well_known("someone/else") is None


@pytest.mark.parametrize(
    "config",
    [
        {**SMALL, "num_local_experts": 8},
        {**SMALL, "model_type": "deepseek_v3", "kv_lora_rank": 512},
        {"model_type": "mamba", "hidden_size": 768},
        {},
    ],
)
def test_what_is_no_plain_decoder_is_not_guessed(config: dict[str, Any]) -> None:
    with pytest.raises(CannotTell):
        architecture(config)


@pytest.mark.parametrize(
    "training", [{"lora": None}, {"extra": {"deepspeed": "ds.json"}}, {"extra": {"fsdp": "full_shard"}}]
)
def test_training_that_is_not_modelled_is_not_guessed(training: dict[str, Any]) -> None:
    with pytest.raises(CannotTell):
        method(a_job(**training), llama())


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
    one = Linear("q_proj", columns, rows)
    assert sum(t.numel() * t.element_size() for t in held) == _stored(one, Method(double=double))
    a_weight = quantised_bytes(shape, Method(double=double)) / sum(m.weights for m in shape.linears)
    assert a_weight == pytest.approx(0.51593 if double else 0.5625, abs=1e-4)


def _stored(one: Linear, how: Method) -> float:
    from ftcheck.estimate.memory import formulas

    return formulas._stored(one, how)


def test_adapter_is_what_peft_attaches() -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        base = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**SMALL))
    made = peft.get_peft_model(
        base, peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"), low_cpu_mem_usage=True
    )
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    how = method(a_job(lora={"r": 8, "target_modules": "all-linear"}), architecture(SMALL))
    assert how.adapter(architecture(SMALL)) == trained


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (None, {"q_proj", "v_proj"}),
        (("o_proj",), {"o_proj"}),
        (r".*\.mlp\..*", {"gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_are_read_as_peft_reads_them(targets: Any, names: set[str]) -> None:
    how = method(a_job(lora={"r": 8, "target_modules": targets}), llama())
    assert {one.name for one in llama().linears if how.rank_of(one.name)} == names


# --- two ways ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["Llama-3.2-1B-Instruct", "Phi-3-mini-4k-instruct", "Qwen2.5-7B-Instruct"])
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    ("dropout", "batch"), [(0.0, Feed(4, 512)), (0.05, Feed(1, 2048, masked=True))], ids=["plain", "dropout"]
)
def test_formulas_and_simulation_agree(model: str, checkpointing: bool, dropout: float, batch: Feed) -> None:
    pytest.importorskip("torch")
    from ftcheck.estimate.memory.simulation import simulate

    how = Method(checkpointing=checkpointing, dropout=dropout)
    simulated = simulate(known(model), how, batch, (1, 2))
    made = step(architecture(known(model)), how, batch)
    assert made.peak == pytest.approx(simulated.beyond, rel=0.05)
    assert made.saved == pytest.approx(simulated.saved, rel=0.02)


def test_the_simulation_is_linear_in_depth() -> None:
    pytest.importorskip("torch")
    from ftcheck.estimate.memory.simulation import simulate

    extrapolated = simulate(SMALL, Method(), Feed(2, 512), (2, 4))
    whole = simulate(SMALL, Method(), Feed(2, 512), (6, 6))
    assert extrapolated.layers == (2, 4)
    assert extrapolated.beyond == pytest.approx(whole.beyond, rel=0.002)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_saved_tensors_are_those_of_a_real_step(dropout: float) -> None:
    """PEFT on bitsandbytes' 4-bit layers, on the CPU, against formula and simulation."""
    for name in ("torch", "transformers", "peft", "bitsandbytes"):
        pytest.importorskip(name)
    from ftcheck.estimate.memory.simulation import simulate

    batch = Feed(2, 128)
    real = _really_saved(dropout, batch)
    how = Method(checkpointing=False, dropout=dropout, rank=8)
    made = step(architecture(SMALL), how, batch).saved
    simulated = simulate(SMALL, how, batch, (2, 4)).saved
    # On the CPU dropout keeps its noise in the input's dtype (2 bytes a number), on CUDA a mask of 1 byte.
    linears = architecture(SMALL).linears
    noise = batch.tokens * sum(one.inputs for one in linears) * SMALL["num_hidden_layers"] if dropout else 0
    assert real == pytest.approx(made + noise, rel=0.03)
    assert real == pytest.approx(simulated + noise, rel=0.03)


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


def test_packing_flattens_a_batch_and_padding_does_not() -> None:
    shape = llama()
    assert feed(a_job(packing=True), shape, longest=100) == Feed(1, 4 * 2048, masked=True)
    assert feed(a_job(packing=True, packing_strategy="wrapped"), shape, longest=100) == Feed(4, 2048)
    assert feed(a_job(), shape, longest=100) == Feed(4, 100, masked=True)
    assert feed(a_job(), shape, longest=100, sequences=1) == Feed(1, 100)
    flash = {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}
    assert feed(a_job(packing=True, extra=flash), shape, longest=100) == Feed(1, 4 * 2048)
    phi = architecture(known("Phi-3-mini-4k-instruct"))
    assert feed(a_job(per_device_train_batch_size=1), phi, longest=2048).masked
    assert not feed(a_job(per_device_train_batch_size=1), phi, longest=2000).masked


# --- what to do ----------------------------------------------------------------------------------------


def test_the_largest_batch_fits_and_the_next_one_does_not() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    most = largest_batch(a_job(), config, 16, longest=768)

    def at(batch: int) -> Memory:
        return estimate(a_job(per_device_train_batch_size=batch), config, longest=768)

    assert most > 1
    assert verdict(at(most), 16) == "fits"
    assert verdict(at(most + 1), 16) != "fits"
    assert largest_batch(a_job(), config, 4, longest=768) == 0


def test_checkpointing_is_the_first_remedy_and_rows_a_step_stay() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    first = cheapest(a_job(gradient_checkpointing=False), config, 16, longest=1024)
    assert first is not None
    assert [(one.path, one.new) for one in first.changes] == [
        ("jobs.job.training.gradient_checkpointing", True)
    ]
    second = cheapest(a_job(per_device_train_batch_size=32), config, 16, longest=1024)
    assert second is not None
    new = {one.path.rpartition(".")[2]: one.new for one in second.changes}
    assert math.prod(new.values()) == 32 * 4
    assert second.memory.high <= 16 * GIB


def test_max_length_is_the_last_remedy_and_no_remedy_is_said() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    tried = a_job(max_length=32768, per_device_train_batch_size=1)
    found = cheapest(tried, config, 12, longest=32768)
    assert found is not None
    assert found.changes[-1].path.endswith("max_length")
    assert not found.changes[-1].safe
    assert cheapest(a_job(), config, 4, longest=768) is None


def test_the_formulas_import_nothing_heavy() -> None:
    code = (
        "import sys, json; from ftcheck.testing import job;"
        "from ftcheck.estimate.memory.formulas import estimate;"
        "from ftcheck.settings import Lora;"
        f"c = json.loads({json.dumps(json.dumps(SMALL))});"
        "estimate(job(training={'lora': Lora()}), c, longest=512);"
        "print(json.dumps([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []
