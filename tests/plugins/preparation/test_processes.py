"""Several processes make of a file what one makes, and what goes wrong in one of them is told."""

import importlib.util
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import (
    batches,
    preparation,
    processes,
    token_engines,
)
from ftcheck_plugins.preparation.batches import BatchMaker
from ftcheck_plugins.preparation.rendering import Differs
from ftcheck_plugins.reading import files, parquet_rows
from ftcheck_plugins.reading.files import Lines, Source

from ftcheck.errors import InputError
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.settings import Data, Job, Model, Training
from tests.cli.project import Project

LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}
COLUMNS = ("length", "kept", "trained", "bos", "answer", "boundary", "used", "sequences")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rows are shared on Linux only")


def row(n: int) -> str:
    """A row of many kinds: some are blank, some broken, some have a system prompt of their own."""
    if n % 41 == 7:
        return "   "
    if n % 53 == 11:
        return '{"messages": [{"role"'
    turns = [{"role": "user", "content": f"question {n} " + "word " * (n % 17)}]
    if n % 5 == 0:
        turns.insert(0, {"role": "system", "content": f"prompt {n % 15}"})
    if n % 3:
        turns.append({"role": "assistant", "content": "" if n % 30 == 1 else f'{{"answer": {n}}}'})
    return json.dumps({"messages": turns})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows."""
    monkeypatch.setattr(processes, "PIECE", 3000)
    monkeypatch.setattr(processes, "WORTH", 1)
    monkeypatch.setattr(parquet_rows, "BATCH", 10)
    monkeypatch.setattr(batches, "ROWS", 10)
    monkeypatch.setattr(token_engines, "WARM", 20)


def write(path: Path, numbers: range, ending: str = "\n") -> Path:
    path.write_text("\n".join(map(row, numbers)) + ending, encoding="utf-8")
    return path


def made(samples: Path, folder: Path, data: Any, workers: int) -> Prepared:
    folder.mkdir()
    job = Job(
        name="job",
        model=Model(name=str(samples / "models" / "mapper-tiny")),
        data=Data(train=data),
        training=Training(max_length=64),
    )
    inputs = Inputs(LOADERS, {"run": Run(folder=folder, workers=workers)}, job)
    prepared: Prepared = inputs.get("prepared")
    return prepared


def json_lines(folder: Path) -> list[str]:
    """Two files, the second without a line break at its end."""
    first, second = write(folder / "a.jsonl", range(400)), write(folder / "b.jsonl", range(400, 700), "")
    return [str(first), str(second)]


def parquet(folder: Path) -> list[str]:
    """A file of one row group, one of several, and one that is none."""
    rows = [json.loads(one) for n in range(700) if (one := row(n)).endswith("}]}")]
    for name, some in (("a", rows[:300]), ("c", rows[300:])):
        pq.write_table(pa.Table.from_pylist(some), folder / f"{name}.parquet", row_group_size=300)
    (folder / "b.parquet").write_bytes(b"nothing")
    return [str(folder / f"{name}.parquet") for name in "abc"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", [json_lines, parquet])
def test_many_processes_make_what_one_makes(
    kind: Callable[[Path], list[str]], samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_of = kind(tmp_path)
    helped: list[int] = []
    shared = processes._shared

    def counting(pieces: Any, maker: Any, count: int, numbering: Any) -> Any:
        helped.append(len(pieces))
        return shared(pieces, maker, count, numbering)

    monkeypatch.setattr(processes, "_shared", counting)
    one, three = (made(samples, tmp_path / str(n), files_of, n) for n in (1, 3))

    assert len(helped) == 1
    assert helped[0] > 6
    for name in COLUMNS:
        assert np.array_equal(getattr(one, name), getattr(three, name)), name
    for name in ("file", "line", "offset", "turns", "system", "asked", "said"):
        assert np.array_equal(getattr(one.rows, name), getattr(three.rows, name)), name
    assert list(one.rows.records) == list(three.rows.records)
    assert one.row_errors == three.row_errors
    assert one.row_errors
    assert (one.rows.remarks, one.rows.system_prompts) == (three.rows.remarks, three.rows.system_prompts)
    assert [str(one.at(n)) for n in range(len(one))] == [str(three.at(n)) for n in range(len(three))]
    assert all(np.array_equal(one.tokens.ids(n), three.tokens.ids(n)) for n in range(len(one)))


def breaking(error: Callable[[], BaseException] | None) -> Any:
    """A batch maker that fails at row 300 or so; None: its process is killed there."""

    class Broken(BatchMaker):
        settled = True

        def __init__(self) -> None:
            """Needs nothing."""

        def make(self, raws: Any) -> Any:
            if raws[0].offset < 6000:
                return list(raws)
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
                raise AssertionError
            raise error()

    return Broken()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (lambda: Differs("another way"), Differs, "another way"),
        (lambda: ValueError("odd"), ValueError, "odd"),
        (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeDecodeError, "bad"),
        (lambda: type("Local", (Exception,), {})("mine"), InputError, "Local: mine"),
        (None, InputError, "killed by SIGKILL"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told(
    error: Any, expected: type[Exception], words: str, tmp_path: Path
) -> None:
    pieces = files.pieces(Source((str(write(tmp_path / "a.jsonl", range(700))),)), processes.PIECE)
    assert pieces is not None
    helpers = [processes._Helper(pieces[n::2], breaking(error)) for n in range(2)]
    children = [helper._pid for helper in helpers]
    try:
        with pytest.raises(expected, match=words):
            deque((helpers[n % 2].piece() for n in range(len(pieces))), maxlen=0)
    finally:
        for helper in helpers:
            helper.end()
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@pytest.mark.parametrize("size", [1, 7, 100, 5000, 10**9])
def test_pieces_are_all_the_lines(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(120))
    whole = list(Lines(0, str(path)))
    pieces = files.pieces(Source((str(path),)), size)

    assert pieces is not None
    apart = [raw for piece in pieces for raw in piece]
    assert [(raw.offset, raw.record) for raw in apart] == [(raw.offset, raw.record) for raw in whole]
    assert sum(piece.count for piece in pieces) == 120


def test_a_run_of_the_command_line_shares_the_rows(samples: Path, tmp_path: Path) -> None:
    """The check worker reads stdin in a thread of its own, and forks all the same."""
    turns = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "fine"}]
    (tmp_path / "rows.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 5000, encoding="utf-8")
    model = samples / "models" / "mapper-tiny"
    (tmp_path / "policy.yaml").write_text(
        "ftcheck: 1\nname: big\nchecks: {percentile-seq-len: {}}\n"
        f"jobs:\n  job:\n    model: {{name: {model}}}\n    data: {{train: rows.jsonl}}\n"
        "    training: {max_length: 1024}\n",
        encoding="utf-8",
    )
    project = Project(tmp_path, fresh=True)
    ran = project.call("run", "policy.yaml", "--offline", "--no-cache", "--workers", "2", "-o", "json=r.json")

    assert ran.code == 0, ran.out + ran.err
    report = ran.report
    assert report["inputs"]["job.train"]["rows"] == 5000
    measured = {one["name"]: one["value"] for one in report["results"][0]["measurements"]}
    fast = importlib.util.find_spec("gigatoken") is not None
    assert measured["engine"].split()[0] == ("gigatoken" if fast else "tokenizers")
