"""Step `check`: runs ftcheck, hands its reports on, and ends with its exit code."""

import json
import os
import posixpath
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runner import NOTHING, append, escaped, fail, folder, given, identity, python_of, set_outputs

REPORTS = {
    "json": "report.json",
    "markdown": "summary.md",
    "sarif": "results.sarif",
    "html": "report.html",
    "github": "annotations.txt",
}
ANNOTATION = re.compile(r"^(::(?:error|warning|notice) file=)(?!/|[A-Za-z]%3A)(?=.)", re.MULTILINE)


def main() -> int:
    """Run the checks; the exit code is ftcheck's, also where it was killed."""
    directory = _directory()
    reports = Path(tempfile.mkdtemp(prefix=f"{identity()}-", dir=folder()))
    words = _words(reports)
    # set first: a run that is killed together with this script leaves its reports, which say that it started
    set_outputs(
        {
            "reports": str(reports),
            "report": str(reports / REPORTS["json"]),
            "artifact": f"ftcheck-{_slug()}-{identity()}",
            "verdict": "incomplete",
            "gate": "shut",
        }
    )
    code = _run(words, directory)
    report = _read(reports / REPORTS["json"])
    _hand_on(reports, report, code)
    return code


def _directory() -> Path:
    stated = given("WORKING_DIRECTORY") or "."
    directory = Path(os.environ["GITHUB_WORKSPACE"], stated)
    if not directory.is_dir():
        fail(f"input 'working-directory': there is no folder {stated}")
    return directory


def _words(reports: Path) -> list[str]:
    """The command line. The policy stands behind `--`: whatever it is called, it is no option."""
    python = str(python_of(folder() / "environment"))
    outputs = [word for name, file in REPORTS.items() for word in ("-o", f"{name}={reports / file}")]
    try:
        arguments = shlex.split(given("ARGS"))
    except ValueError as error:
        fail(f"input 'args': {error}")
    policy = ["--", given("POLICY")] if given("POLICY") else []
    return [python, "-m", "ftcheck", "run", *outputs, *arguments, *policy]


def _slug() -> str:
    """The policy's name, for the name of the artifact."""
    stem = Path(given("POLICY") or "ftcheck").stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:40] or "policy"


def _run(words: list[str], directory: Path) -> int:
    """Run a command whose output the runner does not read for workflow commands; its exit code."""
    end = secrets.token_hex(16)
    print(f"::stop-commands::{end}")
    print("+", escaped(shlex.join(["ftcheck", *words[3:]])), flush=True)
    try:
        code = subprocess.run(words, cwd=directory, check=False).returncode
    finally:
        print(f"\n::{end}::", flush=True)
    return code if code >= 0 else 128 - code


def _read(file: Path) -> dict[str, Any]:
    """The JSON report; empty where there is none that can be read."""
    try:
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read


def _hand_on(reports: Path, report: dict[str, Any], code: int) -> None:
    """Annotations, summary and outputs.

    Results of a run that did not finish are not uploaded: those that are missing would close alerts.
    """
    finished = report.get("status") == "complete"
    jobs = (report.get("gate") or {}).values()
    is_open = finished and bool(jobs) and all(state == "open" for state in jobs)
    sarif = reports / REPORTS["sarif"]
    set_outputs(
        {
            "verdict": report.get("verdict") or ("nothing" if code == NOTHING else "incomplete"),
            "gate": "open" if is_open else "shut",
            "sarif": str(sarif) if finished and sarif.is_file() else "",
        }
    )
    print(_annotations(reports / REPORTS["github"], code), flush=True)
    append("GITHUB_STEP_SUMMARY", _text(reports / REPORTS["markdown"]) or _ended(code))


def _annotations(file: Path, code: int) -> str:
    """ftcheck's annotations, their files as the repository has them."""
    text = _text(file)
    if not text:
        return f"::error title=ftcheck::{_ended(code)}" if code else ""
    below = posixpath.normpath(given("WORKING_DIRECTORY") or ".")
    prefix = "" if below == "." else escaped(below).replace(":", "%3A").replace(",", "%2C") + "/"
    return ANNOTATION.sub(lambda found: found[1] + prefix, text)


def _ended(code: int) -> str:
    return f"ftcheck wrote no report and ended with exit code {code}: see the log of this step"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
