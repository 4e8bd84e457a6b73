"""The matcher of LoRA's targets against PEFT itself, and the same numbers in every estimate and rule."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.safetensors_headers import modules as modules_loader
from ftcheck_rules.config.adapters import lora_targets as lora_targets_rule

from ftcheck import Run
from ftcheck.errors import InputError
from ftcheck.estimate.disk import estimate, trained_weights
from ftcheck.estimate.flops import flops
from ftcheck.estimate.lora_targets import decoder_adapter, targets_of
from ftcheck.estimate.lora_targets import trained_weights as matched_weights
from ftcheck.estimate.memory.formulas import estimate as memory_estimate
from ftcheck.estimate.memory.shapes import method
from ftcheck.estimate.run_time import estimate as time_estimate
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.model_shape import UnknownShape, model_shape, well_known
from ftcheck.inputs.modules import Modules, decoder_modules
from ftcheck.settings import Lora
from ftcheck.testing import job, model_config, run
from tests.peft_models import CONFIGS, DECODER_LORAS, DECODERS, LORAS, with_peft

TABLE: list[tuple[Any, int]] = [
    (None, 6_815_744),
    (r".*\.(q|v)_proj", 6_815_744),
    (("self_attn.q_proj",), 4_194_304),
    (("layers.0.self_attn.q_proj",), 131_072),
    ("ALL-LINEAR", 41_943_040),
    ("all-linear", 41_943_040),
]
"""Weights that PEFT 0.21.2 trains on Llama-3-8B at r 16, by target_modules."""
IDS = [str(stated) for stated, _ in TABLE]


def llama_3_8b() -> Mapping[str, Any]:
    found = well_known("Meta-Llama-3-8B")
    assert found is not None
    return found


def built(config: Mapping[str, Any]) -> Modules:
    found = modules_loader.open(job(), Run(Path()), ModelConfig("model", config), None)
    assert isinstance(found, Modules)
    return found


def lora_of(stated: Mapping[str, Any]) -> Lora:
    return Lora(**{"r": 4, **stated})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "stated"), LORAS, ids=[f"{name} {lora}" for name, lora in LORAS])
def test_modules_and_weights_are_those_that_peft_trains(name: str, stated: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    lora, modules = lora_of(stated), built(CONFIGS[name])
    attached = with_peft(CONFIGS[name], stated)
    found = targets_of(lora, modules)

    assert matched_weights(lora, modules, found) == attached.trained
    assert set(found.modules) == attached.modules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("stated", DECODER_LORAS, ids=str)
def test_from_dimensions_alone_they_are_the_same(name: str, stated: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    lora, shape = lora_of(stated), model_shape(DECODERS[name]).decoder()
    try:
        attached = with_peft(DECODERS[name], stated)
    except ValueError:
        with pytest.raises(UnknownShape):
            decoder_adapter(lora, shape)
        return
    found = targets_of(lora, decoder_modules(shape))

    assert decoder_adapter(lora, shape).trained == attached.trained
    assert set(found.modules) == attached.modules


@pytest.mark.parametrize("name", DECODERS)
def test_the_modules_of_a_decoder_are_those_that_transformers_builds(name: str) -> None:
    pytest.importorskip("torch")
    ours, theirs = decoder_modules(model_shape(DECODERS[name]).decoder()), built(DECODERS[name])

    assert ours.linear == theirs.linear
    if name in ("llama", "mistral", "qwen2", "gemma"):  # the others have more norms
        assert set(ours.names) == set(theirs.names)
        assert ours.total == theirs.total
    assert ours.embeddings == theirs.embeddings
    assert (ours.head, ours.tied, ours.model_type) == (theirs.head, theirs.tied, theirs.model_type)
    linear = {f"{one}.{kind}" for one in ours.linear for kind in ("weight", "bias")} - {"lm_head.weight"}
    assert {one for one in ours.parameters if one in linear} == {
        one for one in theirs.parameters if one in linear
    }


# --- Llama-3-8B, everywhere -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("stated", "weights"), TABLE, ids=IDS)
def test_peft_trains_so_many_weights_of_llama_3_8b(stated: Any, weights: int) -> None:
    pytest.importorskip("peft")
    assert with_peft(llama_3_8b(), {"r": 16, "target_modules": stated}, real=False).trained == weights


@pytest.mark.parametrize(("stated", "weights"), TABLE, ids=IDS)
def test_the_disk_estimate_has_pefts_number(stated: Any, weights: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_3_8b()), encoding="utf-8")
    lora = {"r": 16, "target_modules": stated}
    one = job(model={"name": str(tmp_path)}, training={"lora": lora, "save_strategy": "no"})

    assert trained_weights(llama_3_8b(), Lora(r=16, target_modules=stated)) == weights
    assert estimate(one).bytes == 4 * weights


@pytest.mark.parametrize(("stated", "weights"), TABLE, ids=IDS)
def test_the_memory_estimate_has_pefts_number(stated: Any, weights: int) -> None:
    one = job(training={"max_length": 512, "lora": {"r": 16, "target_modules": stated}})

    assert method(one, model_shape(llama_3_8b()).decoder()).trained == weights
    assert memory_estimate(one, llama_3_8b(), longest=512).parts["adapter"] == 4 * weights


@pytest.mark.parametrize(("stated", "weights"), TABLE, ids=IDS)
def test_the_time_estimate_has_pefts_number(stated: Any, weights: int) -> None:
    shape = model_shape(llama_3_8b()).decoder()
    adapter = decoder_adapter(Lora(r=16, target_modules=stated), shape)
    parts = {one.name: one for one in flops(shape, adapter, positions=1, checkpointing=False).parts}

    assert parts["adapter"].forward == 2 * weights


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("stated", "weights"), TABLE, ids=IDS)
def test_the_rule_has_pefts_number(stated: Any, weights: int) -> None:
    pytest.importorskip("torch")
    one = job(training={"lora": {"r": 16, "target_modules": stated}})
    ran = run(lora_targets_rule, job=one, model=model_config(**llama_3_8b()), modules=built(llama_3_8b()))
    assert ran.measured["trainable"] == weights


# --- what PEFT refuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        (("query_key_value",), "query_key_value match no module"),
        (r"layers.*q_proj", "match no module"),
        ("(", "not a regular expression"),
    ],
)
def test_what_peft_refuses_has_no_estimate_but_a_reason(stated: Any, why: str) -> None:
    one = job(
        hardware={"gpu": "RTX 4090"},
        training={"max_length": 512, "lora": {"r": 16, "target_modules": stated}},
    )

    assert trained_weights(llama_3_8b(), Lora(r=16, target_modules=stated)) is None
    with pytest.raises(InputError, match=why):
        memory_estimate(one, llama_3_8b(), longest=512)
    problem = time_estimate(one, llama_3_8b(), steps=1, tokens_per_step=512, longest=512).problem
    assert why in problem


def test_phi_3_has_no_default_and_the_reason_says_so() -> None:
    phi = model_shape(well_known("Phi-3-mini-4k-instruct") or {}).decoder()
    with pytest.raises(UnknownShape, match="PEFT has no default for this model type"):
        decoder_adapter(Lora(r=16), phi)


def test_an_adapter_on_some_layers_is_assumed_on_all_for_activations_and_that_is_said() -> None:
    some = {"r": 16, "target_modules": ("q_proj",), "extra": {"layers_to_transform": [0, 1]}}
    one = job(training={"max_length": 512, "lora": some})
    found = memory_estimate(one, llama_3_8b(), longest=512)

    assert "LoRA is on 2 of 32 layers; activations are counted as for all" in found.assumptions
    assert found.parts["adapter"] == 4 * 2 * 16 * 8192
