import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ftcheck import lock as locks
from ftcheck.cli import app, run_command
from tests.faults.bench import Bench, chat
from tests.faults.catalogue import resplit


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = chat(tmp_path)
    made.write()
    return made


def held(bench: Bench) -> dict[str, object]:
    found: dict[str, object] = json.loads(locks.path_of(bench.path).read_text(encoding="utf-8"))
    return found


def test_lock_writes_what_tokenizer_and_template_give(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["lock", str(bench.path), "--offline"]) == 0

    found = held(bench)
    job = found["jobs"]["job"]  # type: ignore[index]
    assert (found["schema"], sorted(found["versions"])) == (locks.SCHEMA, sorted(locks.LIBRARIES))  # type: ignore[call-overload]
    assert found["defaults"] == {"training": locks.today()}
    assert len(job["probes"]) == 64
    assert len(job["conversations"]) == 8
    assert job["special"]["eos"] == 5
    assert job["template"].startswith("sha256:")
    assert "1 job locked, ids of 72 texts" in capsys.readouterr().out


def test_a_second_lock_is_the_same_bytes_and_leaves_nothing_else_behind(bench: Bench) -> None:
    run_command(["lock", str(bench.path)])
    path = locks.path_of(bench.path)
    first = path.read_bytes()
    run_command(["lock", str(bench.path)])

    assert path.read_bytes() == first
    assert not [one for one in bench.folder.iterdir() if one.name.endswith(".tmp")]


def test_check_writes_nothing_and_says_what_changed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["lock", str(bench.path)])
    before = locks.path_of(bench.path).read_bytes()
    assert run_command(["lock", str(bench.path), "--check"]) == 0
    resplit(bench)

    assert run_command(["lock", str(bench.path), "--check"]) == 1

    said = capsys.readouterr()
    assert "no differences" in said.out
    assert "jobs.job.probes.digits: other ids" in said.err
    assert locks.path_of(bench.path).read_bytes() == before


def test_check_without_a_lock_is_red(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["lock", str(bench.path), "--check"]) == 1
    assert "there is no lock" in capsys.readouterr().err
    assert not locks.path_of(bench.path).exists()


def test_nothing_is_written_when_a_tokenizer_does_not_open(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.policy["jobs"]["other"] = {**bench.job, "model": {"name": "./nowhere"}}
    bench.write()

    assert run_command(["lock", str(bench.path)]) == 3
    assert not locks.path_of(bench.path).exists()
    assert "nowhere" in capsys.readouterr().err


def test_one_job_is_locked_and_the_others_stay(bench: Bench) -> None:
    bench.policy["jobs"]["other"] = dict(bench.job)
    bench.write()
    run_command(["lock", str(bench.path)])
    before = held(bench)
    resplit(bench)

    assert run_command(["lock", str(bench.path), "--job", "other"]) == 0

    jobs, old = held(bench)["jobs"], before["jobs"]
    assert jobs["job"] == old["job"]  # type: ignore[index]
    assert jobs["other"] != old["other"]  # type: ignore[index]


def test_a_job_that_is_not_there_is_a_usage_error(bench: Bench) -> None:
    assert run_command(["lock", str(bench.path), "--job", "nope"]) == 2


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "other"}', '{"schema": "ftcheck.lock/1", "jobs": {"job": {"probes": 3}}}']
)
def test_a_broken_lock_is_an_error_that_says_what_to_do(bench: Bench, text: str) -> None:
    locks.path_of(bench.path).write_text(text, encoding="utf-8")

    result = bench.look().of("tokenizer-parity")

    assert result is not None
    assert result.outcome == "errored"
    assert "write it again with `ftcheck lock`" in (result.reason or "")


def test_a_lock_is_found_beside_the_policy_that_is_run_though_its_job_stands_elsewhere(bench: Bench) -> None:
    child = bench.file("child.yaml", "ftcheck: 1\nextends: [./policy.yaml]\n")
    assert run_command(["lock", str(child)]) == 0
    resplit(bench)

    report = bench.folder / "r.json"
    said = CliRunner().invoke(
        app, ["run", str(child), "-k", "tokenizer-parity", "--offline", "-o", f"json={report}"]
    )

    [result] = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert result["outcome"] == "failed", said.output
    assert "differ from those in the lock" in result["findings"][0]["message"]


def test_the_lock_of_a_job_in_another_file_counts_where_the_policy_has_none(bench: Bench) -> None:
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.runner.load import load

    run_command(["lock", str(bench.path)])
    loaded = load(bench.file("child.yaml", "ftcheck: 1\nextends: [./policy.yaml]\n"))
    run = Run(bench.folder, policy=loaded.policy.path)
    inputs = Inputs(loaded.host.loaders, {"run": run, "jobs": ()}, loaded.policy.jobs["job"])

    assert inputs.get("lock").path == str(locks.path_of(bench.path))
