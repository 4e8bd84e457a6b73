from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.host import environment as module
from ftcheck_plugins.host.environment import environment, wandb_mode

SECRET = "hf_" + "x" * 34


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without hub, trackers and launcher."""
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_CACHE",
        "WORLD_SIZE",
        "NETRC",
        "WANDB_API_KEY",
        "WANDB_MODE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def test_a_token_is_told_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)

    found = environment.open()

    assert found.hub_token is True
    assert SECRET not in repr(found)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_is_what_the_libraries_read(
    monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)

    assert environment.open().offline is offline


def test_the_cache_and_its_disk_are_those_of_hf_home(tmp_path: Path) -> None:
    found = environment.open()

    assert found.hub_cache == str(tmp_path / "hf" / "hub")
    assert found.cache_free is not None
    assert found.cache_free > 0


def test_a_launcher_states_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.open().world_size is None

    monkeypatch.setenv("WORLD_SIZE", "4")

    assert environment.open().world_size == 4


def test_without_shared_memory_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path / "none")

    assert environment.open().shm is None


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, None),
        ({"WANDB_API_KEY": "x"}, "key"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_MODE": "online"}, None),
    ],
)
def test_how_wandb_would_start(environment: dict[str, str], mode: str | None) -> None:
    assert wandb_mode(environment) == mode


@pytest.mark.parametrize(
    ("text", "more", "mode"),
    [
        ("machine api.wandb.ai\n login user\n password x\n", {}, "key"),
        ("machine other.example\n login user\n password x\n", {}, None),
        (
            "machine wandb.example\n login u\n password x\n",
            {"WANDB_BASE_URL": "https://wandb.example"},
            "key",
        ),
        ("this is no netrc", {}, None),
    ],
)
def test_a_key_in_netrc_counts(tmp_path: Path, text: str, more: dict[str, Any], mode: str | None) -> None:
    path = tmp_path / "netrc"
    path.write_text(text)

    assert wandb_mode({"NETRC": str(path), **more}) == mode
