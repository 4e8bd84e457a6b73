"""A run that is killed or told to stop goes on as if nothing had been; what is left of it is whole."""

import json
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from ftcheck_trainers import checkpoint

from ftcheck.inputs.run_folder import SEAL
from tests.commands import Started
from tests.trainers import small
from tests.trainers.kills import Bench, Moment

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

STEPS = 9
TRIES = 10
"""Trainings that may be over before this process, on a busy machine, sees the moment come."""


@pytest.fixture(scope="module")
def bench(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The small job, trained whole."""
    settings = small.sets(max_steps=STEPS)
    return Bench(tmp_path_factory.mktemp("bench"), model_folder, start=small.forked, settings=settings)


def stopped_after(bench: Bench, steps: int) -> Started:
    """A training that has logged so many steps and stands still (SIGSTOP), before its last one."""
    metrics = bench.run / "metrics.jsonl"

    def logged() -> int:
        return metrics.read_text(encoding="utf-8").count('"loss"') if metrics.exists() else 0

    for _ in range(TRIES):
        bench.clear()
        process = bench.start(bench.training())
        process.until(lambda: logged() >= steps, bench.said)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
        if process.poll() is None and logged() < STEPS - 1:
            return process
        process.end()  # it was quicker than this test
    raise AssertionError(f"{TRIES} trainings had ended before they could be stopped: {bench.said()}")


@pytest.mark.parametrize("moment", [Moment(0.01, save=2), Moment(0.0, save=4)])
def test_a_run_that_is_killed_ends_as_the_whole_one(bench: Bench, moment: Moment) -> None:
    tried = (bench.kill(moment) for _ in range(TRIES))
    kill = next((kill for kill in tried if kill is not None), None)

    assert kill is not None
    assert kill.good, kill
    assert kill.went_on.startswith("from checkpoint-")


def test_sigterm_finishes_the_step_writes_a_checkpoint_and_the_run_goes_on(bench: Bench) -> None:
    process = stopped_after(bench, 4)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)

    assert process.wait() == 130

    about = small.run_json(bench.run)
    step = about["steps"]
    assert (about["status"], about["reason"]) == ("interrupted", f"SIGTERM after step {step}")
    assert about["remedy"] == f"resume with --resume, from checkpoint-{step}"
    assert about["remedy"] in bench.said()
    assert checkpoint.flaw_of(bench.run / f"checkpoint-{step}") is None
    assert small.metrics(bench.run)[-1]["step"] == step
    assert bench.call(bench.training(resume=True)) == 0
    assert bench.compared(Moment(0.0), "", "").good


def test_the_second_signal_ends_at_once_and_leaves_nothing_half_written(bench: Bench) -> None:
    process = stopped_after(bench, 4)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)

    assert process.wait() == 130

    about = small.run_json(bench.run)
    assert about["status"] == "interrupted"
    assert about["reason"] in ("SIGTERM, twice", "Ctrl-C, twice")
    last = checkpoint.last(bench.run)
    assert last.path is not None
    assert about["remedy"] == f"resume with --resume, from {last.path.name}"
    assert not list(bench.run.glob("_*"))
    assert last.passed_over == ()


def truncate(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-100])
    return f"{path.name} has {path.stat().st_size} bytes"


def flip(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return f"{path.name} has changed since it was written"


def remove(path: Path) -> str:
    path.unlink()
    return f"no {path.name}" if path.name == SEAL else f"{path.name} is missing"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("adapter_model.safetensors", truncate),
        ("adapter_model.safetensors", flip),
        ("optimizer.pt", truncate),
        ("rng_state.pth", remove),
        ("trainer_state.json", truncate),
        (SEAL, remove),
    ],
)
def test_a_broken_checkpoint_is_passed_over_with_a_word(
    bench: Bench, tmp_path: Path, file: str, damage: object
) -> None:
    import shutil

    shutil.copytree(bench.whole, tmp_path / "run")
    assert callable(damage)
    words = damage(tmp_path / "run" / "checkpoint-9" / file)

    found = checkpoint.last(tmp_path / "run")

    assert found.path == tmp_path / "run" / "checkpoint-6"
    [said] = found.passed_over
    assert said.startswith(f"{tmp_path / 'run' / 'checkpoint-9'} is skipped: {words}")


def test_a_broken_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(bench: Bench) -> None:
    process = stopped_after(bench, 7)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = checkpoint.last(bench.run).path
    assert last is not None
    truncate(last / "optimizer.pt")

    assert bench.call(bench.training(resume=True)) == 0

    said = bench.said()
    assert f"{last} is skipped: optimizer.pt has" in said
    assert (bench.run / f"flawed-{last.name}").is_dir()
    [resumption] = small.run_json(bench.run)["resumed"]
    assert resumption["step"] < int(last.name.rpartition("-")[2])
    assert "is skipped" in resumption["notes"][0]
    assert bench.compared(Moment(0.0), "", "").good


def test_a_checkpoint_of_other_versions_is_said_and_of_other_processes_refused(bench: Bench) -> None:
    process = stopped_after(bench, 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = checkpoint.last(bench.run).path
    assert last is not None
    seal = last / SEAL
    about = json.loads(seal.read_text(encoding="utf-8"))
    about["packages"]["torch"], about["processes"] = "1.13.1", 2
    seal.write_text(json.dumps(about), encoding="utf-8")

    assert bench.call(bench.training(resume=True)) == 6
    assert "was written by 2 processes, this run has 1" in bench.said()
    about["processes"] = 1
    seal.write_text(json.dumps(about), encoding="utf-8")
    assert bench.call(bench.training(resume=True)) == 0

    assert "was written with torch 1.13.1 (now " in small.run_json(bench.run)["resumed"][0]["notes"][0]


def test_a_run_folder_of_another_job_is_left_alone(bench: Bench) -> None:
    bench.clear()
    bench.run.mkdir()
    other = json.dumps({"schema": "ftcheck.run/1", "job": "analyst", "status": "failed", "ticket": {}})
    (bench.run / "run.json").write_text(other, encoding="utf-8")

    assert bench.call(bench.training()) == 6
    assert bench.call(bench.training(resume=True)) == 5

    assert (bench.run / "run.json").read_text(encoding="utf-8") == other
    assert "contains a run of the job analyst" in bench.said()
