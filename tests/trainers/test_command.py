"""Any other trainer behind the gate: started, watched and written down."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers import run_folder
from ftcheck_trainers.command import TRAINER, describe

from ftcheck.errors import TrainingError
from ftcheck.gate.ticket import Refused
from ftcheck.inputs import prepared_folder
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.run_folder import SCHEMA
from ftcheck.settings import Data, Job, Model, TrainerChoice, Training
from tests.trainers.conftest import make_ticket


def make_job(folder: Path, *argv: str) -> Job:
    return Job(
        name="mapper",
        model=Model(name="base"),
        training=Training(output_dir=str(folder / "run")),
        trainer=TrainerChoice(use="command", argv=argv),
    )


def trained(job: Job, folder: Path, *, resume: bool = False, **changes: Any) -> str:
    (folder / "policies").mkdir(exist_ok=True)
    name = changes.pop("name", job.name)
    policy = str(folder / "policies" / "night.yaml")
    ticket = make_ticket(replace(job, name=name), "sha256:ids", policy=policy, **changes)
    return TRAINER.train(ticket, job, Inputs({}, {}, job), resume=resume)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def run_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    return found


def test_the_command_runs_in_the_policys_folder_and_its_output_is_seen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job(tmp_path, *python("import os; print('cwd', os.getcwd(), os.environ['FTCHECK_JOB'])"))

    folder = trained(job, tmp_path)

    assert folder == str(tmp_path / "run")
    assert capfd.readouterr().out == f"cwd {tmp_path / 'policies'} mapper\n"
    run = run_json(tmp_path)
    assert (run["status"], run["ids"], run["trainer"]) == ("finished", "unverified", "command")
    assert run["ticket"]["ids"] == "sha256:ids"
    assert run["command"] == list(job.trainer.argv)
    assert run["finished_at"] is not None


def test_the_description_is_what_one_would_type(tmp_path: Path) -> None:
    assert describe(make_job(tmp_path, "axolotl", "train", "my job.yml")) == "axolotl train 'my job.yml'"


def test_no_shell_looks_at_the_arguments(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = make_job(tmp_path, *python("import sys; print(sys.argv[1])"), "$HOME; echo no | cat")

    trained(job, tmp_path)

    assert capfd.readouterr().out == "$HOME; echo no | cat\n"


def test_a_command_that_fails_fails_the_training_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="ended with exit code 3"):
        trained(make_job(tmp_path, *python("raise SystemExit(3)")), tmp_path)

    assert run_json(tmp_path)["status"] == "failed"
    assert "exit code 3" in run_json(tmp_path)["reason"]


def test_a_command_that_is_killed_says_by_what(tmp_path: Path) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

    with pytest.raises(
        TrainingError, match="was killed by SIGKILL; often the kernel does this when memory runs out"
    ):
        trained(make_job(tmp_path, *python(kill)), tmp_path)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"trainer\.argv: no-such-trainer failed to start in .*: No such file"
    ):
        trained(make_job(tmp_path, "no-such-trainer", "train"), tmp_path)


def test_an_empty_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"jobs\.mapper\.trainer\.argv: trainer\.argv is empty"):
        trained(make_job(tmp_path), tmp_path)

    assert not (tmp_path / "run").exists()


def test_the_ticket_of_another_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the ticket is for job analyst"):
        trained(make_job(tmp_path, *python("pass")), tmp_path, name="analyst")

    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_run_over_and_a_failed_one_may_be(tmp_path: Path) -> None:
    good, bad = make_job(tmp_path, *python("pass")), make_job(tmp_path, *python("raise SystemExit(1)"))
    with pytest.raises(TrainingError):
        trained(bad, tmp_path)

    trained(good, tmp_path)

    with pytest.raises(TrainingError, match="contains a finished run; set another"):
        trained(good, tmp_path)


def test_resuming_runs_the_command_again_and_tells_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os; print(resume := os.environ.get('FTCHECK_RESUME')); raise SystemExit(resume is None)"
    job = make_job(tmp_path, *python(code))
    with pytest.raises(TrainingError):
        trained(job, tmp_path)

    with pytest.raises(Refused, match="data-changed"):
        trained(job, tmp_path, resume=True, inputs={"mapper.train": "sha256:other"})
    trained(job, tmp_path, resume=True)

    assert capfd.readouterr().out == "None\n1\n"
    assert run_json(tmp_path)["status"] == "finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_to_the_command_and_the_run_is_interrupted(
    tmp_path: Path, number: signal.Signals
) -> None:
    ready, seen = tmp_path / "ready", tmp_path / "seen"
    code = f"""
import pathlib, signal, sys, time
def seen(number, frame):
    pathlib.Path({str(seen)!r}).write_text(str(number))
    sys.exit(0)
signal.signal({int(number)}, seen)
pathlib.Path({str(ready)!r}).touch()
time.sleep(3600)
"""

    def send() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        trained(make_job(tmp_path, *python(code)), tmp_path)

    assert seen.read_text() == str(int(number))
    assert (run_json(tmp_path)["status"], run_json(tmp_path)["reason"]) == ("interrupted", number.name)


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    import psutil

    parent = psutil.Process().parent()
    assert parent is not None
    (tmp_path / "run").mkdir()
    living = {"pid": parent.pid, "began": parent.create_time()}
    host = os.uname().nodename
    record = {"schema": SCHEMA, "status": "running", "host": host, "process": living}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(TrainingError, match=rf"is still running \(process {parent.pid}\)"):
        trained(make_job(tmp_path, *python("pass")), tmp_path)

    record["process"] = living | {"began": 1.0}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    trained(make_job(tmp_path, *python("pass")), tmp_path)


def test_a_run_of_another_machine_is_left_alone_until_it_has_been_quiet_for_long(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "run.json"
    record = {"schema": SCHEMA, "status": "running", "host": "elsewhere"}
    file.write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(TrainingError, match="wrote 0 min ago on elsewhere and may still be running"):
        trained(make_job(tmp_path, *python("pass")), tmp_path)

    os.utime(file, (time.time() - 3600, time.time() - 3600))
    trained(make_job(tmp_path, *python("pass")), tmp_path)


def test_somebody_elses_model_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")

    with pytest.raises(TrainingError, match=r"contains config\.json; set another training\.output_dir"):
        trained(make_job(tmp_path, *python("pass")), tmp_path)


RUNS_UNTIL_ONE_IS_REFUSED = """
import pathlib, time
folder = pathlib.Path({folder!r})
with (folder / "ran").open("a") as file:
    file.write("x")
until = time.monotonic() + 60
while not (folder / "refused").exists() and time.monotonic() < until:
    time.sleep(0.05)
"""


def race(folder: Path, meet: Any, told: Any) -> None:
    """One of two trainings of the same job; both have looked at the run folder before either one writes."""
    claim = run_folder.claim

    def claim_together(*args: Any, **kwargs: Any) -> run_folder.Claim:
        found = claim(*args, **kwargs)
        meet.wait(60)
        return found

    run_folder.claim = claim_together
    job = make_job(folder, *python(RUNS_UNTIL_ONE_IS_REFUSED.format(folder=str(folder))))
    try:
        trained(job, folder)
    except TrainingError as error:
        (folder / "refused").touch()
        told.put(str(error))
    else:
        told.put("trained")


def test_of_two_trainings_that_start_together_one_gets_the_run_folder(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    meet, told = spawn.Barrier(2), spawn.Queue()
    (tmp_path / "policies").mkdir()
    both = [spawn.Process(target=race, args=(tmp_path, meet, told)) for _ in range(2)]

    for one in both:
        one.start()
    refused, trained_one = sorted(told.get(timeout=120) for _ in both)
    for one in both:
        one.join(60)

    assert trained_one == "trained"
    assert f"the run in {tmp_path / 'run'} is still running" in refused
    assert (tmp_path / "ran").read_text() == "x"
    assert run_json(tmp_path)["status"] == "finished"


def test_a_training_that_ended_between_the_claim_and_the_start_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = run_folder.claim
    job = make_job(tmp_path, *python("pass"))

    def claim_early(*args: Any, **kwargs: Any) -> run_folder.Claim:
        found = claim(*args, **kwargs)
        monkeypatch.setattr(run_folder, "claim", claim)
        trained(job, tmp_path)
        return found

    monkeypatch.setattr(run_folder, "claim", claim_early)
    with pytest.raises(TrainingError, match=r"another training wrote to .*/run in the meantime; start again"):
        trained(job, tmp_path)

    assert run_json(tmp_path)["status"] == "finished"


def test_a_run_that_is_killed_leaves_the_folder_unlocked(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    (tmp_path / "policies").mkdir()
    alone, told = spawn.Barrier(1), spawn.Queue()
    killed = spawn.Process(target=race, args=(tmp_path, alone, told))
    killed.start()
    while not (tmp_path / "ran").exists():
        assert killed.is_alive()
        time.sleep(0.05)
    with pytest.raises(TrainingError, match=rf"is still running \(process {killed.pid}\)"):
        trained(make_job(tmp_path, *python("pass")), tmp_path)

    killed.kill()
    killed.join()
    (tmp_path / "refused").touch()

    trained(make_job(tmp_path, *python("pass")), tmp_path)


def prepared(folder: Path) -> Path:
    """A folder of prepared rows; what stands in its files does not matter here."""
    (folder / "ready").mkdir()
    (folder / "ready" / "train.parquet").write_bytes(b"rows")
    return folder / "ready"


def test_a_folder_of_prepared_rows_is_compared_just_before_the_start(tmp_path: Path) -> None:
    ready = prepared(tmp_path)
    job = replace(make_job(tmp_path, *python("pass")), data=Data(prepared=str(ready)))
    inputs = {"mapper.prepared": prepared_folder.find(str(ready)).digest()}
    trained(job, tmp_path, inputs=inputs)
    assert run_json(tmp_path)["ids"] == "sha256:ids"

    (ready / "train.parquet").write_bytes(b"other")
    again = replace(job, training=Training(output_dir=str(tmp_path / "again")))
    with pytest.raises(Refused, match="ready has changed since it was checked"):
        trained(again, tmp_path, inputs=inputs)
    assert not (tmp_path / "again" / "run.json").exists()


AGAIN = """
import pathlib
made = pathlib.Path('{}')
made.mkdir(exist_ok=True)
(made / 'state.json').write_text('')
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('{}/train.parquet', 'wb').write(b'other')", "ready changed while the command ran"),
        ("import shutil; shutil.rmtree('{}')", "ready changed while the command ran"),
        (AGAIN.replace("{}", "{}/../fedcba9876543210fedcba9876543210"), "prepared rows anew"),
    ],
)
def test_a_command_that_prepares_rows_anew_did_not_train_what_was_checked(
    tmp_path: Path, code: str, said: str
) -> None:
    ready = prepared(tmp_path)
    if "anew" in said:
        ready = ready.rename(tmp_path / "0123456789abcdef0123456789abcdef")
    job = replace(make_job(tmp_path, *python(code.replace("{}", str(ready)))), data=Data(prepared=str(ready)))
    inputs = {"mapper.prepared": prepared_folder.find(str(ready)).digest()}
    with pytest.raises(TrainingError, match=said):
        trained(job, tmp_path, inputs=inputs)
    assert run_json(tmp_path)["status"] == "failed"
