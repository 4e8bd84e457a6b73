"""`ftcheck fix` at the command line, where rows have to go: the list that data.exclude names."""

import hashlib
import json
from typing import Any

import pytest

from tests.cli.project import Project
from tests.places import POLICIES

LIST = "policy.job.exclude.jsonl"
CHECKS = "  data-readable: {}\n  data-schema: {}\n  duplicates: {}\n  leakage: {}\n"


def row(number: int, **more: Any) -> str:
    asked = f"what is the number after {number} if you count slowly"
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"it is {number + 1}"}]
    return json.dumps({"messages": turns, **more})


@pytest.fixture
def faulty(project: Project) -> Project:
    """120 rows: two copies of line 5, a row of the gold set, one that is no JSON, one without messages."""
    rows = [row(number) for number in range(120)]
    rows[40] = rows[41] = rows[4]
    rows[100] = '{"messages": [broken'
    rows[110] = '{"foo": 1}'
    project.write("rows.jsonl", "\n".join(rows) + "\n")
    asked = "what is the number after 7 if you count slowly"
    gold = [{"input": f"how far is the moon from village {n}", "expected": "far"} for n in range(30)]
    project.write("gold.json", json.dumps([{"input": asked, "expected": "it is 8"}, *gold]))
    jobs = (
        "  job:\n"
        f"    model: {{name: {POLICIES / 'samples' / 'models' / 'mapper-tiny'}}}\n"
        "    data:\n"
        "      train: rows.jsonl   # the rows\n"
        "      gold: {path: gold.json, input: input, expected: expected}\n"
        "    training: {max_length: 512, packing: true, assistant_only_loss: true}\n"
    )
    project.policy(CHECKS, jobs=jobs)
    return project


def with_list(project: Project, *numbers: int) -> None:
    """A list of these lines, and a policy that names it."""
    rows = (project.folder / "rows.jsonl").read_bytes().splitlines()
    said = [
        {"file": "rows.jsonl", "line": number, "record": hashlib.sha256(rows[number - 1]).hexdigest()}
        for number in numbers
    ]
    project.write(LIST, "".join(json.dumps(one) + "\n" for one in said))
    policy = (project.folder / "policy.yaml").read_text(encoding="utf-8")
    project.write("policy.yaml", policy.replace("    training:", f"      exclude: {LIST}\n    training:"))


def lines(project: Project) -> list[int]:
    return [json.loads(line)["line"] for line in (project.folder / LIST).read_text().splitlines()]


def test_rows_are_listed_beside_the_policy_and_left_out_of_training(faulty: Project) -> None:
    before = (faulty.folder / "policy.yaml").read_text(), (faulty.folder / "rows.jsonl").read_bytes()
    assert faulty.call("run", "policy.yaml", "--offline").code == 1

    held = faulty.call("fix", "policy.yaml", "--offline")
    assert held.code == 0
    assert "5 rows of job excluded from training" in held.out
    assert "to write it" in held.out
    assert not (faulty.folder / LIST).exists()
    assert (faulty.folder / "policy.yaml").read_text() == before[0]

    fixed = faulty.call("fix", "policy.yaml", "--offline", "--unsafe")

    assert fixed.code == 0, fixed.out + fixed.err
    assert lines(faulty) == [8, 41, 42, 101, 111]
    assert (faulty.folder / "rows.jsonl").read_bytes() == before[1]
    now = (faulty.folder / "policy.yaml").read_text().splitlines()
    assert [one for one in now if one not in before[0].splitlines()] == [f"      exclude: {LIST}"]
    ran = faulty.call("run", "policy.yaml", "--offline", "-o", "json=r.json")
    assert ran.code == 0, ran.out
    (excluded,) = [
        one["value"]
        for one in ran.result("job::data-readable")["measurements"]
        if one["name"] == "rows_excluded"
    ]
    assert excluded == 5
    assert ran.report["inputs"]["job.exclude"]["digest"]
    again = faulty.call("fix", "policy.yaml", "--offline", "--unsafe", "--diff")
    assert (again.code, again.out) == (0, "")

    with (faulty.folder / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(row(200) + "\nno row\n")
    assert faulty.call("fix", "policy.yaml", "--offline", "--unsafe").code == 0
    assert lines(faulty) == [8, 41, 42, 101, 111, 122], "the list grows by what is wrong now"


def test_a_list_that_does_not_fit_the_file_is_never_a_shorter_one(faulty: Project) -> None:
    with_list(faulty, 8, 41, 42, 101, 111)
    report = faulty.call("run", "policy.yaml", "--offline", "-o", "json=r.json")
    assert report.code == 0
    listed = (faulty.folder / LIST).read_text()

    (faulty.folder / LIST).write_text("".join(listed.splitlines(keepends=True)[1:]), encoding="utf-8")
    gate = faulty.call("gate", "r.json", "--policy", "policy.yaml")
    assert gate.code == 5
    assert "data-changed" in gate.out + gate.err

    (faulty.folder / LIST).write_text(listed, encoding="utf-8")
    rows = (faulty.folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (faulty.folder / "rows.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    moved = faulty.call("run", "policy.yaml", "--offline")
    assert moved.code == 3
    assert "excluded rows have moved or changed" in moved.out
    assert "ftcheck fix" in moved.out

    (faulty.folder / LIST).write_text('{"file": "rows.jsonl"}\nhm\n', encoding="utf-8")
    wrong = faulty.call("run", "policy.yaml", "--offline")
    assert wrong.code == 3
    assert f"{LIST}:1" in wrong.out
    assert f"{LIST}:2" in wrong.out


def test_more_than_a_tenth_of_the_rows_are_a_fault_of_the_data_set(faulty: Project) -> None:
    rows = [row(number // 2) for number in range(120)]
    faulty.write("rows.jsonl", "\n".join(rows) + "\n")

    left = faulty.call("fix", "policy.yaml", "--offline", "--unsafe")

    assert "skipped  rows of job: 61 of 120 rows would be excluded, more than 10%" in left.out
    assert not (faulty.folder / LIST).exists()


def test_a_command_that_reads_the_file_itself_leaves_nothing_out(faulty: Project) -> None:
    with_list(faulty, 8, 41, 42, 101, 111)
    ran = faulty.call(
        "run", "policy.yaml", "--offline", "--set", "jobs.job.trainer={use: command, argv: [axolotl, train]}"
    )

    assert ran.code == 1
    assert "the trainer's command reads all of them" in ran.out


def test_a_line_that_is_too_long_can_be_left_out_too(faulty: Project) -> None:
    rows = [row(number) for number in range(120)]
    rows[60] = json.dumps({"messages": "x" * (17 << 20)})
    faulty.write("rows.jsonl", "\n".join(rows) + "\n")
    gold = [{"input": f"how far is the moon from village {n}", "expected": "far"} for n in range(30)]
    faulty.write("gold.json", json.dumps(gold))

    assert faulty.call("fix", "policy.yaml", "--offline", "--unsafe").code == 0

    assert lines(faulty) == [61]
    assert faulty.call("run", "policy.yaml", "--offline").code == 0


def test_rows_of_data_that_the_command_line_names_are_not_listed(faulty: Project) -> None:
    shown = faulty.call(
        "fix", "policy.yaml", "--offline", "--unsafe", "--set", "jobs.job.data.format=messages"
    )

    assert "skipped  rows of job: jobs.job.data.format is set on the command line" in shown.out
    assert not (faulty.folder / LIST).exists()
