"""A model's dimensions by config.json, held against transformers' own configuration classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.estimate.flops import KNOWN
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.model_shape import EXPERTS, UnknownShape, model_shape, text_config, well_known

NAMES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "window": "sliding_window",
}
"""Our names and transformers'."""
PLAIN = sorted(KNOWN)
OTHERS = ["gpt2", "gpt_neox", "gptj", "bloom", "mpt", "opt", "falcon", "cohere", "glm", "starcoder2"]
MIXTURES = {
    "mixtral": 8,
    "qwen2_moe": 60,
    "qwen3_moe": 128,
    "deepseek_v3": 256,
    "gpt_oss": 128,
    "dbrx": 16,
    "ernie4_5_moe": 64,
    "glm4_moe": 128,
    "olmoe": 64,
    "phimoe": 16,
}
"""model_type and experts of a layer in the class's default; DBRX's default states 4, the model 16."""
TOWERS = ["gemma3", "llama4", "mllama", "qwen2_vl", "qwen2_5_vl", "llava", "mistral3", "qwen3_5"]


def default(kind: str) -> tuple[Any, dict[str, Any]]:
    """A model_type's configuration by transformers, and what it writes to config.json."""
    transformers = pytest.importorskip("transformers")
    made = transformers.AutoConfig.for_model(kind)
    return made.get_text_config(), json.loads(made.to_json_string(use_diff=False))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*PLAIN, *OTHERS, *MIXTURES, *TOWERS])
def test_dimensions_are_those_that_transformers_reads(kind: str) -> None:
    theirs, stated = default(kind)
    ours = model_shape(stated)

    for own, name in NAMES.items():
        if (kind, own) == ("mpt", "positions"):
            continue  # transformers gives its max_seq_len no common name
        expected = getattr(theirs, name, None)
        if own == "window" and getattr(theirs, "use_sliding_window", True) is False:
            expected = None
        assert getattr(ours, own) == expected, own
    assert ours.model_type == kind
    assert ours.key_value_heads in (None, getattr(theirs, "num_key_value_heads", None))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*PLAIN, "cohere", "starcoder2", "glm", "gpt2", "mixtral"])
def test_a_config_that_does_not_say_is_tied_and_biased_as_its_class_has_it(kind: str) -> None:
    theirs, stated = default(kind)
    stated.pop("tie_word_embeddings", None)

    assert model_shape(stated).tied is bool(theirs.tie_word_embeddings)
    if kind != "qwen2":  # its layers have biases without any key
        assert model_shape(stated).biased is bool(getattr(theirs, "attention_bias", False))


@pytest.mark.filterwarnings("ignore")
def test_the_lists_of_tied_and_biased_types_are_those_of_transformers() -> None:
    table = tables.load("model_shapes")
    for kind in table["tied"]:
        assert default(kind)[0].tie_word_embeddings, kind
    for kind in set(table["biased"]) - {"qwen2"}:
        assert default(kind)[0].attention_bias, kind


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MIXTURES)
def test_a_mixture_of_experts_is_read_and_is_no_plain_decoder(kind: str) -> None:
    stated = default(kind)[1]
    if kind == "dbrx":
        stated["ffn_config"]["moe_num_experts"] = 16
    shape = model_shape(stated)

    assert shape.experts == MIXTURES[kind]
    assert shape.other_parts == EXPERTS
    with pytest.raises(UnknownShape, match="a mixture of experts"):
        shape.decoder()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TOWERS)
def test_a_model_of_several_towers_has_the_shape_of_its_text_model(kind: str) -> None:
    stated = default(kind)[1]

    assert text_config(stated) is stated["text_config"]
    assert model_shape(stated).layers == model_shape(stated["text_config"]).layers
    with pytest.raises(UnknownShape, match=r"vision tower|experts|linear attention"):
        model_shape(stated).decoder()


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config", "thinker_config"])
def test_the_text_model_may_lie_under_several_keys(key: str) -> None:
    inner = {"model_type": "qwen2", "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2}
    shape = model_shape({"model_type": "internvl_chat", "vision_config": {"hidden_size": 8}, key: inner})

    assert (shape.model_type, shape.hidden, shape.layers, shape.vocabulary) == ("internvl_chat", 64, 2, 100)
    assert shape.biased
    assert shape.other_parts == "a vision tower"


def test_what_is_not_a_number_is_not_read() -> None:
    shape = model_shape({"hidden_size": "4096", "num_hidden_layers": True, "sliding_window": None})

    assert (shape.model_type, shape.hidden, shape.layers, shape.window) == (None, None, None, None)
    with pytest.raises(UnknownShape, match="does not state hidden_size"):
        shape.decoder()


def test_a_sliding_window_that_is_off_is_none() -> None:
    assert model_shape({"sliding_window": 4096}).window == 4096
    assert model_shape({"sliding_window": 4096, "use_sliding_window": False}).window is None


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 8192),
        ({}, None),
    ],
)
def test_the_context_is_of_the_text_model(config: dict[str, Any], context: int | None) -> None:
    assert ModelConfig("model", config).context == context


@pytest.mark.realdata
def test_every_published_config_is_read(realdata: Path) -> None:
    weights = {
        "Meta-Llama-3-8B-Instruct": 8_030_261_248,
        "Llama-3.2-1B-Instruct": 1_235_814_400,
        "Mistral-7B-Instruct-v0.3": 7_248_023_552,
        "Phi-3-mini-4k-instruct": 3_821_079_552,
        "Qwen2.5-1.5B-Instruct": 1_543_714_304,
        "Qwen2.5-7B-Instruct": 7_615_616_512,
        "TinyLlama-1.1B": 1_100_048_384,
    }
    found = {
        path.parent.name: model_shape(json.loads(path.read_text(encoding="utf-8")))
        for path in (realdata / "model-configs").glob("*/config.json")
    }

    assert set(weights) <= set(found)
    for name, shape in found.items():
        assert None not in (shape.layers, shape.hidden, shape.heads, shape.vocabulary, shape.positions), name
        if shape.other_parts is None:
            assert shape.decoder().weights == weights.get(name, shape.decoder().weights), name


def test_a_well_known_name_has_a_shape() -> None:
    for name in tables.load("architectures")["models"]:
        found = well_known(name)
        assert found is not None
        assert model_shape(found).decoder().layers > 0
