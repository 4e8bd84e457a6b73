"""Data files in a bucket: found, read, digested, and what cannot be read is told in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.reading import files

from ftcheck import digest, paths
from ftcheck.errors import InputError
from ftcheck.gate.input_digests import FileDigests
from ftcheck.inputs import remote_files
from ftcheck.records import Location
from tests.cli.project import Project
from tests.ray.kit import MODEL
from tests.s3_server import put, served

pytest.importorskip("moto.server")
CHECKS: dict[str, dict[str, str]] = {"data-readable": {}, "percentile-seq-len": {}}
PLACE = Location(path="policy.yaml", line=7, column=12, yaml_path="jobs.mapper.data.train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two files of JSON lines and one of Parquet, here and in the bucket `corpus`."""
    made = tmp_path_factory.mktemp("corpus")
    for name in ("a", "b"):
        rows = ({"prompt": f"{name} {n}", "completion": "fine"} for n in range(50))
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pq.write_table(pa.table({"text": list("abcdef")}), made / "c.parquet", row_group_size=2)
    with served():
        put(made, "corpus", "rows/")
        yield made


def test_a_glob_names_the_files_of_its_folder(folder: Path) -> None:
    assert paths.expand("s3://corpus/rows/*.jsonl") == [f"s3://corpus/rows/{n}.jsonl" for n in "ab"]
    assert paths.expand("s3://corpus/**/*.jsonl") == [f"s3://corpus/rows/{n}.jsonl" for n in "ab"]
    assert paths.expand("s3://corpus/*.jsonl") == []
    assert paths.expand("s3://corpus/rows/[!b]*.jsonl") == ["s3://corpus/rows/a.jsonl"]
    assert paths.expand("s3://corpus/rows/[b-z].*") == [
        f"s3://corpus/rows/{n}" for n in ("b.jsonl", "c.parquet")
    ]


def test_rows_are_those_of_the_files_here(folder: Path) -> None:
    for stated in ("*.jsonl", "c.parquet"):
        here = files.find(str(folder / stated), PLACE, "data.train")
        there = files.find(f"s3://corpus/rows/{stated}", PLACE, "data.train")
        rows = list(files.stream(here))

        assert list(files.stream(there)) == rows
        chosen = [(n, rows[n].file, rows[n].offset) for n in (0, 3, len(rows) - 1)]
        assert files.at_rows(there, chosen) == files.at_rows(here, chosen)


def test_they_are_read_in_one_process(folder: Path) -> None:
    """The client's connections do not survive a fork."""
    assert files.pieces(files.find("s3://corpus/rows/*.jsonl", PLACE, "data.train"), 100) is None
    assert files.pieces(files.find(str(folder / "*.jsonl"), PLACE, "data.train"), 100) is not None


def test_digests_are_those_of_the_files_here(folder: Path) -> None:
    names = ["a.jsonl", "b.jsonl"]

    assert digest.of_files([f"s3://corpus/rows/{name}" for name in names]) == digest.of_files(
        [folder / name for name in names]
    )
    assert digest.of_file("s3://corpus/rows/none.jsonl") is None


@pytest.mark.usefixtures("folder")
def test_a_command_digests_a_file_once_until_it_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one\n", encoding="utf-8")
    put(tmp_path, "once", "")
    known, url = FileDigests(), "s3://once/a.jsonl"
    made: list[str | None] = []

    def digests() -> str | None:
        made.append(digest.of_file(url))
        return made[-1]

    assert known.of("data", [url], digests) == known.of("data", [url], digests)
    assert len(made) == 1
    (tmp_path / "a.jsonl").write_text("others\n", encoding="utf-8")
    put(tmp_path, "once", "")
    assert known.of("data", [url], digests) == digest.of_file(tmp_path / "a.jsonl")
    assert len(made) == 2


@pytest.mark.usefixtures("folder")
def test_the_gate_opens_for_rows_in_a_bucket_and_shuts_when_they_change(project: Project) -> None:
    for name in ("a", "b"):
        rows = "".join(json.dumps({"prompt": f"{name} {n}", "completion": "fine"}) + "\n" for n in range(50))
        project.write(f"data/{name}.jsonl", rows)
    put(project.folder / "data", "gated", "rows/")
    job = {
        "model": {"name": str(MODEL)},
        "data": {"train": "s3://gated/rows/*.jsonl"},
        "training": {"max_length": 64},
    }
    project.write("p.yaml", json.dumps({"ftcheck": 1, "name": "p", "jobs": {"j": job}, "checks": CHECKS}))
    ran = project.call("run", "p.yaml", "--offline", "-o", "json=r.json")

    assert ran.code == 0, ran.out
    assert ran.report["inputs"]["j.train"]["digest"].startswith("sha256:")
    assert project.call("gate", "r.json", "--policy", "p.yaml").code == 0

    project.write("more/a.jsonl", json.dumps({"prompt": "another", "completion": "row"}) + "\n")
    put(project.folder / "more", "gated", "rows/")
    shut = project.call("gate", "r.json", "--policy", "p.yaml")
    assert shut.code == 5
    assert "data-changed" in shut.err


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("s3://corpus/rows/none.jsonl", "no such file: s3://corpus/rows/none.jsonl"),
        ("s3://corpus/none/*.jsonl", "no file matches s3://corpus/none/*.jsonl"),
        ("s3://nobody/rows/*.jsonl", "no file matches s3://nobody/rows/*.jsonl"),
        ("https://a.org/b.jsonl", "https:// is not read: download the file, or use s3://"),
        ("S3://corpus/rows/a.jsonl", "S3:// is not read"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_an_error_at_its_place_in_the_policy(stated: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        files.find(stated, PLACE, "data.train")

    assert str(error.value).startswith("policy.yaml:7:12")
    assert said in str(error.value)


def test_a_bucket_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        f"ftcheck: 1\nname: s3\njobs:\n  job:\n    model: {{name: {MODEL}}}\n"
        "    data: {train: s3://corpus/*.jsonl}\nchecks: {data-readable: {}}\n",
        encoding="utf-8",
    )
    variables = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}

    done = subprocess.run(
        [sys.executable, "-m", "ftcheck", "run", "policy.yaml"],
        cwd=tmp_path,
        env=os.environ | variables | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if "policy.yaml:6" in line]
    assert "data.train of job job: s3://corpus/*.jsonl: cannot be read: " in line
    assert "Traceback" not in done.stdout + done.stderr


def test_the_names_of_files_here_are_no_urls() -> None:
    assert not any(
        map(remote_files.is_remote, ("s3.jsonl", "s3:/a/b.jsonl", "https://a/b.jsonl", "owner/name"))
    )
    assert all(map(remote_files.is_remote, ("s3://a/b.jsonl", "gs://a/b", "hf://datasets/a/b/c.parquet")))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("abfss://rows@acme.dfs.core.windows.net/day/a.jsonl", "rows/day/a.jsonl"),
        ("abfs://acme@rows/day/a.jsonl", "rows/day/a.jsonl"),
        ("abfss://acme.blob.core.windows.net/rows/day/a.jsonl", "rows/day/a.jsonl"),
        ("gs://rows/day/a b.jsonl", "rows/day/a b.jsonl"),
    ],
)
def test_a_path_begins_with_the_bucket_or_container(url: str, asked: str) -> None:
    assert remote_files._place(url)[1] == asked


class Silent:
    """A store that does not answer: `asked` are the paths that somebody asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_file_info(self, path: str) -> None:
        self.asked.append(path)
        raise RuntimeError("no credentials")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    store = Silent()
    monkeypatch.setattr(remote_files, "_system", lambda scheme, name: (store, name))
    monkeypatch.setattr(remote_files, "_silent", {})
    return store


def test_azure_is_asked_before_it_is_opened(silent: Silent) -> None:
    """pyarrow 26 ends the process where it opens a file without credentials."""
    with pytest.raises(OSError, match="no credentials"):
        remote_files.open_data("abfs://acme@rows/a.jsonl")
    assert silent.asked == ["acme@rows/a.jsonl"]


def test_a_store_that_does_not_answer_is_not_waited_for_again(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gs://quick/a", "gs://quick/b"):
        with pytest.raises(OSError, match="no credentials"):
            remote_files.exists(name)
    assert len(silent.asked) == 2
    monkeypatch.setattr(remote_files, "CONNECT", -1.0)
    for name in ("gs://slow/a", "gs://slow/b", "gs://other/c"):
        with pytest.raises(OSError, match="no credentials") as error:
            remote_files.exists(name)
        assert error.value.filename == name
    assert silent.asked[2:] == ["slow/a", "other/c"]
