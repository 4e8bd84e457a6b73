"""Formulas against the simulation, the simulation against a real step."""

from typing import Any

import pytest

from ftcheck.estimate.memory.formulas import (
    step,
)
from ftcheck.estimate.memory.shapes import Feed, Method
from tests.estimate.memory.kit import SMALL, architecture, known

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


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
