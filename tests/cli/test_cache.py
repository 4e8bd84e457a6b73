"""The cache at the command line: what `run` takes and keeps, and `cache info` and `clear`."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.project import Project, Ran, rule_text

SEEN = rule_text(
    "opened",
    """
    yield Measurement("transformers", any(name.partition(".")[0] == "transformers" for name in sys.modules))
    """,
    "prepared: Prepared",
)
CHECKS = "opened: {}\npercentile-seq-len: {}\ntruncation: {}\n"


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Project:
    """A job that ran once, in fresh interpreters: what they import is looked at."""
    made = Project(tmp_path_factory.mktemp("once"), fresh=True)
    made.rules(SEEN)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"what is {n}?"},
                {"role": "assistant", "content": f"{n}!"},
            ]
        }
        for n in range(100, 300)
    ]
    made.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    model = samples / "models" / "mapper-tiny"
    made.policy(
        CHECKS,
        jobs=f"  job:\n    model: {{name: {model}}}\n    data: {{train: rows.jsonl}}\n"
        "    training: {max_length: 64}\n",
    )
    first = made.run("--offline")
    assert first.code == 0, first.out + first.err
    assert first.report["run"]["cached"] == []
    assert opened(first) is False
    return made


@pytest.fixture
def again(ran_once: Project, tmp_path: Path) -> Project:
    shutil.copytree(ran_once.folder, tmp_path / "again")
    return Project(tmp_path / "again")


def opened(ran: Ran) -> Any:
    """Whether the worker imported transformers."""
    return ran.result("job::opened")["measurements"][0]["value"]


def stable(ran: Ran) -> dict[str, Any]:
    """The report without what may change between two runs, and without our own rule."""
    report = {key: value for key, value in ran.report.items() if key != "run"}
    return {**report, "results": [one for one in report["results"] if one["id"] != "job::opened"]}


def entry(project: Project) -> Path:
    """The only entry with rows there is; others hold what else is kept."""
    entries = (project.folder / "cache" / "prepared").iterdir()
    (found,) = (one for one in entries if (one / "rows.arrow").is_file())
    return found


def test_an_unchanged_second_run_says_the_same_without_transformers(ran_once: Project) -> None:
    first = json.loads((ran_once.folder / "r.json").read_text(encoding="utf-8"))

    ran = ran_once.run("--offline")

    assert ran.code == 0, ran.out + ran.err
    assert ran.report["run"]["cached"] == ["job.train"]
    assert opened(ran) is False
    assert ran.report["jobs"] == first["jobs"]
    assert ran.report["jobs"]["job"]["ids"].startswith("sha256-tree:")
    first["results"] = [one for one in first["results"] if one["id"] != "job::opened"]
    del first["run"]
    assert stable(ran) == first


def test_one_byte_in_the_middle_is_seen(again: Project) -> None:
    before = json.loads((again.folder / "r.json").read_text(encoding="utf-8"))["jobs"]["job"]["ids"]
    data = again.folder / "rows.jsonl"
    was, content = data.stat(), bytearray(data.read_bytes())
    content[content.index(b"200!")] = ord("9")
    data.write_bytes(content)
    os.utime(data, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (data.stat().st_size, data.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)

    ran = again.run("--offline")

    assert ran.report["run"]["cached"] == []
    assert ran.report["jobs"]["job"]["ids"] != before


def test_no_cache_reads_nothing_and_writes_nothing(again: Project) -> None:
    ran = again.run("--offline", "--no-cache")
    assert ran.report["run"]["cached"] == []

    ran = again.run("--offline", "--no-cache", FTCHECK_CACHE=str(again.folder / "other"))

    assert ran.code == 0
    assert not (again.folder / "other" / "prepared").exists()


def test_a_truncated_arrow_file_is_a_cold_start_and_is_mended(again: Project) -> None:
    rows = entry(again) / "rows.arrow"
    os.truncate(rows, rows.stat().st_size // 2)

    ran = again.run("--offline")

    assert (ran.code, ran.report["run"]["cached"]) == (0, [])
    assert again.run("--offline").report["run"]["cached"] == ["job.train"]


def test_two_runs_at_once(again: Project) -> None:
    shutil.rmtree(again.folder / "cache")
    runs = [
        again.start("run", "policy.yaml", "--rules-dir", "rules", "--offline", "-o", f"json=r{n}.json")
        for n in range(2)
    ]
    ended = [run.end() for run in runs]

    assert [ran.code for ran in ended] == [0, 0], ended
    reports = [json.loads((again.folder / f"r{n}.json").read_text(encoding="utf-8")) for n in range(2)]
    assert reports[0]["jobs"] == reports[1]["jobs"]
    assert entry(again).is_dir()
    assert again.run("--offline").report["run"]["cached"] == ["job.train"]


def test_a_cache_that_cannot_be_written_is_a_note(again: Project) -> None:
    again.write("file", "")

    ran = again.run("--offline", FTCHECK_CACHE=str(again.folder / "file"))

    assert ran.code == 0
    assert any("not cached for the next run" in note for note in ran.report["notes"])
    assert "not cached for the next run" in " ".join(ran.out.split())


def test_info_tells_what_there_is_and_clear_removes_it(again: Project) -> None:
    told = again.call("cache", "info")
    stated = json.loads(again.call("cache", "info", "--json").out)

    assert "1 entry" in told.out
    assert "job train" in told.out
    assert "200 rows" in told.out
    assert "0700" in told.out
    [one] = stated["entries"]
    assert (one["job"], one["split"], one["rows"]) == ("job", "train", 200)
    assert stated["size"] == one["size"] > 0
    assert stated["limit"] == 10 << 30
    assert again.call("cache", "clear", "--older-than", "7d").out.count("0 entries removed") == 1
    assert "1 entry removed" in again.call("cache", "clear").out
    assert json.loads(again.call("cache", "info", "--json").out)["entries"] == []
    assert list((again.folder / "cache" / "last").iterdir())


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("cache", "clear", "--older-than", "soon"), {}),
        (("cache", "info"), {"FTCHECK_CACHE_SIZE": "much"}),
    ],
)
def test_what_is_no_age_and_no_size_is_a_usage_error(
    arguments: tuple[str, ...], environment: dict[str, str], again: Project
) -> None:
    ran = again.call(*arguments, **environment)

    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
