"""A packed batch in a tiny model of the base's class: refused, leaking or isolated (item 9)."""

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import packed_batch as module
from ftcheck_plugins.model.packed_batch import collated_keys, listed, packed_batch, tried

from ftcheck import tables
from ftcheck.inputs.container import Run
from ftcheck.inputs.packed_batch import TINY_MODEL, is_recurrent
from ftcheck.testing import model_config

HYBRID: dict[str, Any] = {
    "model_type": "qwen3_5_text",
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 6,
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "vocab_size": 151936,
}
JAMBA: dict[str, Any] = {"model_type": "jamba", "num_hidden_layers": 32, "hidden_size": 4096}
WITHOUT_KERNELS = pytest.mark.skipif(
    any(module._version(name) for name in ("causal-conv1d", "mamba-ssm")), reason="the kernels are installed"
)


def opened(folder: Path, **config: Any) -> Any:
    return packed_batch.open(Run(folder), model_config(None, **config))


FAST = ("bamba", "falcon_h1", "granitemoehybrid", "lfm2", "mamba", "minimax", "olmo_hybrid", "zaya")


def default_config(kind: str) -> dict[str, Any]:
    """The default config of a model type; LFM2's has no convolution layer, and is given one."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind).to_dict() | {"model_type": kind}
    if kind.startswith("lfm2"):
        config |= {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}
    return {key: value for key, value in config.items() if key not in ("dtype", "transformers_version")}


@WITHOUT_KERNELS
def test_qwen35_refuses_a_packed_batch_without_causal_conv1d(tmp_path: Path) -> None:
    found = opened(tmp_path, **HYBRID)

    assert (found.outcome, found.source) == ("refused", TINY_MODEL)
    assert "causal_conv1d" in found.message


def test_a_model_of_two_towers_is_judged_by_its_text_model(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_5", "text_config": HYBRID, "vision_config": {"depth": 4}}
    assert opened(tmp_path, **config) == opened(tmp_path, **HYBRID)


@WITHOUT_KERNELS
def test_jamba_leaks_in_silence(tmp_path: Path) -> None:
    found = opened(tmp_path, **JAMBA)

    assert found.outcome == "leaks"
    assert found.difference is not None
    assert found.difference > module.LEAK


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "gpt_oss", "qwen3_moe", "olmo3"])
def test_attention_alone_isolates_rows_and_no_model_is_built(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    monkeypatch.setattr(module, "tried", None)
    config = AutoConfig.for_model(kind).to_dict()
    assert not is_recurrent(config)
    assert packed_batch.open(Run(tmp_path), model_config(None, **config)) is None


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_the_tiny_model_of_a_plain_decoder_isolates_rows(kind: str) -> None:
    from transformers import AutoConfig

    found = tried(AutoConfig.for_model(kind).to_dict())
    assert found.outcome == "isolated", found


def test_without_the_boundaries_of_rows_even_attention_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    monkeypatch.setattr(module, "collated_keys", lambda: frozenset({"input_ids"}))
    assert tried(AutoConfig.for_model("llama").to_dict()).outcome == "leaks"


def test_a_model_that_cannot_be_built_is_unknown_and_the_table_answers(tmp_path: Path) -> None:
    strange = opened(tmp_path, model_type="no_such_model", layer_types=["retention", "full_attention"])
    assert strange.outcome == "unknown"
    assert strange.message
    assert listed({"model_type": "jamba"}, "why").outcome == "leaks"
    assert "mamba_ssm" in listed({"model_type": "bamba"}, "why").message


def test_without_torch_the_table_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = opened(tmp_path, **HYBRID)
    assert (found.outcome, found.source) == ("refused", "a table of 2026-11-28")


def test_the_outcome_is_kept_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    run, model = Run(tmp_path, cache=True), model_config(None, **JAMBA)
    first = packed_batch.open(run, model)
    monkeypatch.setattr(module, "tried", None)
    started = time.monotonic()

    assert packed_batch.open(run, model) == first
    assert time.monotonic() - started < 1


def test_the_keys_are_those_of_the_installed_collator() -> None:
    """TRL 1.16's own collator on two packed rows."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collator([{"input_ids": [1] * 16, "labels": [1] * 16, "seq_lengths": [7, 9]}])

    assert set(batch) <= collated_keys()
    assert set(batch) == set(tables.load("recurrent_models")["collated"])
    made = module._batch([_row(7), _row(9)])
    assert {key: _plain(value) for key, value in made.items() if key != "input_ids"} == {
        key: _plain(value) for key, value in batch.items() if key not in ("input_ids", "labels")
    }


def _row(length: int) -> Any:
    import torch

    return torch.ones((1, length), dtype=torch.int64)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


@WITHOUT_KERNELS
def test_the_table_says_what_the_tiny_models_do() -> None:
    listed = tables.load("recurrent_models")["models"]
    assert outcomes(FAST) == {kind: listed[kind] for kind in FAST}


def outcomes(kinds: Collection[str]) -> dict[str, str | None]:
    """What the table should say of these model types, by the tiny models."""
    found: dict[str, str | None] = {}
    for kind in kinds:
        config = default_config(kind)
        one = tried(config)
        needed = next((name for name in ("mamba_ssm", "causal_conv1d") if name in one.message), None)
        found[kind] = {"unknown": None, "refused": needed}.get(one.outcome, one.outcome)
    return found


if __name__ == "__main__":
    path = Path(tables.__file__).parent / "recurrent_models.json"
    print(json.dumps(outcomes(tables.load("recurrent_models")["models"]), indent=1))
    print(f"paste it as `models` into {path}")
