import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ftcheck.errors import ExitCode, UsageError
from ftcheck.extension.reporters import Reporter
from ftcheck.report.record import Report
from ftcheck.runner.outputs import (
    Output,
    OutputError,
    parse_outputs,
    write_final,
    write_started,
)
from tests.plugins.reporters.fakes import report, result

KNOWN = ("github", "json", "junit", "markdown")


def _status(report: Report) -> str:
    return f"{report.status} {len(report.results)}"


def _broken(report: Report) -> str:
    raise ValueError(f"cannot render {report.policy_name}")


def _only_started(report: Report) -> str:
    return report.status if report.status == "started" else _broken(report)


REPORTERS = {name: Reporter(name, _status) for name in KNOWN}
COMPLETE = report(result())


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_format_alone_or_with_a_dash_goes_to_standard_output() -> None:
    assert parse_outputs(["json"], KNOWN) == parse_outputs(["json=-"], KNOWN) == (Output("json", None),)


def test_the_path_may_hold_an_equals_sign() -> None:
    assert parse_outputs(["json=a=b.json", "junit=x.xml"], KNOWN) == (
        Output("json", "a=b.json"),
        Output("junit", "x.xml"),
    )


def test_an_unknown_format_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"^-o jsno: no such report format; did you mean 'json'\?$"):
        parse_outputs(["jsno=x"], KNOWN)
    with pytest.raises(UsageError, match="available: github, json, junit, markdown"):
        parse_outputs(["sarif=x"], KNOWN)


@pytest.mark.parametrize("spec", ["json=", "json= ", "json=a\0b"])
def test_a_path_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="not a path"):
        parse_outputs([spec], KNOWN)


def test_two_reports_in_one_place_are_refused_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")

    for other in ("a.json", "./a.json", str(tmp_path / "a.json"), "link.json"):
        with pytest.raises(UsageError, match=r"junit: 'json' is already written to .*(a|link)\.json"):
            parse_outputs(["json=a.json", f"junit={other}"], KNOWN)
    with pytest.raises(UsageError, match="standard output"):
        parse_outputs(["json", "junit=-"], KNOWN)


def test_every_wrong_output_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_outputs(["jsno=x", "junit=", "json=y", "markdown=y"], KNOWN)

    assert len(caught.value.problems) == 3


def test_a_started_report_stands_in_every_file_before_the_run(tmp_path: Path) -> None:
    outputs = parse_outputs([f"json={tmp_path}/a.json", f"junit={tmp_path}/b.xml", "github"], KNOWN)

    write_started(outputs, COMPLETE, REPORTERS)

    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.xml").read_text() == "started 0"
    assert leftovers(tmp_path) == ["a.json", "b.xml"]


def test_an_old_green_report_is_gone_as_soon_as_the_run_starts(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("complete 1")

    write_started([Output("json", str(tmp_path / "a.json"))], COMPLETE, REPORTERS)

    assert (tmp_path / "a.json").read_text() == "started 0"


def test_the_report_replaces_the_sentinel_and_its_path_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [Output("json", str(tmp_path / "a.json")), Output("github")]
    write_started(outputs, COMPLETE, REPORTERS)

    written = write_final(outputs, COMPLETE, REPORTERS)

    assert written == (str(tmp_path / "a.json"),)
    assert (tmp_path / "a.json").read_text() == "complete 1"
    assert capsys.readouterr().out == "complete 1"
    assert leftovers(tmp_path) == ["a.json"]


def test_a_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    output = Output("json", str(tmp_path / "no" / "a.json"))

    with pytest.raises(UsageError) as caught:
        write_started([output], COMPLETE, REPORTERS)

    remedy = f"the folder {tmp_path}/no does not exist; create it with: mkdir -p '{tmp_path}/no'"
    assert str(caught.value) == f"-o json={output.path}: {remedy}"


def test_a_folder_and_a_file_as_folder_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outputs = [Output("json", str(tmp_path)), Output("junit", str(tmp_path / "file" / "a.xml"))]

    with pytest.raises(UsageError) as caught:
        write_started(outputs, COMPLETE, REPORTERS)

    first, second = str(caught.value).splitlines()
    assert first.endswith("this is a folder; name a file in it")
    assert second.endswith("file is not a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(UsageError, match="no permission to write in"):
        write_started([Output("json", str(tmp_path / "a.json"))], COMPLETE, REPORTERS)


def test_a_folder_that_takes_no_files_is_refused_even_for_root() -> None:
    with pytest.raises(UsageError, match=r"^-o json=/proc/1/a.json: "):
        write_started([Output("json", "/proc/1/a.json")], COMPLETE, REPORTERS)


def test_a_disk_that_is_full_at_the_end_is_exit_code_3() -> None:
    with pytest.raises(OutputError, match=r"^-o json=/dev/full: the disk is full$") as caught:
        write_final([Output("json", "/dev/full")], COMPLETE, REPORTERS)

    assert caught.value.exit_code is ExitCode.INCOMPLETE


def test_a_device_is_written_to_and_never_replaced() -> None:
    write_started([Output("json", "/dev/null")], COMPLETE, REPORTERS)
    write_final([Output("json", "/dev/null")], COMPLETE, REPORTERS)

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


FILLS_UP = """
import resource, signal, sys
from dataclasses import replace
from ftcheck.errors import FtcheckError
from ftcheck.offers import Reporter
from ftcheck.output import Output, write_final, write_started
from ftcheck.report import Report

outputs = [Output("json", sys.argv[1])]
reporters = {"json": Reporter("json", lambda report: report.status * 1000)}
write_started(outputs, Report("started", "p", "p"), reporters)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_final(outputs, Report("complete", "p", "p"), reporters)
except FtcheckError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_report_that_does_not_fit_leaves_the_sentinel_and_no_litter(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLS_UP, str(tmp_path / "a.json")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (ExitCode.INCOMPLETE, "")
    assert ended.stdout.startswith(f"-o json={tmp_path}/a.json: ")
    assert (tmp_path / "a.json").read_text() == "started" * 1000
    assert leftovers(tmp_path) == ["a.json"]


def test_one_output_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    reporters = {"json": Reporter("json", _only_started), "junit": Reporter("junit", _status)}
    outputs = [Output("json", str(tmp_path / "a.json")), Output("junit", str(tmp_path / "b.xml"))]
    write_started(outputs, COMPLETE, reporters)

    with pytest.raises(OutputError, match="reporter 'json' failed: ValueError: cannot render night-before"):
        write_final(outputs, COMPLETE, reporters)

    assert (tmp_path / "a.json").read_text() == "started"
    assert (tmp_path / "b.xml").read_text() == "complete 1"


def test_a_reporter_that_fails_on_the_sentinel_is_found_out_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="reporter 'json' failed"):
        write_started(
            [Output("json", str(tmp_path / "a.json"))], COMPLETE, {"json": Reporter("json", _broken)}
        )

    assert leftovers(tmp_path) == []


def test_lone_surrogates_and_control_characters_do_not_stop_a_report(tmp_path: Path) -> None:
    reporters = {"json": Reporter("json", lambda report: '"\ud800 \x00 \x1b 日本"')}
    output = Output("json", str(tmp_path / "a.json"))

    write_final([output], COMPLETE, reporters)

    assert (tmp_path / "a.json").read_bytes() == '"\\ud800 \x00 \x1b 日本"'.encode()


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.json").symlink_to(tmp_path / "real" / "a.json")

    write_final([Output("json", str(tmp_path / "a.json"))], COMPLETE, REPORTERS)

    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == "complete 1"


def test_permissions_are_those_of_any_other_file_or_stay_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    (tmp_path / "old.json").write_text("")
    (tmp_path / "old.json").chmod(0o640)

    for name in ("new.json", "old.json"):
        write_final([Output("json", str(tmp_path / name))], COMPLETE, REPORTERS)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["new.json"] == modes["usual"]
    assert modes["old.json"] == 0o640


PRINTS = """
from ftcheck.offers import Reporter
from ftcheck.output import Output, write_final
from ftcheck.report import Report
reporter = Reporter("json", lambda report: '"é ✓"')
write_final([Output("json")], Report("complete", "p", "p"), {"json": reporter})
"""


def test_standard_output_gets_utf8_whatever_the_terminal_speaks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    ended = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, env=environment, check=True)

    assert json.loads(ended.stdout.decode("utf-8")) == "é ✓"
