import math
from typing import Any

import pytest

from ftcheck.estimate.flops import adapter_weights, flops, shape
from ftcheck.settings import Lora

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "vocab_size": 100,
}
EVERYWHERE = Lora(r=4, target_modules="all-linear")
QUERIES = Lora(r=4, target_modules=("q_proj", "v_proj"))


def test_a_layer_by_hand() -> None:
    found = shape(TINY)

    # q and o: 32 x 32; k and v: 32 x 16; gate, up and down: 32 x 48
    a_layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48
    assert a_layer == 7_680
    assert found.weights == 3 * a_layer
    assert found.attended == 32
    assert found.head == 3_200


def test_an_adapter_by_hand() -> None:
    # q: 4 x (32 + 32), v: 4 x (32 + 16), in three layers
    assert adapter_weights(shape(TINY), QUERIES) == 3 * (4 * 64 + 4 * 48)
    # and k as v, o as q, gate, up and down: 4 x (32 + 48) each
    assert adapter_weights(shape(TINY), EVERYWHERE) == 3 * (2 * 4 * 64 + 2 * 4 * 48 + 3 * 4 * 80)


def test_a_frozen_base_computes_no_gradient_of_its_weights() -> None:
    found = shape(TINY)
    frozen = {one.name: one for one in flops(found, QUERIES, positions=10, checkpointing=False).parts}
    whole = {one.name: one for one in flops(found, None, positions=10, checkpointing=False).parts}

    assert frozen["base"].training == 4 * 23_040
    assert whole["base"].training == 6 * 23_040
    assert frozen["head"].training == 4 * 3_200
    assert whole["head"].training == 6 * 3_200
    assert frozen["adapter"].training == 6 * 1_344
    assert whole["adapter"].training == 0
    # scores and their product with the values: 2 x 2 x 10 positions x 32 numbers, three layers
    assert frozen["attention"].forward == 4 * 10 * 32 * 3
    assert frozen["attention"].backward == 2.5 * frozen["attention"].forward


def test_a_trained_head_computes_its_gradient() -> None:
    saved = Lora(r=4, target_modules="all-linear", modules_to_save=("lm_head",))
    parts = {one.name: one for one in flops(shape(TINY), saved, positions=1, checkpointing=False).parts}
    assert parts["head"].training == 6 * 3_200


def test_fused_and_separate_matrices_multiply_the_same() -> None:
    fused = shape({**TINY, "model_type": "phi3"})
    assert set(fused.linear) == {"qkv_proj", "gate_up_proj", "o_proj", "down_proj"}
    assert fused.weights == shape(TINY).weights


def test_targets_are_names_expressions_or_pefts_default() -> None:
    found = shape(TINY)
    first = Lora(r=4, target_modules=r".*layers\.0\..*q_proj")

    assert adapter_weights(found, first) == 4 * 64
    assert adapter_weights(found, Lora(r=4)) == adapter_weights(found, QUERIES)
    assert adapter_weights(found, Lora(r=4, target_modules=("nothing",))) == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "mamba"}, "the architecture 'mamba' is unknown"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"intermediate_size": None}, "config.json is incomplete"),
    ],
)
def test_what_is_not_known_has_no_shape(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        shape({**TINY, **change})


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [None, EVERYWHERE, QUERIES], ids=["whole", "everywhere", "queries"])
def test_as_many_as_torch_counts(lora: Lora | None, checkpointing: bool) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    rows, length = 2, 17
    model = LlamaForCausalLM(LlamaConfig(**TINY, attn_implementation="eager")).train()
    if lora is not None:
        stated = lora.target_modules
        targets = stated if isinstance(stated, str) else list(stated or ())
        model = peft.get_peft_model(model, peft.LoraConfig(r=lora.r, target_modules=targets))
        model.enable_input_require_grads()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.randint(0, TINY["vocab_size"], (rows, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    counted = flops(shape(TINY), lora, positions=length, checkpointing=checkpointing, scores_again=False)
    assert counter.get_total_flops() == rows * length * counted.training


def test_llama_3_8b_multiplies_six_a_weight_with_checkpointing() -> None:
    llama = {
        **TINY,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    found = shape(llama)
    assert found.weights + 2 * found.head + 65 * 4096 == 8_030_261_248
    counted = flops(found, EVERYWHERE, positions=256, checkpointing=True)
    assert math.isclose(counted.training, 6 * (found.weights + found.head), rel_tol=0.02)
