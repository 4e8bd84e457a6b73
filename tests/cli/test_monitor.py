"""`ftcheck monitor`: recorded frames at 80 and at 200 columns, a live page, lines, JSON, broken folders."""

import io
import json
import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from ftcheck.cli import monitor, run_command
from ftcheck.cli.monitor import Board, frame
from ftcheck.cli.pages.screen import Screen
from tests.inputs.test_run_folder import folder_of, this_process
from tests.plugins.reporters.display import Display

NOW = datetime(2026, 11, 22, 22, 26, 10, tzinfo=UTC)
BEGAN = NOW - timedelta(minutes=9, seconds=12)
ALIVE: dict[str, Any] = {"status": "running", "host": socket.gethostname(), "process": this_process()}
DEAD: dict[str, Any] = ALIVE | {"process": {"pid": os.getpid(), "began": 1_700_000_000.0}}
EXPECTED = {
    "tokens_per_second": {"low": 4900, "high": 6600, "source": "run-time"},
    "memory_gib": {"low": 11.1, "high": 11.9, "source": "memory-fit"},
    "trained_share": {"low": 0.254, "high": None, "source": "the checked rows"},
    "unknown": {},
}
SPIKE = {
    "step": 35,
    "last_step": 37,
    "message": "the loss is 1.9, and above 1.31 in 3 logs in a row; the median of the 20 logs before is 0.81",
    "severity": "warning",
}


def check(name: str, outcome: str, *findings: dict[str, Any], action: str = "stop") -> dict[str, Any]:
    return {"id": f"mapper::{name}", "outcome": outcome, "action": action, "findings": list(findings)}


DURING = [
    check("finite-loss", "passed"),
    check("loss-spike", "failed", SPIKE, action="warn"),
    check("loss-progress", "skipped"),
    check("eval-loss", "passed"),
    check("training-speed", "passed"),
    check("training-memory", "passed"),
    check("fed-batches", "errored"),
]


def lines(steps: int, *, evaluations: bool = True) -> list[dict[str, Any]]:
    """A line a step, each of twelve seconds, the newest ten seconds ago."""
    made: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        at = NOW - timedelta(seconds=10 + 12 * (steps - step))
        made.append(
            {
                "step": step,
                "epoch": step / 21,
                "loss": round(0.4 + 3.2 / step, 4),
                "learning_rate": 2e-4 * (1 - step / 63),
                "grad_norm": 0.2134,
                "tokens": step * 49152,
                "tokens_per_second": 5310.4,
                "padding_share": 0.001,
                "trained_share": 0.252,
                "memory_gib": 11.2,
                "memory_peak_gib": 11.6,
                "at": at.isoformat(),
            }
        )
        if evaluations and step % 20 == 0:
            made.append({"step": step, "eval_loss": 0.7 - step / 200, "at": at.isoformat()})
    return made


def run(path: Path, steps: int = 41, **values: Any) -> Path:
    """A run as the trainer writes it, in the middle unless `values` say otherwise."""
    planned = {"rows": 13784, "blocks": 1333, "tokens": 1022208, "trained_tokens": 259640, "steps": 63}
    about: dict[str, Any] = {
        "job": path.name,
        "planned": planned,
        "started_at": BEGAN.isoformat(),
        "expected": EXPECTED,
        "during": DURING,
        "device": {"kind": "cuda", "name": "NVIDIA RTX 4090", "memory_gib": 23.5},
    }
    folder = folder_of(path, lines(steps), **ALIVE | about | values)
    for step in (20, 40):
        saved = folder / f"checkpoint-{step}"
        saved.mkdir()
        (saved / "optimizer.pt").write_bytes(b"")
        if step <= steps:
            (saved / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return folder


def pictured(*folders: Path, width: int, height: int = 60) -> list[str]:
    """One recorded frame."""
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    board = Board(tuple(map(str, folders)), clock=lambda: NOW)
    board.look()
    console.print(frame(board, Screen(console)))
    return [line.rstrip() for line in console.export_text().rstrip("\n").split("\n")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are shown relative to the folder; no width, no CI is stated."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


AT_80 = """\
mapper · running · step 41/63 (65 %) · runs/mapper · epoch 1.95
time     00:09:12 elapsed · 00:04:14 remaining · ends 2026-11-22 22:30
loss     0.478  █▄▃▃▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  median of 20: 0.5016
         evaluation 0.5 (best 0.5 at step 40) · learning rate 6.98e-05
speed    5,310 tokens/s (plan 4,900 to 6,600) · 2,015,232 tokens so far
batches  padding 0.1 % · 13,784 rows packed in 1,333 blocks · 25.2 % trained
memory   11.6 GiB peak (predicted 11.1 to 11.9) · 11.2 in use of 23.5 GiB
saved    checkpoint-40, complete
checks   ✓ finite-loss  ✗ loss-spike  - loss-progress  ✓ eval-loss
         ✓ training-speed  ✓ training-memory  ! fed-batches
found    loss-spike at step 35 to 37: the loss is 1.9, and above 1.31 in 3 logs
         in a row; the median of the 20 logs before is 0.81 (warn)"""

AT_200 = """\
mapper · running · step 41/63 (65 %) · runs/mapper · epoch 1.95
time     00:09:12 elapsed · 00:04:14 remaining · ends 2026-11-22 22:30 · started 2026-11-22 22:16
loss     0.478  █▄▃▃▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  median of 20: 0.5016
         evaluation 0.5 (best 0.5 at step 40) · learning rate 6.98e-05 · gradient 0.2134
speed    5,310 tokens/s (plan 4,900 to 6,600) · 2,015,232 tokens so far
batches  padding 0.1 % · 13,784 rows packed in 1,333 blocks · 25.2 % trained · 25.4 % checked
memory   11.6 GiB peak (predicted 11.1 to 11.9) · 11.2 in use of 23.5 GiB · NVIDIA RTX 4090
saved    checkpoint-40, complete
checks   ✓ finite-loss  ✗ loss-spike  - loss-progress  ✓ eval-loss  ✓ training-speed  ✓ training-memory  ! fed-batches
found    loss-spike at step 35 to 37: the loss is 1.9, and above 1.31 in 3 logs in a row; the median of the 20 logs before is 0.81 (warn)"""  # noqa: E501

CRASHED_AT_80 = """\
analyst · crashed: its process is gone · step 17/63 (27 %) · runs/analyst
time     last log 00:00:10 ago · 00:09:02 elapsed · started 2026-11-22 22:16
loss     0.5882  █▄▃▂▂▂▂▁▁▁▁▁▁▁▁▁▁  median of 17: 0.7556
         learning rate 1.46e-04 · gradient 0.2134
speed    5,310 tokens/s (no plan) · 835,584 tokens
batches  padding 0.1 % · 13,784 rows packed in 1,333 blocks · 25.2 % trained
memory   11.6 GiB peak (no prediction) · 11.2 in use
saved    checkpoint-40 is incomplete · the last complete one is checkpoint-20
note     runs/analyst/metrics.jsonl:18: not valid JSON: truncated or damaged"""

FINISHED_AT_200 = """\
mapper · finished · step 63/63 (100 %) · runs/mapper · epoch 3.00
time     00:09:12 elapsed · started 2026-11-22 22:16 · ended 2026-11-22 22:26
loss     0.4508  █▄▃▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  median of 20: 0.4598
         evaluation 0.4 (best 0.4 at step 60) · learning rate 0.00e+00 · gradient 0.2134
speed    5,310 tokens/s (plan 4,900 to 6,600) · 5,200 overall · 3,096,576 tokens
batches  padding 0.1 % · 13,784 rows packed in 1,333 blocks · 25.2 % trained · 25.4 % checked
memory   11.6 GiB peak (predicted 11.1 to 11.9) · 11.2 in use of 23.5 GiB · NVIDIA RTX 4090
saved    checkpoint-40, complete"""


@pytest.mark.parametrize(("width", "expected"), [(80, AT_80), (200, AT_200)])
def test_a_running_run(tmp_path: Path, width: int, expected: str) -> None:
    assert pictured(run(tmp_path / "runs" / "mapper"), width=width) == expected.split("\n")


def crashed(path: Path) -> Path:
    """A run that was killed: a checkpoint that is half written, a line that is cut; of an older version."""
    folder = run(path, 17, **DEAD, during=None, expected=None, device=None)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 18, "lo')
    whole = folder / "checkpoint-20" / "trainer_state.json"
    whole.write_text('{"global_step": 20}', encoding="utf-8")
    return folder


def finished(path: Path) -> Path:
    return run(path, 63, status="finished", finished_at=NOW.isoformat(), tokens_per_second=5200.0, during=[])


def test_a_crashed_run_says_so_and_a_line_that_is_cut_is_named(tmp_path: Path) -> None:
    assert pictured(crashed(tmp_path / "runs" / "analyst"), width=80) == CRASHED_AT_80.split("\n")


def test_a_failed_run_says_why_and_what_to_do(tmp_path: Path) -> None:
    words: dict[str, Any] = {
        "reason": "stopped by mapper::loss-spike at step 41: far above",
        "remedy": "lower the rate",
    }

    shown = pictured(run(tmp_path / "mapper", status="failed", **words), width=80)

    assert shown[0].startswith("mapper · failed · step 41/63")
    assert "reason   stopped by mapper::loss-spike at step 41: far above" in shown
    assert "fix      lower the rate" in shown


def test_a_finished_run(tmp_path: Path) -> None:
    assert pictured(finished(tmp_path / "runs" / "mapper"), width=200) == FINISHED_AT_200.split("\n")


def test_a_parent_folder_shows_its_runs_and_a_low_terminal_a_line_for_each(tmp_path: Path) -> None:
    folders = [crashed(tmp_path / "runs" / "analyst"), finished(tmp_path / "runs" / "mapper")]

    tall = pictured(tmp_path / "runs", width=200)
    low = pictured(*folders, tmp_path / "runs", width=80, height=12)

    assert tall == [*pictured(folders[0], width=200), "", *FINISHED_AT_200.split("\n")]
    assert low == [
        "analyst           crashed     █▃▂▂▁▁▁▁ · step 17/63 (27 %) · loss 0.5882",
        "mapper            finished    █▂▂▁▁▁▁▁ · step 63/63 (100 %) · loss 0.4508",
    ]


@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 133, 200])
def test_nothing_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    words = "训练" * 60 + " a" * 90
    broken = run(tmp_path / "a-job-with-a-long-name", status="failed", reason=words)
    console = Console(width=width, height=99, file=io.StringIO(), force_terminal=True)
    board = Board((str(broken), str(run(tmp_path / "b"))), clock=lambda: NOW)
    board.look()

    text = Display().show(rendered(console, board))

    assert max(map(cell_len, text)) <= width
    assert len(text) == len(pictured(broken, width=width)) + 1 + len(pictured(tmp_path / "b", width=width))


def rendered(console: Console, board: Board) -> str:
    console.print(frame(board, Screen(console)))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = run_command(["monitor", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_of_a_finished_run_is_one_object_at_once(tmp_path: Path, capsys: Any) -> None:
    code, out, _ = command(capsys, finished(tmp_path / "mapper"), "--json")

    [shown] = json.loads(out)["runs"]
    assert code == 0
    assert (shown["state"], shown["step"], shown["total"], shown["saved"]["is_complete"]) == (
        "finished",
        63,
        63,
        True,
    )
    assert shown["expected"]["memory_gib"] == {"low": 11.1, "high": 11.9, "source": "memory-fit"}
    assert shown["started_at"] == BEGAN.isoformat()
    assert len(shown["losses"]) == 63


def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Whenever the monitor sleeps, the next of these happens."""
    left = iter(steps)
    clock = type("Clock", (), {"sleep": staticmethod(lambda seconds: next(left)())})
    monkeypatch.setattr(monitor, "time", clock)


def test_json_of_a_run_that_goes_on_is_an_object_at_each_refresh(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "mapper")
    meanwhile(monkeypatch, lambda: None, lambda: finish(folder))

    code, out, _ = command(capsys, folder, "--json", "--interval", "0.1")

    states = [json.loads(line)["runs"][0]["state"] for line in out.splitlines()]
    assert code == 0
    assert states == ["running", "running", "finished"]


def finish(folder: Path) -> None:
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    done = folder / "done.json"
    done.write_text(json.dumps(about | {"status": "finished"}), encoding="utf-8")
    done.replace(folder / "run.json")


@pytest.mark.parametrize("content", [None, "{", '{"schema": "other"}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: Any, content: str | None) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "run.json").write_text(content, encoding="utf-8")

    code, out, err = command(capsys, "data")

    assert (code, out) == (2, "")
    assert err.startswith("data")
    assert ("not a run folder" if content is None else "run.json") in err


def test_a_broken_run_beside_a_good_one_is_named_and_the_good_one_is_shown(
    tmp_path: Path, capsys: Any
) -> None:
    finished(tmp_path / "runs" / "mapper")
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "run.json").write_text('{"schema": ', encoding="utf-8")

    code, out, err = command(capsys, "runs", "--once")

    assert code == 2
    assert "mapper · finished" in out
    assert "runs/torn/run.json: not valid JSON" in err


def test_what_is_not_there_is_refused_with_once_and_waited_for_without(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(capsys, "runs/mapper", "--once")[0] == 2
    folder = tmp_path / "runs" / "mapper"
    meanwhile(monkeypatch, lambda: folder.mkdir(parents=True), lambda: finished(folder))

    code, out, _ = command(capsys, "runs/mapper", "--interval", "0.1")

    assert code == 0
    assert out.startswith("waiting for a run in runs/mapper\n")
    assert "finished · step 63/63" in out


def test_without_a_terminal_each_step_and_finding_is_a_line_without_colours(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "mapper", 3, during=[])
    told = {"check": "mapper::loss-spike", "action": "warn", "message": "far above", "severity": "warning"}

    def go_on() -> None:
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            for line in ({"step": 4, "loss": 9.0}, {"step": 4, "during": [told]}):
                file.write(json.dumps(line) + "\n")

    meanwhile(monkeypatch, go_on, lambda: finish(folder))
    code, out, _ = command(capsys, folder, "--interval", "0.1")

    lines = out.splitlines()
    assert code == 0
    assert "\x1b" not in out
    assert lines[0].startswith("mapper · running · step 3/63 (5 %) · loss 1.467")
    assert lines[1].startswith("mapper · running · step 4/63 (6 %) · loss 9 · 1 finding")
    assert lines[2] == "mapper  loss-spike at step 4: far above (warn)"
    assert lines[3].startswith("mapper · finished · step 4/63")


def test_a_live_page_is_drawn_over_itself_and_stays_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame on the emulated terminal is the page of that moment: nothing left over, nothing cleared."""
    folder = run(tmp_path / "mapper", 3)
    console = Console(width=80, height=30, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    monkeypatch.setattr(console, "is_interactive", True, raising=False)
    board = Board((str(folder),), clock=lambda: NOW)
    seen: list[list[str]] = []
    steps = iter(range(4, 9))

    def pause(seconds: float) -> None:
        file = console.file
        assert isinstance(file, io.StringIO)
        seen.append(Display().show(file.getvalue()))
        step = next(steps, None)
        if step is None:
            finish(folder)
            return
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as more:
            more.write(json.dumps({"step": step, "loss": 1.0 / step}) + "\n")

    monkeypatch.setattr(monitor, "time", type("Clock", (), {"sleep": staticmethod(pause)}))
    board.look()
    monitor._follow_live(board, Screen(console), 2.0)

    file = console.file
    assert isinstance(file, io.StringIO)
    raw = file.getvalue()
    assert [re.findall(r"step (\d)/63", one[0]) for one in seen] == [[step] for step in "345678"]
    assert all(one[0].startswith("mapper · running") and len(one) == len(seen[0]) for one in seen)
    assert all(max(map(cell_len, one)) <= 80 for one in seen)
    assert Display().show(raw)[0].startswith("mapper · finished · step 8/63")
    assert "\x1b[2J" not in raw


def test_no_color_is_respected_and_ascii_terminals_get_ascii(tmp_path: Path, monkeypatch: Any) -> None:
    folder = run(tmp_path / "mapper")
    monkeypatch.setenv("NO_COLOR", "1")
    board = Board((str(folder),), clock=lambda: NOW)
    board.look()
    plain = Console(width=80, height=60, file=io.StringIO(), force_terminal=True)
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    narrow = Console(width=80, height=60, file=ascii_only, force_terminal=True)

    narrow.print(frame(board, Screen(narrow)))

    assert not re.search(r"\x1b\[3\dm", rendered(plain, board))
    ascii_only.seek(0)
    text = ascii_only.read()
    assert "+ finite-loss  x loss-spike" in text
    assert "\\u" not in text


def test_the_page_of_a_run_holds_its_numbers_and_is_written_beside_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(capsys, run(tmp_path / "mapper"), "--once", "--html", tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")

    assert (code, "step 41/63" in out) == (0, True)
    for needed in ("41 of 63 (65 %)", "expected 4,900 to 6,600", "expected 11.10 to 11.90", "loss-spike"):
        assert needed.replace(".10", ".1").replace(".90", ".9") in text
    assert text.count('class="curve') == 4  # training, evaluation, speed, memory
    assert "load it again to see more" in text


def test_a_page_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(
        capsys, finished(tmp_path / "mapper"), "--once", "--html", tmp_path / "no" / "run.html"
    )

    assert code == 2
    assert "--html" in err
    assert "No such file or directory" in err
