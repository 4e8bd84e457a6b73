"""Two machines, each with its own copy of the files: what differs on one of them ends the training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Started
from tests.trainers import small
from tests.trainers.conftest import model_folder as model_folder
from tests.trainers.test_processes import TWO, free_port

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]


@pytest.fixture
def nodes(model_folder: Path, tmp_path: Path) -> list[Path]:
    """The same policy, rows and model in two folders."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        small.make_project(folder, model_folder, rows=32)
        (folder / "model").unlink()
        shutil.copytree(model_folder, folder / "model")
    return folders


def train(nodes: list[Path], *words: str) -> tuple[list[int], str, str]:
    """One process on each node: exit codes, and what each says."""
    command = small.ftcheck("train", "policy.yaml", "--job", "small", *TWO, *words)
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    node = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    started: list[Started] = []
    for rank, folder in enumerate(nodes):
        about = {"RANK": str(rank), "GROUP_RANK": str(rank), **node, **meet}
        started.append(small.forked(command, folder, folder / "log.txt", **about))
    codes = [one.wait() for one in started]
    first, second = (said(folder / "log.txt") for folder in nodes)
    return codes, first, second


def said(log: Path) -> str:
    """What a process said, but for torch's own warnings: here it was imported before the command began."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if "reducer.cpp" not in line)


def other_row(folder: Path) -> None:
    rows = folder / "train.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"late", b"Late", 1))


def other_tokenizer(folder: Path) -> None:
    with (folder / "model" / "tokenizer.json").open("a", encoding="utf-8") as file:
        file.write("\n")


def no_model(folder: Path) -> None:
    (folder / "model" / "config.json").unlink()


@pytest.mark.parametrize(
    ("change", "code", "file"),
    [
        (other_row, "data-changed", "train.jsonl"),
        (other_tokenizer, "tokenizer-changed", "model"),
        (no_model, "model-changed", "the model's configuration"),
    ],
)
def test_a_node_whose_files_differ_ends_all_and_is_named(
    nodes: list[Path], change: Callable[[Path], None], code: str, file: str
) -> None:
    change(nodes[1])

    codes, first, second = train(nodes)

    assert codes == [5, 5], first + second
    line, *_ = [line for line in first.splitlines() if "node 1 (" in line]
    assert line.split()[:3] == [code, "node", "1"]
    assert f"): {file} was sha256:" in line
    assert line.endswith("; copy there what was checked")
    assert first.count("gate: refused for small") == 1
    assert second == ""
    assert not any((folder / "run").exists() for folder in nodes)


def test_what_another_process_alone_finds_wrong_the_first_one_tells_in_a_line(nodes: list[Path]) -> None:
    (nodes[1] / "policy.yaml").write_text("ftcheck: 1\njobs: {small: {modle: {}}}\n", encoding="utf-8")

    codes, first, second = train(nodes)

    assert codes == [2, 2], first + second
    assert first.count("\n") == 1
    assert first.startswith("process 1: policy.yaml:2:")
    assert second == ""


def test_nodes_with_the_same_files_train(nodes: list[Path], tmp_path: Path) -> None:
    shared = small.sets(output_dir=str(tmp_path / "run"), max_steps=2, eval_strategy="no")

    codes, first, second = train(nodes, *shared)

    assert codes == [0, 0], first + second
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    assert second == ""


def test_a_node_that_does_not_see_the_run_folder_ends_all(nodes: list[Path]) -> None:
    codes, first, second = train(nodes, *small.sets(max_steps=2, eval_strategy="no"))

    assert codes == [6, 6], first + second
    [line] = [line for line in first.splitlines() if "does not see the run folder" in line]
    assert "node 1 (" in line
    assert small.run_json(nodes[0] / "run")["status"] == "failed"
    assert second == ""
    assert not list((nodes[0] / "run").glob(".node-*"))
