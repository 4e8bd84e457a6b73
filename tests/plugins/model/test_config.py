import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.config import model

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.model import ModelConfig
from ftcheck.testing import job, model_config


def opened(name: str | Path, folder: Path, *, offline: bool = True, **stated: Any) -> ModelConfig:
    found: ModelConfig = model.open(job(model={"name": str(name), **stated}), Run(folder, offline=offline))
    return found


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_a_local_model_is_read_as_plain_json(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "base",
        config={"model_type": "llama", "max_position_embeddings": 8192, "eos_token_id": 1},
        generation_config={"eos_token_id": [1, 2]},
    )

    found = opened(folder, tmp_path)

    assert found.path == str(folder)
    assert found.context == 8192
    assert found.stop_ids == frozenset({1, 2})


def test_a_model_without_generation_config_stops_as_its_config_says(tmp_path: Path) -> None:
    found = opened(write(tmp_path / "base", config={"eos_token_id": 7}), tmp_path)

    assert found.generation == {}
    assert found.stop_ids == frozenset({7})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the folder contains no config.json"),
        ({"adapter_config": {}}, r"an adapter \(adapter_config.json\), not a base model"),
        ({"config": []}, "must contain a JSON object"),
    ],
)
def test_a_folder_that_is_no_model_is_named_with_the_policy_place(
    tmp_path: Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(write(tmp_path / "base", **files), tmp_path)

    [problem] = caught.value.problems
    assert (problem.path, problem.line, problem.yaml_path) == ("policy.yaml", 1, "jobs.job.model.name")


def test_broken_json_is_named_with_line_and_column(tmp_path: Path) -> None:
    (write(tmp_path / "base") / "config.json").write_text('{\n "a": ,\n}')

    with pytest.raises(InputError, match=r"config\.json:2:7: not valid JSON"):
        opened(tmp_path / "base", tmp_path)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        opened(tmp_path / "absent", tmp_path, offline=False)


def test_a_hub_model_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--tiny--llama"
    snapshot = write(repository / "snapshots" / "0a1b", config={"max_position_embeddings": 64})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a1b")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    found = opened("tiny/llama", tmp_path)

    assert found.context == 64
    assert found.generation == {}
    assert found.path == str(snapshot)


def test_a_hub_model_that_is_not_cached_is_an_error_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(InputError, match="not in the hub cache, and --offline is set"):
        opened("tiny/llama", tmp_path)


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default"}, 4096),
        ({"type": "linear", "factor": 2.0}, 8192),
        ({"rope_type": "dynamic", "factor": 4}, 16384),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512}, 4096),
        ({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, 4096),
        ({"full_attention": {"rope_type": "linear", "factor": 8.0}}, 4096),
    ],
)
def test_the_context_is_scaled_where_the_configuration_does_not_count_it_in(
    rope: dict[str, object], context: int
) -> None:
    assert model_config(context=4096, rope_scaling=rope).context == context
    assert model_config(context=4096, rope_parameters=rope).context == context


def test_a_context_inside_text_config_is_found() -> None:
    inside = {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}

    assert ModelConfig("m", {"text_config": inside | {"model_type": "gemma3_text"}}).context == 131072
    assert ModelConfig("m", {"text_config": {"max_position_embeddings": 64}}).context == 64
    assert ModelConfig("m", {"n_positions": 1024}).context == 1024
    assert ModelConfig("m", {}).context is None
