"""Items 31 and 32: files of every wrong kind, and what may not get out of them, on the commands."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.model.tokenizer import template_error
from ftcheck_plugins.reading.files import Source, stream
from ftcheck_plugins.reporters import github, gitlab, junit, markdown, sarif

from ftcheck.errors import Problem
from ftcheck.records import Check, Finding, Location, Measurement, Outcome, Result, Stage
from ftcheck.report.record import Report
from ftcheck.templates import own_words
from tests.cli.project import Project
from tests.mutants.kinds import called, looked
from tests.mutants.world import World, made

DEEP = "[" * 200_000
SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A healthy job with the report that opens the gate."""
    return made(tmp_path_factory.mktemp("hostile") / "world")


def changed(world: World, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The report with something else in it."""
    report = json.loads(world.report.read_bytes())
    change(report)
    (folder / "r.json").write_text(json.dumps(report), encoding="utf-8")
    return folder / "r.json"


# --- item 31: policies, reports, inputs -----------------------------------------------------------------


def special(kind: str, path: Path) -> Path:
    """What is no regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_item_31_a_policy_that_is_no_file_is_one_line_and_exit_2(kind: str, tmp_path: Path) -> None:
    policy = special(kind, tmp_path / "policy.yaml")

    for command in (("policy", "check"), ("run",), ("policy", "show")):
        code, said = called(*command, str(policy))
        assert code == 2
        assert "policy.yaml" in said


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_item_31_a_report_that_is_no_file_refuses_with_no_report(
    kind: str, world: World, tmp_path: Path
) -> None:
    report = special(kind, tmp_path / "r.json")

    code, said = called("gate", str(report), "--policy", str(world.policy))

    assert code == 5
    assert "(no-report)" in said
    assert called("report", "convert", str(report), "-o", "markdown")[0] == 2


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.parquet", "train.csv"])
def test_item_31_data_that_is_no_file_is_a_finding(
    kind: str, name: str, world: World, tmp_path: Path
) -> None:
    data = special(kind, tmp_path / name)
    (tmp_path / "policy.yaml").write_text(world.text(train=data), encoding="utf-8")

    assert "errored" in looked(tmp_path / "policy.yaml")


def test_item_31_data_in_a_pipe_ends_a_run_with_exit_3(project: Project, world: World) -> None:
    os.mkfifo(project.folder / "train.jsonl")
    project.write("policy.yaml", world.text(train=project.folder / "train.jsonl"))

    ran = project.call("run", "policy.yaml", "--offline", "-o", "json=r.json")

    assert ran.code == 3
    said = ran.result("job::data-schema")["reason"]
    assert "train.jsonl" in said
    assert "a named pipe (FIFO): save what it gives to a file" in said


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "config.json", "chat_template.jinja", "tokenizer.json"]
)
def test_item_31_a_pipe_in_the_models_folder_is_not_waited_for(
    name: str, world: World, tmp_path: Path
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(world.model, model)
    (model / name).unlink()
    os.mkfifo(model / name)
    (tmp_path / "policy.yaml").write_text(world.text(model=model), encoding="utf-8")

    assert "errored" in looked(tmp_path / "policy.yaml")


@pytest.mark.parametrize("text", [DEEP, DEEP + "]" * 200_000, '{"a":' * 200_000, "9" * 10_000, "\ud800"])
def test_item_31_a_report_that_cannot_be_parsed_refuses(text: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(text.encode("utf-8", "surrogatepass"))

    code, said = called("gate", str(tmp_path / "r.json"), "--policy", str(world.policy))

    assert code == 5
    assert "(no-report)" in said


@pytest.mark.parametrize("wrong", [None, 1, "x", [], {}, [1], {"a": []}, 10**400])
@pytest.mark.parametrize(
    "field", ["status", "policy", "jobs", "inputs", "plugins", "results", "run", "gate", "counts"]
)
def test_item_31_report_fields_of_wrong_types_refuse(
    field: str, wrong: object, world: World, tmp_path: Path
) -> None:
    report = changed(world, tmp_path, lambda found: found.update({field: wrong}))

    code, _ = called("gate", str(report), "--policy", str(world.policy))

    harmless: list[tuple[str, object]] = [("gate", {}), ("plugins", [])]  # the gate asks neither
    assert code == (0 if (field, wrong) in harmless else 5)


def test_item_31_deep_json_in_headers_configurations_and_locks(world: World, tmp_path: Path) -> None:
    import shutil

    for name, content in (
        ("model.safetensors", struct.pack("<Q", len(DEEP)) + DEEP.encode()),
        ("tokenizer_config.json", DEEP.encode()),
        ("config.json", DEEP.encode()),
    ):
        model = tmp_path / name / "model"
        shutil.copytree(world.model, model)
        (model / name).write_bytes(content)
        policy = tmp_path / name / "policy.yaml"
        policy.write_text(world.text(model=model), encoding="utf-8")
        assert "errored" in looked(policy), name
    policy = tmp_path / "policy.yaml"
    policy.write_text(world.text(checks=("data-readable", "tokenizer-parity")), encoding="utf-8")
    (tmp_path / "policy.yaml.lock").write_text(DEEP, encoding="utf-8")
    assert "errored" in looked(policy)


@pytest.mark.parametrize("number", ["9" * 400, "1e400", "-" + "9" * 400])
def test_item_31_a_number_of_400_digits_in_run_json(number: str, world: World, tmp_path: Path) -> None:
    run = json.loads((world.run / "run.json").read_bytes())
    for key in ("steps", "final_loss", "tokens", "memory_peak_gib"):
        text = json.dumps({**run, key: "HERE"}).replace('"HERE"', number)
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
        assert called("monitor", str(tmp_path), "--once")[0] == 0, key
        assert called("monitor", str(tmp_path), "--once", "--json")[0] == 0, key


@pytest.mark.parametrize("name", ["~nouser/model", "~nouser", "x" * 5000])
def test_item_31_names_that_no_system_has(name: str, world: World, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(world.text(model=Path(name)), encoding="utf-8")
    looked(policy)
    policy.write_text(world.text(train=Path(f"{name}.jsonl")), encoding="utf-8")
    looked(policy)


def test_item_31_a_parquet_timestamp_out_of_range_is_told_by_its_row(tmp_path: Path) -> None:
    column = pa.array([0, 2**62, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["a", "b", "c"], "at": column}), tmp_path / "x.parquet")

    first, second, third = stream(Source((str(tmp_path / "x.parquet"),)))

    assert (first.trouble, third.trouble) == (None, None)
    assert second.trouble is not None
    assert second.trouble.message == "a value of the type timestamp[us] is out of range"


# --- item 32: what gets out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "template", "own"),
    [
        ("roles must alternate", "{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("unknown role: Jane Doe", "{{ raise_exception('unknown role: ' + role) }}", "unknown role:"),
        ("Jane Doe", "{{ raise_exception(role) }}", ""),
        ("'tools' is undefined", "{{ tools }}", "'tools' is undefined"),
        ("'Jane' is undefined", "{{ tools }}", ""),
        ("'dict object' has no attribute 'x'", "{{ m.x }}", "'dict object' has no attribute 'x'"),
        ("'dict object' has no attribute 'Jane'", "{{ m[m.role] }}", ""),
        ('can only concatenate str (not "list") to str', "x", 'can only concatenate str (not "list") to str'),
        ("invalid literal for int() with base 10: 'Jane'", "{{ m.content | int }}", ""),
    ],
)  # fmt: skip
def test_item_32_of_a_templates_error_only_its_own_words_are_told(text: str, template: str, own: str) -> None:
    assert own_words(text, template) == own
    message, content = template_error(ValueError(text), template)
    assert "Jane" not in message
    assert content == (None if own == text else text)


def test_item_32_a_templates_error_shows_no_row(project: Project, world: World) -> None:
    row = json.loads(world.train.read_text(encoding="utf-8").splitlines()[0])
    row["messages"][1]["content"] = "Jane Doe of 12 High Street"
    row["messages"][2]["role"] = "JaneDoe"
    project.write("train.jsonl", json.dumps(row) + "\n" + json.dumps({"JaneDoe": 1}) + "\n")
    project.write(
        "model.jinja",
        "{% for m in messages %}{% if m.role == 'JaneDoe' %}{{ raise_exception(messages[1].content) }}"
        "{% endif %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    )
    text = world.text(train=project.folder / "train.jsonl", template=project.folder / "model.jinja")
    project.write("policy.yaml", text)

    hidden = project.call("run", "policy.yaml", "--offline", "-o", "json=r.json", "-o", "markdown=r.md")
    said = hidden.out + hidden.err + json.dumps(hidden.report) + (project.folder / "r.md").read_text("utf-8")
    assert "Jane" not in said
    assert "the chat template raised TemplateError at its line 1" in said
    shown = project.call("run", "policy.yaml", "--offline", "--show-content", "-o", "json=r.json")
    assert "12 High Street" in json.dumps(shown.report)
    assert "keys: JaneDoe" in json.dumps(shown.report)


def test_item_32_ids_of_gold_items_are_content(world: World, project: Project) -> None:
    items = json.loads(world.gold.read_bytes())
    for item in items:
        item["id"] = "Jane Doe"
    project.write("gold.json", json.dumps(items))
    text = world.text(gold=project.folder / "gold.json", checks=("data-readable", "evaluation-parity"))
    project.write("policy.yaml", text)

    ran = project.call("run", "policy.yaml", "--offline", "-o", "json=r.json")

    assert "this item's id is already used" in json.dumps(ran.report)
    assert "Jane" not in ran.out + ran.err + json.dumps(ran.report)


def test_item_32_policy_show_redacts_what_run_redacts(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "ftcheck: 1\nname: x\njobs:\n  job:\n    model: {name: m}\n"
        f"    serving: {{system_prompt: 'password={SECRET} https://me:{SECRET}@host/'}}\n"
        "checks: {data-readable: {}}\n",
        encoding="utf-8",
    )

    for switches in ((), ("--origin",)):
        code, said = called("policy", "show", str(policy), *switches)
        assert code == 0
        assert SECRET not in said
        assert "[redacted]" in said


def test_item_32_fix_shows_a_diff_without_secrets() -> None:
    from ftcheck.cli.fix import _diff

    old = f"a: 1\nserving: {{api_key: '{SECRET}'}}\n"

    said = _diff("policy.yaml", old, old.replace("a: 1", "a: 2"))

    assert SECRET not in said
    assert "-a: 1\n+a: 2\n" in said


FORGED = ("\n", "\r\n", "\r", "\u2028", "\x85", "\x0b", "\x1b[2K\r")


@pytest.mark.parametrize("line_break", FORGED)
def test_item_32_a_message_forges_no_place(line_break: str) -> None:
    text = f"x{line_break}secret.py:1:1: error: forged"
    check = Check(id=f"job::{text}", name=text, rule="r", job="job", stage=Stage.BEFORE)
    at = Location(f"a{line_break}secret.py:1:1: b.jsonl", 3)
    result = Result(
        check,
        Outcome.FAILED,
        blocking=True,
        summary=text,
        detail=text,
        findings=(Finding(text, at=at, fix=text, why=text, content=text),),
        findings_total=1,
        measurements=(Measurement(text, text, text, text),),
    )
    report = Report("complete", text, text, results=(result,), problems=(Problem(text, text),), notes=(text,))

    for reporter in (github, gitlab, junit, markdown, sarif):
        for line in reporter.render(report).splitlines():
            assert not line.lstrip("# >").startswith("secret.py:1:1"), reporter.__name__
    assert not any(line.startswith("secret") for line in str(Problem(text)).splitlines())


@pytest.mark.parametrize("line_break", FORGED)
def test_item_32_a_message_forges_no_place_on_the_terminal(line_break: str, project: Project) -> None:
    name = f"x{line_break}secret.py:1:1: error: forged"
    project.write("policy.yaml", f"ftcheck: 1\nname: x\njobs: {{}}\n{json.dumps(name)}: 1\n")
    code, said = called("policy", "check", str(project.folder / "policy.yaml"))
    assert code == 2
    assert not any(line.startswith("secret") for line in said.splitlines())
