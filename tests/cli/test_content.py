"""Row text stays out of every report, unless it is asked for."""

import json
from pathlib import Path

import pytest

from tests.cli.project import Project

CANARY = "xylophonequartz"
SINKS = ("r.json", "r.xml", "r.md", "r.txt", "r.sarif", "g.json", "r.html")


@pytest.fixture
def leaky(project: Project, samples: Path) -> Project:
    """A job whose every row holds the canary, and that fails as many rules as it can."""
    turns = [
        {"role": "user", "content": f"{CANARY} please"},
        {"role": "assistant", "content": f"{CANARY} it is, of course"},
    ]
    odd = [{"role": "user", "content": CANARY}, {"role": CANARY, "content": None}]
    rows = [{"messages": turns}] * 30 + [{"messages": odd}, {"messages": CANARY}, {"text": CANARY}]
    broken = '{"messages": "' + CANARY
    project.write("rows.jsonl", "\n".join([*map(json.dumps, rows), broken]) + "\n")
    project.write("gold.json", json.dumps([{"input": CANARY, "expected": f"{CANARY} {n}"} for n in range(5)]))
    project.write("schema.json", '{"type": "object"}')
    project.write(
        "policy.yaml",
        "ftcheck: 1\nextends: [recommended]\njobs:\n  job:\n"
        f"    model: {{name: {samples}/models/mapper-tiny}}\n"
        "    data: {train: rows.jsonl, gold: {path: gold.json}}\n"
        "    training: {max_length: 16, assistant_only_loss: true, output_dir: out}\n"
        "    serving: {max_new_tokens: 4, max_input_tokens: 8, over_limit: reject, log: token-counts,"
        " output_schema: schema.json}\n",
    )
    return project


def outputs(project: Project, *arguments: str) -> dict[str, str]:
    """What each sink says, the terminal among them."""
    formats = ("json", "junit", "markdown", "github", "sarif", "gitlab", "html")
    files = [word for name, file in zip(formats, SINKS, strict=True) for word in ("-o", f"{name}={file}")]
    ran = project.call("run", "policy.yaml", *files, "-v", *arguments)
    assert ran.code == 1, ran.out + ran.err
    said = {name: (project.folder / name).read_text(encoding="utf-8") for name in SINKS}
    return {**said, "out": ran.out, "err": ran.err}


def test_no_sink_holds_row_text(leaky: Project) -> None:
    said = outputs(leaky)

    assert len(json.loads(said["r.json"])["results"]) > 15
    leaks = {
        name: [line for line in text.splitlines() if CANARY in line and "unknown role" not in line]
        for name, text in said.items()
    }
    assert leaks == {name: [] for name in said}


def test_show_content_shows_the_rows_that_findings_speak_of(leaky: Project) -> None:
    said = outputs(leaky, "--show-content")

    assert CANARY in said["r.json"]
    assert CANARY in said["out"]


def test_a_findings_own_content_is_shown_only_where_it_is_asked_for() -> None:
    from ftcheck.records import Check, Finding, Outcome, Result, Stage
    from ftcheck.report.record import result_to_dict
    from ftcheck.runner.shown_rows import with_content

    finding = Finding("row 3: not JSON", content=f"{CANARY} " * 100)
    check = Check(id="job::accuracy", name="accuracy", rule="accuracy", job="job", stage=Stage.AFTER)
    kept = result_to_dict(Result(check, Outcome.PASSED, findings=(finding,), findings_total=1))

    assert CANARY not in json.dumps(kept)
    assert with_content(finding).message.startswith(f"row 3: not JSON\n{CANARY}")
    assert with_content(finding).message.endswith(" …")
