"""Two processes train what one trains: the same steps, the same rows in the same order, the same losses.

Found by hand: accelerate gives a short last batch to the processes from the front, and repeats rows from
the beginning of the epoch where it does not suffice. 39 rows at 2 x 4 per batch leave 7 in the last one:
process 1 would train a 40th row, and the step's loss would be another than that of one process.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainers import small
from tests.trainers.launched import FED
from tests.trainers.test_processes import free_port, two

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

EXACT = small.sets(
    max_steps=5,
    save_steps=2,
    eval_strategy="no",
    bf16=False,
    lora={"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
)
"""No dropout, and float32: what differs is the order of additions. 3 steps an epoch."""
BOTH = ("--set", "jobs.small.hardware.count=2", *small.sets(per_device_train_batch_size=4))
METHODS = {"QLoRA": small.sets(bf16=False), "LoRA": small.sets(quantization=None)}
NOISE = 2e-3
"""Of losses near 6. Adam's first steps are the signs of gradients: what is almost 0 comes out either way."""
LAUNCHERS = {
    "torchrun": (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"),
    "accelerate": (
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
        *("--num_processes", "2", "--main_process_port"),
    ),
}
"""accelerate 1.15 starts one process with --cpu, however many are asked for (commands/launch.py)."""


def project(folder: Path, model: Path, rows: int) -> Path:
    folder.mkdir()
    small.make_project(folder, model, rows=rows)
    (folder / "fed").mkdir()
    return folder


def train(folder: Path, *words: str) -> list[str]:
    """What each process runs, noting the rows it feeds."""
    command = ("train", "policy.yaml", "--job", "small", *EXACT, *words)
    return [sys.executable, "-m", "tests.trainers.launched", *command]


def one(folder: Path, model: Path, rows: int, *words: str) -> Path:
    """Train in one process."""
    project(folder, model, rows)
    started = small.forked(train(folder, *words), folder, folder / "log.txt", **{FED: str(folder / "fed")})
    assert started.wait() == 0, (folder / "log.txt").read_text(encoding="utf-8")
    return folder


def both(folder: Path, *words: str, **environment: str) -> list[int]:
    """Train in two; the exit codes."""
    about = {FED: str(folder / "fed"), **environment}
    return [started.wait() for started in two(folder, train(folder, *words, *BOTH), **about)]


def fed(folder: Path, processes: int) -> list[Any]:
    """The rows of each batch of all processes, in their order."""
    files = [folder / "fed" / f"{rank}.jsonl" for rank in range(processes)]
    batches = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    return [[row for part in parts for row in part] for parts in zip(*batches, strict=True)]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in small.metrics(folder / "run") if "loss" in line]


def same(folder: Path, alone: Path) -> None:
    """Steps, tokens, plan, rows and losses are those of one process."""
    ours, theirs = small.run_json(folder / "run"), small.run_json(alone / "run")
    for key in ("steps", "epochs", "tokens"):
        assert ours[key] == theirs[key], key
    assert ours["planned"] == {**theirs["planned"], "filled": -theirs["planned"]["blocks"] % 8}
    assert fed(folder, 2) == fed(alone, 1)
    assert losses(folder) == pytest.approx(losses(alone), abs=NOISE)
    assert losses(folder)[0] == pytest.approx(losses(alone)[0], abs=1e-5)
    assert losses(alone)[0] - losses(alone)[-1] > 10 * NOISE


@pytest.mark.parametrize("rows", [39, 40], ids=["7 of 8 rows in the last batch", "8 of 8 rows"])
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_feed_the_rows_of_one_and_lose_what_it_loses(
    model_folder: Path, tmp_path: Path, method: str, rows: int
) -> None:
    alone = one(tmp_path / "one", model_folder, rows, *METHODS[method])
    here = project(tmp_path / "two", model_folder, rows)

    assert both(here, *METHODS[method]) == [0, 0], (here / "log0.txt").read_text()

    same(here, alone)


def test_a_batch_of_which_one_process_has_no_row_is_trained_by_the_other(
    model_folder: Path, tmp_path: Path
) -> None:
    alone = one(tmp_path / "one", model_folder, 35, *METHODS["LoRA"])
    here = project(tmp_path / "two", model_folder, 35)

    assert both(here, *METHODS["LoRA"]) == [0, 0], (here / "log0.txt").read_text()

    same(here, alone)


def test_packed_blocks_that_do_not_divide_are_each_trained_once(model_folder: Path, tmp_path: Path) -> None:
    settings = (*METHODS["LoRA"], *small.sets(packing=True))
    alone = one(tmp_path / "one", model_folder, 39, *settings)
    here = project(tmp_path / "two", model_folder, 39)

    assert both(here, *settings) == [0, 0], (here / "log0.txt").read_text()

    same(here, alone)
    assert small.run_json(here / "run")["planned"]["filled"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_after_a_kill_in_the_middle_two_go_on_as_one_that_was_never_killed(
    model_folder: Path, tmp_path: Path, method: str
) -> None:
    alone = one(tmp_path / "one", model_folder, 39, *METHODS[method])
    here = project(tmp_path / "two", model_folder, 39)
    first, second = two(here, train(here, *METHODS[method], *BOTH))
    first.until((here / "run" / "checkpoint-2").exists, lambda: (here / "log0.txt").read_text())
    second.send_signal(signal.SIGKILL)
    assert first.wait() == 6

    assert both(here, "--resume", *METHODS[method]) == [0, 0], (here / "log0.txt").read_text()

    assert losses(here) == pytest.approx(losses(alone), abs=NOISE)
    step = small.run_json(here / "run")["resumed"][-1]["step"]
    batches = {2: 4, 3: 5, 4: 9}[step]  # 2 batches a step, but the third step of an epoch has one
    assert fed(here, 2) == fed(alone, 1)[batches:]


@pytest.mark.parametrize(("launcher", "method"), [("torchrun", "QLoRA"), ("accelerate", "LoRA")])
def test_a_launcher_s_two_processes_train_what_one_trains(
    model_folder: Path, tmp_path: Path, launcher: str, method: str
) -> None:
    alone = one(tmp_path / "one", model_folder, 39, *METHODS[method])
    here = project(tmp_path / "two", model_folder, 39)
    module = ("--module",) if launcher == "accelerate" else ("-m",)
    command = (*LAUNCHERS[launcher], free_port(), *module, *train(here, *METHODS[method], *BOTH)[2:])
    log = here / "log.txt"

    assert small.started(command, here, log, **{FED: str(here / "fed")}).wait() == 0, log.read_text()

    same(here, alone)
    assert log.read_text().count("gate: open for small") == 1
    assert log.read_text().count("trained: ") == 1
    assert "find_unused_parameters" not in log.read_text()
