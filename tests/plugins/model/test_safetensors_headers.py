"""Headers of safetensors files: honest ones, sharded ones, hostile ones; and modules against transformers."""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftcheck_plugins.model import safetensors_headers
from ftcheck_plugins.model.safetensors_headers import modules, weights

from ftcheck import InputError, Run
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.weights import Weights
from ftcheck.settings import Job
from ftcheck.testing import job, model_config
from tests.bounded_cpu import bounded_cpu


def stored(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def about(start: int, stop: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def job_of(folder: Path) -> Job:
    return job(model={"name": str(folder)})


def opened(folder: Path) -> Weights | None:
    found: Weights | None = weights.open(job_of(folder), Run(folder))
    return found


def refused(folder: Path, raw: bytes) -> str:
    (folder / "model.safetensors").write_bytes(raw)
    with bounded_cpu(), pytest.raises(InputError) as caught:
        opened(folder)
    assert "model.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))
    return str(caught.value)


def saved(folder: Path, tensors: Mapping[str, Any], name: str = "model.safetensors") -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: np.asarray(value) for key, value in tensors.items()}, folder / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_single_rows_are_read_from_the_file(tmp_path: Path, dtype: Any) -> None:
    table = np.arange(40, dtype=dtype).reshape(10, 4)
    saved(tmp_path, {"a": np.ones(3, dtype=dtype), "model.embed_tokens.weight": table})

    found = opened(tmp_path)

    assert found is not None
    assert found.embedding is not None
    rows = found.rows(found.embedding, [9, 0, 3])
    assert rows is not None
    assert rows.tolist() == table[[9, 0, 3]].tolist()
    assert (found.embedding.shape, found.head, found.total) == ((10, 4), None, 43)


def test_rows_in_bfloat16_are_read(samples: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    folder = samples / "models" / "mapper-tiny"
    found = opened(folder)
    assert found is not None
    assert found.embedding is not None

    rows = found.rows(found.embedding, [0, 5, 2047])

    table = load_file(folder / "model.safetensors")[found.embedding.name]
    assert rows is not None
    assert torch.equal(torch.from_numpy(rows), table[[0, 5, 2047]].float())


def test_rows_of_other_dtypes_are_not_guessed(tmp_path: Path) -> None:
    saved(tmp_path, {"model.embed_tokens.weight": np.zeros((4, 4), dtype=np.int8)})
    found = opened(tmp_path)
    assert found is not None
    assert found.embedding is not None
    assert found.rows(found.embedding, [1]) is None


def test_the_outermost_table_is_the_embedding(tmp_path: Path) -> None:
    names = ("model.layers.61.embed_tokens.weight", "model.embed_tokens.weight", "lm_head.weight")
    saved(tmp_path, {name: np.zeros((4, 2), dtype=np.float32) for name in names})
    found = opened(tmp_path)
    assert found is not None
    assert found.embedding is not None
    assert found.head is not None
    assert (found.embedding.name, found.head.name) == (names[1], names[2])


def test_a_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    saved(tmp_path, {"wte.weight": np.zeros((4, 2), dtype=np.float32)})
    found = opened(tmp_path)
    assert found is not None
    assert found.embedding is not None
    os.truncate(tmp_path / "model.safetensors", found.embedding.stop - 1)
    with pytest.raises(InputError, match="shorter"):
        found.rows(found.embedding, [3])


def test_no_weights_on_this_machine_are_none(tmp_path: Path) -> None:
    assert opened(tmp_path) is None
    assert weights.open(job(model={"name": "nobody/has-this"}), Run(tmp_path)) is None


def sharded(folder: Path, **weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), "utf-8")


def test_shards_are_one_model(tmp_path: Path) -> None:
    saved(tmp_path, {"a": np.zeros(2, dtype=np.float32)}, "one.safetensors")
    saved(tmp_path, {"b": np.zeros(3, dtype=np.float32)}, "two.safetensors")
    sharded(tmp_path, a="one.safetensors", b="two.safetensors")
    found = opened(tmp_path)
    assert found is not None
    assert sorted(found.tensors) == ["a", "b"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/one.safetensors", "..", ""])
def test_an_index_names_files_beside_it_only(tmp_path: Path, name: str) -> None:
    sharded(tmp_path, a=name)
    with pytest.raises(InputError, match=r"index\.json"):
        opened(tmp_path)


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    sharded(tmp_path, a="one.safetensors")
    with pytest.raises(InputError, match=r"names one\.safetensors, which does not exist"):
        opened(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        saved(tmp_path, {"a": np.zeros(2, dtype=np.float32)}, f"{name}.safetensors")
    sharded(tmp_path, a="one.safetensors", b="two.safetensors")
    with pytest.raises(InputError, match=r"is also in "):
        opened(tmp_path)


@pytest.mark.parametrize("value", ["[]", "{}", '{"weight_map": {"a": 3}}', "{", "\xff"])
def test_an_index_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(value.encode("latin-1"))
    with pytest.raises(InputError, match=r"index\.json"):
        opened(tmp_path)


HOSTILE = {
    "empty": b"",
    "three bytes": b"abc",
    "a header longer than the file": stored({}, length=1 << 40),
    "a header of the largest number": stored({}, length=(1 << 64) - 1),
    "no JSON": stored(b"{not json"),
    "no text": stored(b"\xff\xfe\x00"),
    "a list": stored([]),
    "deep nesting": stored(b"[" * 200_000),
    "a number of ten thousand digits": stored(b'{"a": ' + b"9" * 10_000 + b"}"),
    "a name twice": stored(b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}'),
    "an entry that is a number": stored({"a": 3}),
    "no offsets": stored({"a": {"dtype": "F32", "shape": [1]}}, b"1234"),
    "offsets outside the file": stored({"a": about(0, 400, [100])}, b"1234"),
    "offsets backwards": stored({"a": about(4, 0, [1])}, b"1234"),
    "negative offsets": stored({"a": about(-4, 0, [1])}, b"1234"),
    "offsets that are floats": stored({"a": {**about(0, 4, [1]), "data_offsets": [0.0, 4.0]}}, b"1234"),
    "offsets that are true": stored({"a": {**about(0, 4, [1]), "data_offsets": [False, True]}}, b"1234"),
    "overlapping": stored({"a": about(0, 4, [1]), "b": about(2, 6, [1])}, b"123456"),
    "the same bytes twice": stored({"a": about(0, 4, [1]), "b": about(0, 4, [1])}, b"1234"),
    "a gap": stored({"a": about(0, 4, [1]), "b": about(8, 12, [1])}, b"1" * 12),
    "bytes after the last tensor": stored({"a": about(0, 4, [1])}, b"1" * 8),
    "a shape that needs more bytes": stored({"a": about(0, 4, [1 << 61, 1 << 61])}, b"1234"),
    "a negative shape": stored({"a": about(0, 4, [-1])}, b"1234"),
    "a shape of texts": stored({"a": about(0, 4, ["1"])}, b"1234"),
    "very many dimensions": stored({"a": about(0, 4, [1] * 1_000_000)}, b"1234"),
    "a name of a million characters": stored({"\u001b[31m" * 200_000: about(0, 9, [1])}, b"1234"),
    "half a million tensors": stored({str(n): {"dtype": "F32"} for n in range(300_000)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    message = refused(tmp_path, HOSTILE[name])
    assert "\n" not in message
    assert message.isprintable()


def test_a_header_of_100_mb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(100_000_100)
    with pytest.raises(InputError, match="100,000,000 bytes; ftcheck reads"):
        opened(tmp_path)


def test_what_is_no_file_is_no_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert opened(tmp_path) is None


# --- modules ------------------------------------------------------------------------------------------

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def built(config: Mapping[str, Any], found: Weights | None = None) -> Modules | None:
    made: Modules | None = modules.open(job(), Run(Path()), ModelConfig("model", config), found)
    return made


def test_a_model_of_70b_is_listed_in_seconds_without_weights() -> None:
    pytest.importorskip("torch")
    import transformers  # noqa: F401

    built({**LLAMA, "num_hidden_layers": 1})

    with bounded_cpu():
        found = built(LLAMA)

    assert found is not None
    assert (found.total, found.head, found.tied) == (70_553_706_496, "lm_head", False)
    assert found.linear["model.layers.79.mlp.down_proj"] == (28672, 8192)
    assert found.embedding == "model.embed_tokens"


def test_names_of_tensors_say_the_same_as_the_model(samples: Path) -> None:
    pytest.importorskip("torch")
    folder = samples / "models" / "mapper-tiny"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored_weights = opened(folder)

    model, names = built(config), built({"model_type": "nobody-knows"}, stored_weights)

    assert model is not None
    assert names is not None
    assert (model.source, names.source) == ("config.json", "the names of the tensors")
    assert {**names.linear, "lm_head": (128, 2048)} == model.linear
    assert (names.embeddings, names.total, names.tied) == (model.embeddings, model.total, model.tied)
    assert set(names.names) <= set(model.names)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "nobody-knows"},
        {"model_type": 3},
        {"model_type": "llama", "hidden_size": "wide"},
        {**LLAMA, "num_hidden_layers": 10**9},
        {**LLAMA, "architectures": 7},
        {**LLAMA, "architectures": "LlamaForCausalLM"},
    ],
)
def test_a_config_that_makes_no_model_is_no_error(config: Mapping[str, Any]) -> None:
    with bounded_cpu():
        built(config)


def test_a_model_of_unknown_shape_is_none() -> None:
    assert built({"model_type": "nobody-knows"}) is None


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('run')\n", encoding="utf-8")
    config = {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.C"}}
    assert modules.open(job_of(tmp_path), Run(tmp_path), ModelConfig(str(tmp_path), config), None) is None


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "total", "tied"),
    [
        ("Llama-3.2-1B-Instruct", 1_235_814_400, True),
        ("Meta-Llama-3-8B-Instruct", 8_030_261_248, False),
        ("Mistral-7B-Instruct-v0.3", 7_248_023_552, False),
        ("Phi-3-mini-4k-instruct", 3_821_079_552, False),
        ("Qwen2.5-1.5B-Instruct", 1_543_714_304, True),
        ("Qwen2.5-7B-Instruct", 7_615_616_512, False),
    ],
)
def test_published_models_have_their_published_size(
    realdata: Path, name: str, total: int, tied: bool
) -> None:
    pytest.importorskip("torch")
    config = json.loads((realdata / "model-configs" / name / "config.json").read_text(encoding="utf-8"))
    found = built(config)
    assert found is not None
    assert (found.total, found.tied) == (total, tied)


def test_the_kits_config_is_enough_for_the_loader() -> None:
    assert built(model_config().config) is None


def test_building_a_model_leaves_its_config_as_it_was() -> None:
    """transformers writes into what it is given, and the config is the key under which modules are kept."""
    scaled = {"rope_type": "linear", "factor": 2.0}
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "rope_scaling": dict(scaled),
    }
    assert safetensors_headers._built(config) is not None
    assert config["rope_scaling"] == scaled
