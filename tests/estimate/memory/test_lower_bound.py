"""The least that training needs, against what transformers and bitsandbytes make of a model."""

import math
from typing import Any

import pytest

from ftcheck.estimate.memory.lower_bound import BYTES, lower_bound
from ftcheck.testing import modules
from tests.estimate.memory.kit import NF4, SMALL, a_job

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

MOE: dict[str, Any] = {
    **SMALL,
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
}


def test_fused_experts_are_what_transformers_leaves_in_16_bits() -> None:
    """transformers' own replacement of linear layers, on a model without memory."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.nn import Linear4bit
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    config = transformers.AutoConfig.for_model(**MOE)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
    made = replace_with_bnb_linear(
        model, ["lm_head"], quantization_config=transformers.BitsAndBytesConfig(**NF4)
    )
    quantised = {f"{name}.weight" for name, one in made.named_modules() if isinstance(one, Linear4bit)}
    plain = sum(2 * math.prod(shape) for name, shape in shapes.items() if name not in quantised)
    packed = sum(BYTES[4] * math.prod(shapes[name]) for name in quantised)
    experts = sum(2 * math.prod(shape) for name, shape in shapes.items() if ".experts." in name)
    assert quantised
    assert experts == 2 * 6 * 4 * 3 * 256 * 128

    linear = {
        name.removesuffix(".weight"): shape[::-1] for name, shape in shapes.items() if name in quantised
    }
    known = modules(experts=4, model_type="qwen3_moe")
    object.__setattr__(known, "parameters", shapes)
    object.__setattr__(known, "linear", linear)
    found = lower_bound(a_job(), MOE, known)
    assert found is not None
    assert found.experts == experts
    assert found.total == pytest.approx(plain + packed)


def test_without_modules_the_experts_alone_are_counted() -> None:
    found = lower_bound(a_job(), MOE, None)
    assert found is not None
    assert found.total == found.experts == 2 * 6 * 4 * 3 * 256 * 128
    assert lower_bound(a_job(), SMALL, None) is None
    assert lower_bound(a_job(quantization=None), MOE, None) is None
