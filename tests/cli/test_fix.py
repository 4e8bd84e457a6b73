"""`ftcheck fix` at the command line."""

import difflib
import json
import shutil

import pytest

from tests.cli.project import Project, rule_text
from tests.places import POLICIES

CHANGES = "\nfrom ftcheck.records import Change\n"
LONG = rule_text(
    "long-enough",
    """
    found, key = job.training.max_length, f"jobs.{job.name}.training.max_length"
    yield Measurement("max_length", found)
    if found < 512:
        change = Change(key, found, 512, safe=False)
        yield Finding("rows are cut", at=job.at("training.max_length"), change=change)
    """,
    "job: Job",
)
STEPS = rule_text(
    "few-tokens",
    """
    training = job.training
    tokens, key = training.max_length * training.gradient_accumulation_steps, "gradient_accumulation_steps"
    yield Measurement("tokens", tokens)
    if tokens > 4096:
        change = Change(f"jobs.{job.name}.training.{key}", 16, 8, safe=False)
        yield Finding("too many tokens a step", at=job.at(f"training.{key}"), change=change)
    """,
    "job: Job",
)
LOG = rule_text(
    "quiet-log",
    """
    yield Measurement("log", job.serving.log)
    if job.serving.log == "content":
        change = Change(f"jobs.{job.name}.serving.log", "content", "token-counts")
        yield Finding("the log keeps what users write", at=job.at("serving.log"), change=change)
    """,
    "job: Job",
)
BREAKS = rule_text("breaks", "raise RuntimeError('no')")
JOB = """\
  job:
    model: {name: ./model}
    # short rows
    training:
      max_length: 64   # enough?
      gradient_accumulation_steps: 16
    serving: {log: content}  # all of it
"""
FIXED = {
    "      max_length: 64   # enough?\n": "      max_length: 512   # enough?\n",
    "      gradient_accumulation_steps: 16\n": "      gradient_accumulation_steps: 8\n",
    "    serving: {log: content}  # all of it\n": "    serving: {log: token-counts}  # all of it\n",
}
RULES = ("--rules-dir", "rules")


@pytest.fixture
def red(project: Project) -> Project:
    """A job with two wrong numbers, one of which only shows when the other is right, and a wrong log."""
    project.rules(CHANGES, LONG, STEPS, LOG, BREAKS)
    project.policy("long-enough: {}\nfew-tokens: {}\nquiet-log: {}", jobs=JOB)
    return project


def text(project: Project) -> str:
    return (project.folder / "policy.yaml").read_text(encoding="utf-8")


def mended(before: str, *lines: str) -> str:
    for line in lines or FIXED:
        before = before.replace(line, FIXED[line])
    return before


def test_safe_changes_are_written_and_the_others_listed(red: Project) -> None:
    before = text(red)

    ran = red.call("fix", "policy.yaml", *RULES)

    assert ran.code == 0, ran.out + ran.err
    assert text(red) == mended(before, "    serving: {log: content}  # all of it\n")
    assert "policy.yaml:10:20  jobs.job.serving.log  content -> token-counts   (job::quiet-log)" in ran.out
    assert "policy.yaml:8:19  jobs.job.training.max_length  64 -> 512   (job::long-enough)" in ran.out
    assert "to write it: ftcheck fix policy.yaml --unsafe" in ran.out
    assert "still failing: job::long-enough" in ran.out


def test_red_then_fix_then_green_and_a_second_fix_changes_nothing(red: Project) -> None:
    before = text(red)
    assert red.run().code == 1

    shown = red.call("fix", "policy.yaml", "--unsafe", "--diff", *RULES)
    assert shown.code == 1
    assert text(red) == before
    ran = red.call("fix", "policy.yaml", "--unsafe", *RULES)
    after = text(red)

    assert ran.code == 0, ran.out + ran.err
    assert after == mended(before)
    changed = [line for line in shown.out.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert [line[1:] + "\n" for line in changed if line[0] == "-"] == list(FIXED)
    assert [line[1:] + "\n" for line in changed if line[0] == "+"] == list(FIXED.values())
    assert red.run().code == 0
    again = red.call("fix", "policy.yaml", "--unsafe", *RULES)
    assert (again.code, text(red)) == (0, after)
    assert "nothing to fix" in again.out
    assert red.call("fix", "policy.yaml", "--unsafe", "--diff", *RULES).out == ""


def test_a_selection_narrows_what_is_mended(red: Project) -> None:
    before = text(red)

    ran = red.call("fix", "policy.yaml", "--unsafe", "--select", "few-tokens", *RULES)
    assert (ran.code, text(red)) == (0, before)
    ran = red.call("fix", "policy.yaml", "--unsafe", "--ignore", "few-tokens", *RULES)

    assert ran.code == 0
    assert text(red) == mended(before).replace("steps: 8", "steps: 16")


def test_only_the_job_that_was_asked_for_is_changed(red: Project) -> None:
    red.policy("long-enough: {}", jobs=JOB + JOB.replace("job:", "other:"))
    before = text(red)

    assert red.call("fix", "policy.yaml", "--unsafe", "--job", "other", *RULES).code == 0

    first, second = before.split("  other:\n")
    assert text(red) == first + "  other:\n" + second.replace("max_length: 64 ", "max_length: 512 ")


def test_what_set_gives_is_not_written(red: Project) -> None:
    before = text(red)

    ran = red.call(
        "fix",
        "policy.yaml",
        "--unsafe",
        "--set",
        "jobs.job.training.max_length=32",
        "--ignore",
        "quiet-log",
        *RULES,
    )

    assert (ran.code, text(red)) == (0, before)
    assert (
        "skipped  jobs.job.training.max_length: jobs.job.training.max_length is set on the command" in ran.out
    )


def test_a_value_from_defaults_or_a_base_file_is_stated_under_the_job(red: Project) -> None:
    base = red.write("base.yaml", "ftcheck: 1\njobs:\n  job: {serving: {log: content}}\n")
    stated = base.read_text(encoding="utf-8")
    job = JOB.replace("    serving: {log: content}  # all of it\n", "").replace(
        "      max_length: 64   # enough?\n", ""
    )
    red.policy(
        "long-enough: {}\nquiet-log: {}",
        jobs=job,
        more="extends: [./base.yaml]\ndefaults: {training: {max_length: 64}}\n",
    )
    before = text(red)

    assert red.call("fix", "policy.yaml", "--unsafe", *RULES).code == 0

    steps = "      gradient_accumulation_steps: 16\n"
    added = f"{steps}      max_length: 512\n    serving:\n      log: token-counts\n"
    assert text(red) == before.replace(steps, added)
    assert base.read_text(encoding="utf-8") == stated
    assert red.run().code == 0


def test_a_value_behind_an_alias_is_left_and_said(red: Project) -> None:
    shared = "defaults:\n  serving: &how {log: content}\n"
    red.policy("quiet-log: {}", more=shared, jobs=JOB.replace("{log: content}", "*how"))
    path = red.folder / "policy.yaml"
    head, jobs = text(red).split("jobs:\n")
    path.write_text(head + shared + "jobs:\n" + jobs.replace(shared, ""), encoding="utf-8")
    before = text(red)

    ran = red.call("fix", "policy.yaml", *RULES)

    assert (ran.code, text(red)) == (0, before)
    assert "skipped  jobs.job.serving.log: 'jobs.job.serving' is the alias *how (line 12)" in ran.out
    assert "failing: job::quiet-log" in ran.out


# --- trouble --------------------------------------------------------------------------------------------


def test_a_policy_that_does_not_parse_is_refused_with_its_place(red: Project) -> None:
    red.write("policy.yaml", "ftcheck: 1\njobs: {a: [}\n")

    ran = red.call("fix", "policy.yaml", *RULES)

    assert ran.code == 2
    assert ran.err.startswith("policy.yaml:2:")


def test_a_read_only_file_is_refused_before_the_checks_run(red: Project) -> None:
    path = red.folder / "policy.yaml"
    path.chmod(0o444)
    before = text(red)

    ran = red.call("fix", "policy.yaml", *RULES)

    assert (ran.code, text(red)) == (2, before)
    assert "is read-only" in ran.err
    assert red.call("fix", "policy.yaml", "--diff", *RULES).code == 1


def test_a_file_that_changes_meanwhile_is_not_overwritten(red: Project) -> None:
    meddler = rule_text(
        "meddler",
        """
        yield Measurement("done", True)
        with open("policy.yaml", "a") as file:
            file.write("# mine\\n")
        """,
    )
    red.rules(CHANGES, LOG, meddler)
    red.policy("quiet-log: {}\nmeddler: {}", jobs=JOB)
    before = text(red)

    ran = red.call("fix", "policy.yaml", *RULES)

    assert ran.code == 3
    assert "changed while the checks ran: nothing was written" in ran.err
    assert text(red).startswith(before + "# mine\n")
    assert "token-counts" not in text(red)


def test_a_check_that_breaks_is_named_and_the_rest_is_mended(red: Project) -> None:
    red.policy("quiet-log: {}\nbreaks: {}", jobs=JOB)

    ran = red.call("fix", "policy.yaml", *RULES)

    assert ran.code == 3
    assert "log: token-counts" in text(red)
    assert "ended in an error, so what they would propose is unknown: breaks" in ran.out


def test_permissions_and_a_link_stay(red: Project) -> None:
    path = red.folder / "policy.yaml"
    path.chmod(0o640)
    (red.folder / "link.yaml").symlink_to("policy.yaml")

    assert red.call("fix", "link.yaml", *RULES).code == 0

    assert (red.folder / "link.yaml").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert "log: token-counts" in text(red)


# --- stored reports -------------------------------------------------------------------------------------


def test_a_stored_report_is_taken_while_it_fits(red: Project) -> None:
    red.write("model/config.json", "{}")
    before = text(red)
    assert red.run().code == 1

    ran = red.call("fix", "policy.yaml", "--report", "r.json", "--unsafe", *RULES)
    assert ran.code == 0, ran.err
    assert text(red) == mended(before).replace("steps: 8", "steps: 16")
    assert "now run the checks again: ftcheck run policy.yaml" in ran.out
    after = text(red)
    ran = red.call("fix", "policy.yaml", "--report", "r.json", "--unsafe", *RULES)

    assert (ran.code, text(red)) == (5, after)
    assert (
        "report refused: policy-changed: the section jobs.job differs from the one that was checked"
        in ran.err
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "partial"}, "the report is partial"),
        ({"status": "started"}, "has not finished"),
        ({"schema": "other"}, "not a report"),
    ],
)
def test_a_report_that_is_not_whole_is_refused(red: Project, change: dict[str, str], said: str) -> None:
    red.write("model/config.json", "{}")
    red.run()
    path = red.folder / "r.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), encoding="utf-8")
    before = text(red)

    ran = red.call("fix", "policy.yaml", "--report", "r.json", *RULES)

    assert (ran.code, text(red)) == (5, before)
    assert said in ran.err


# --- the shipped policy ---------------------------------------------------------------------------------

WRONG = {
    "      max_length: 512\n": "      max_length: 64\n",
    "      max_new_tokens: 48\n": "      max_new_tokens: 8\n",
    "      gradient_accumulation_steps: 4\n": "      gradient_accumulation_steps: 64\n",
    "    log: token-counts # never content\n": "    log: content # never content\n",
    "    warmup_steps: 0.03 #": "    warmup_steps: 5000 #",
}


def test_the_night_before_with_wrong_numbers_goes_green_after_one_fix(project: Project) -> None:
    shutil.copytree(POLICIES, project.folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    path = project.folder / "policies" / "night_before.yaml"
    before = path.read_text(encoding="utf-8")
    for right, wrong in WRONG.items():
        assert right in before
        before = before.replace(right, wrong, 1)
    path.write_text(before, encoding="utf-8")
    command = ("policies/night_before.yaml", "--offline")

    ran = project.call("fix", *command, "--unsafe")

    assert ran.code == 0, ran.out + ran.err
    after = path.read_text(encoding="utf-8")
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    gone = [line.split()[1:3] for line in lines if line.startswith("- ")]
    came = [line.split()[1] for line in lines if line.startswith("+ ")]
    assert gone == [["max_length:", "64"], ["gradient_accumulation_steps:", "64"], ["max_new_tokens:", "8"]]
    per_job = ["warmup_steps:", "log:"]
    assert sorted(came) == sorted([*(one[0] for one in gone), *per_job, *per_job])
    checked = project.call("run", *command)
    assert checked.code == 0, checked.out
    again = project.call("fix", *command, "--unsafe", "--diff")
    assert (again.code, again.out) == (0, ""), again.out
