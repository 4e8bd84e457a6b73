import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from ftcheck_plugins.model.hub import download_size, repository

from ftcheck.inputs.container import Run
from ftcheck.inputs.repository import Repository
from ftcheck.testing import environment, job

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class File:
    rfilename: str
    size: int | None


@dataclass
class Info:
    gated: Any = False
    siblings: tuple[File, ...] = (File("config.json", 10), File("model.safetensors", 1000))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def ask(name: str, *, offline: bool = False, here: bool = False) -> Repository:
    found: Repository = repository.open(
        job(model={"name": name}), Run(Path("unused"), offline=offline), environment(offline=here)
    )
    return found


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    class Api:
        def model_info(self, name: str, **options: Any) -> Any:
            asked.append({"name": name, **options})
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return asked


def snapshot(cache: Path, name: str, *files: str) -> Path:
    kept = cache / ("models--" + name.replace("/", "--"))
    folder = kept / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    for one in files:
        (folder / one).write_text("{}")
    return folder


def test_a_folder_is_local_and_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answering(monkeypatch, Info())

    there, gone = ask(str(tmp_path)), ask(str(tmp_path / "gone"))

    assert (there.local, there.found) == (True, True)
    assert (gone.local, gone.found) == (True, False)
    assert asked == []


def test_a_whole_snapshot_is_cached_and_the_hub_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    asked = answering(monkeypatch, Info())
    snapshot(cache, "owner/model", "config.json", "model.safetensors")

    assert ask("owner/model").cached
    assert asked == []


def test_a_snapshot_without_one_of_its_shards_is_not_whole(cache: Path) -> None:
    folder = snapshot(cache, "owner/model", "config.json", "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    half = ask("owner/model", offline=True)
    (folder / "model-2.safetensors").write_text("")

    assert not half.cached
    assert half.problem == "the hub was not contacted: this run is offline"
    assert ask("owner/model", offline=True).cached


@pytest.mark.parametrize(
    "files", [("config.json",), ("model.safetensors",), ("config.json", "tokenizer.json")]
)
def test_a_snapshot_without_config_or_weights_is_not_whole(cache: Path, files: tuple[str, ...]) -> None:
    snapshot(cache, "owner/model", *files)

    assert not ask("owner/model", offline=True).cached


def test_nobody_is_asked_where_the_machine_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, Info())

    assert ask("owner/model", here=True).found is None
    assert asked == []


def test_a_name_like_one_in_the_cache_is_named(cache: Path) -> None:
    snapshot(cache, "meta-llama/Llama-3.1-8B")

    assert ask("meta-lama/Llama-3.1-8B", offline=True).close == "meta-llama/Llama-3.1-8B"
    assert ask("Llama-3.1-8B", offline=True).close == "meta-llama/Llama-3.1-8B"
    assert ask("google/gemma-2-2b", offline=True).close is None


def test_the_hubs_answer_is_kept_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, Info(gated="manual"))

    found = ask("owner/model")

    assert (found.found, found.gated, found.size) == (True, True, 1010)
    assert asked[0]["timeout"] == 10.0
    assert asked[0]["files_metadata"] is True


def _refusal(kind: str) -> Exception:
    """One of the hub's errors; which HTTP client's answer it carries does not matter."""
    made: type[Exception] = getattr(huggingface_hub.errors, kind)
    return made.__new__(made)


@pytest.mark.parametrize(
    ("kind", "found", "gated"),
    [
        ("GatedRepoError", True, True),
        ("RepositoryNotFoundError", False, None),
        ("RevisionNotFoundError", False, None),
    ],
)
def test_what_the_hub_refuses(
    monkeypatch: pytest.MonkeyPatch, kind: str, found: bool, gated: bool | None
) -> None:
    answering(monkeypatch, _refusal(kind))

    answer = ask("owner/model")

    assert (answer.found, answer.gated, answer.size) == (found, gated, None)


def test_a_network_that_fails_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, OSError("Network is\nunreachable"))

    answer = ask("owner/model")

    assert answer.found is None
    assert answer.problem == "the hub did not answer: OSError: Network is unreachable"


def test_the_download_is_one_kind_of_weights_and_the_small_files() -> None:
    files = [
        File("config.json", 1),
        File("model-1.safetensors", 100),
        File("model-2.safetensors", 100),
        File("pytorch_model.bin", 200),
        File("original/consolidated.pth", 400),
        File("figure.png", 50),
    ]

    assert download_size(files) == 201
    assert download_size([File("pytorch_model.bin", 200)]) == 200
    assert download_size(None) is None
