"""One training in two processes: the first decides, prints and writes, and both train what one would."""

import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ftcheck_trainers import checkpoint

from ftcheck.inputs.run_folder import read_seal
from tests.commands import Started
from tests.trainers import small

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

TWO = ("--set", "jobs.small.hardware.count=2", *small.sets(per_device_train_batch_size=4))
CALM = small.sets(max_steps=6, eval_steps=6, lora={"r": 4, "lora_alpha": 8, "target_modules": "all-linear"})


@pytest.fixture
def project(model_folder: Path, tmp_path: Path) -> Path:
    small.make_project(tmp_path, model_folder, rows=64)
    return tmp_path


def train(*words: str) -> list[str]:
    return small.ftcheck("train", "policy.yaml", "--job", "small", *words)


def call(folder: Path, words: Sequence[str]) -> int:
    return small.forked(words, folder, folder / "log.txt").wait()


def two(folder: Path, words: Sequence[str], **environment: str) -> list[Started]:
    """What a launcher starts: the same command twice, each with its number."""
    port = free_port()
    started = []
    for rank in ("0", "1"):
        about = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        more = {**about, **meet, **environment}
        started.append(small.forked(words, folder, folder / f"log{rank}.txt", **more))
    return started


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def said(folder: Path, rank: int) -> str:
    return (folder / f"log{rank}.txt").read_text(encoding="utf-8")


def test_two_processes_train_what_one_trains_at_the_same_effective_batch(project: Path) -> None:
    assert call(project, train(*CALM)) == 0
    (project / "run").rename(project / "one")

    codes = [one.wait() for one in two(project, train(*CALM, *TWO))]

    assert codes == [0, 0], said(project, 0) + said(project, 1)
    one, both = small.run_json(project / "one"), small.run_json(project / "run")
    assert (one["processes"], both["processes"]) == (1, 2)
    for key in ("steps", "epochs", "tokens", "planned"):
        assert both[key] == one[key], key
    ours, theirs = small.metrics(project / "run"), small.metrics(project / "one")
    assert len(ours) == len(theirs) == 7
    for a, b in zip(ours, theirs, strict=True):
        assert a["step"] == b["step"]
        assert a.get("tokens") == b.get("tokens")
        name = "loss" if "loss" in a else "eval_loss"
        assert a[name] == pytest.approx(b[name], abs=0.01)
    assert theirs[0]["loss"] - theirs[-2]["loss"] > 0.1
    assert both["tokens_per_second"] > 0
    assert "gate: open for small" in said(project, 0)
    assert "gate" not in said(project, 1)
    assert "training small" not in said(project, 1)
    sealed = read_seal(project / "run" / "checkpoint-6")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(sealed["files"])


def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_step(project: Path) -> None:
    settings = (*small.sets(max_steps=200, eval_strategy="no"), *TWO)
    first, second = two(project, train(*settings))
    metrics = project / "run" / "metrics.jsonl"
    first.until(
        lambda: metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") >= 3,
        lambda: said(project, 0),
    )
    second.send_signal(signal.SIGTERM)

    assert [first.wait(), second.wait()] == [130, 130]

    about = small.run_json(project / "run")
    assert about["status"] == "interrupted"
    assert about["reason"] == f"a signal to another process after step {about['steps']}"
    assert checkpoint.last(project / "run").path == project / "run" / f"checkpoint-{about['steps']}"


def test_a_process_that_is_killed_ends_the_other_and_two_go_on_from_the_checkpoint(project: Path) -> None:
    settings = (*small.sets(max_steps=9, eval_strategy="no", save_steps=2), *TWO)
    first, second = two(project, train(*settings))
    first.until((project / "run" / "checkpoint-2").exists, lambda: said(project, 0))
    second.send_signal(signal.SIGKILL)

    assert first.wait() == 6

    about = small.run_json(project / "run")
    assert about["status"] == "failed"
    assert about["reason"].startswith("another process of this training has ended (")
    assert about["reason"] in said(project, 0)
    assert call(project, train("--resume", *settings)) == 6  # one process is not two
    assert [one.wait() for one in two(project, train("--resume", *settings))] == [0, 0]
    assert small.run_json(project / "run")["steps"] == 9
    assert [line["step"] for line in small.metrics(project / "run")] == [*range(1, 10)]


def test_where_the_first_process_is_killed_the_other_ends_too_and_two_go_on(project: Path) -> None:
    settings = (*small.sets(max_steps=9, eval_strategy="no", save_steps=2), *TWO)
    first, second = two(project, train(*settings))
    first.until((project / "run" / "checkpoint-2").exists, lambda: said(project, 0))
    first.send_signal(signal.SIGKILL)

    assert second.wait() == 6

    assert "Traceback" not in said(project, 1)
    assert [one.wait() for one in two(project, train("--resume", *settings))] == [0, 0]
    assert [line["step"] for line in small.metrics(project / "run")] == [*range(1, 10)]


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        (small.sets(seed=7), 6, "job small is planned for hardware.count: 1, but 2 processes were started"),
        (small.sets(packing_strategy="no"), 2, "packing_strategy"),
        (("--no-such-option",), 2, "no-such-option"),
        (
            (*TWO, *small.sets(accelerator_config={"split_batches": True})),
            6,
            "split_batches shares each batch among 2 processes: a step would take 8 rows instead of 16",
        ),
    ],
)
def test_what_the_first_process_refuses_ends_both_alike(
    project: Path, settings: Sequence[str], code: int, words: str
) -> None:
    codes = [one.wait() for one in two(project, train(*settings))]

    assert codes == [code, code], said(project, 0) + said(project, 1)
    assert said(project, 0).count(words) == 1
    assert said(project, 1) == ""
    assert not (project / "run").exists()


def test_under_torchrun_the_gate_refuses_all_processes_with_its_own_exit_code(project: Path) -> None:
    assert call(project, small.ftcheck("run", "policy.yaml", *TWO, "-o", "json=r.json")) == 0
    rows = project / "train.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"late", b"Late", 1))
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
    command = (*launcher, "--master_port", free_port(), *train("--report", "r.json", *TWO)[1:])

    code = small.started(command, project, project / "log.txt").wait()

    log = (project / "log.txt").read_text(encoding="utf-8")
    assert code == 1  # torchrun's own
    assert re.findall(r"exitcode +: (-?\d+)", log) == ["5", "5"]
    assert log.count("gate: refused") == 1
    assert not (project / "run").exists()
