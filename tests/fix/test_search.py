"""Edits of the policy's text, and the choice of changes: no check runs here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ftcheck.fix import search, yaml_edits
from ftcheck.records import Change, Check, Finding, Outcome, Result, Severity, Stage

POLICY = """\
# what must hold
ftcheck: 1
defaults:
  training:
    lora: {r: 16, lora_alpha: 32, target_modules: all-linear} # as in the paper
  serving:
    log: content
jobs:
  mapper:
    model: {name: ./model}
    training:
      max_length: 64   # rows are short
      learning_rate: 4.0e-3

      output_dir: 'runs/mapper'
    targets:
      max_length:
        - 32 # low
        - 64 # high
    serving:
      system_prompt: |
        Two lines
        of text

      max_new_tokens: 8
  # the other one
  analyst.v2:
    model: {name: "./model"}
    training:
    evaluation: {}
"""
MAPPER = ("jobs", "mapper")


def lines(old: str, new: str) -> tuple[list[str], list[str]]:
    """The lines that went and those that came."""
    import difflib

    found = list(difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True)))
    return [one[2:] for one in found if one[0] == "-"], [one[2:] for one in found if one[0] == "+"]


@pytest.mark.parametrize(
    ("path", "value", "went", "came"),
    [
        (
            "mapper.training.max_length",
            512,
            ["      max_length: 64   # rows are short\n"],
            ["      max_length: 512   # rows are short\n"],
        ),
        (
            "mapper.training.learning_rate",
            0.0002,
            ["      learning_rate: 4.0e-3\n"],
            ["      learning_rate: 2.0e-4\n"],
        ),
        (
            "mapper.training.output_dir",
            "it's",
            ["      output_dir: 'runs/mapper'\n"],
            ["      output_dir: 'it''s'\n"],
        ),
        ("mapper.training.warmup_steps", 1e-05, [], ["      warmup_steps: 1.0e-5\n"]),
        ("mapper.training.lora.r", 8, [], ["      lora: {r: 8}\n"]),
        (
            "mapper.training.quantization.load_in_4bit",
            True,
            [],
            ["      quantization:\n", "        load_in_4bit: true\n"],
        ),
        (
            "mapper.targets.max_length",
            [32, 128],
            ["        - 64 # high\n"],
            ["        - 128\n"],
        ),
        (
            "mapper.targets.max_length",
            None,
            ["      max_length:\n", "        - 32 # low\n", "        - 64 # high\n"],
            ["      max_length: null\n"],
        ),
        (
            "mapper.serving.system_prompt",
            "One\nline: #1",
            ["      system_prompt: |\n", "        Two lines\n", "        of text\n"],
            ['      system_prompt: "One\\nline: #1"\n'],
        ),
        ("mapper.serving.log", "token-counts", [], ["      log: token-counts\n"]),
        ("analyst.v2.training.max_length", 256, [], ["      max_length: 256\n"]),
        (
            "analyst.v2.evaluation.padding_side",
            "left",
            ["    evaluation: {}\n"],
            ["    evaluation: {padding_side: left}\n"],
        ),
        (
            "analyst.v2.model.revision",
            "1.0",
            ['    model: {name: "./model"}\n'],
            ['    model: {name: "./model", revision: "1.0"}\n'],
        ),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_edit_changes_its_own_line_and_nothing_else(
    path: str, value: Any, went: list[str], came: list[str], newline: str
) -> None:
    text = POLICY.replace("\n", newline)
    keys = search.keys_of(f"jobs.{path}", ("mapper", "analyst", "analyst.v2"))
    assert keys is not None

    new = yaml_edits.with_value(text, keys, value)

    assert new.count("\r\n") == (new.count("\n") if newline == "\r\n" else 0)
    assert lines(text.replace("\r\n", "\n"), new.replace("\r\n", "\n")) == (went, came)
    assert yaml_edits.with_value(new, keys, value) == new


@pytest.mark.parametrize(
    ("keys", "went", "came"),
    [
        (("training", "max_length"), ["      max_length: 64   # rows are short\n"], []),
        (("model", "name"), ["    model: {name: ./model}\n"], ["    model: {}\n"]),
        (
            ("serving", "system_prompt"),
            ["      system_prompt: |\n", "        Two lines\n", "        of text\n"],
            [],
        ),
        (
            ("targets", "max_length"),
            ["    targets:\n", "      max_length:\n", "        - 32 # low\n", "        - 64 # high\n"],
            ["    targets: {}\n"],
        ),
        (("training", "packing"), [], []),
    ],
)
def test_a_key_is_taken_out_with_its_lines_alone(
    keys: tuple[str, ...], went: list[str], came: list[str]
) -> None:
    assert lines(POLICY, yaml_edits.without(POLICY, (*MAPPER, *keys))) == (went, came)


@pytest.mark.parametrize("gone", ["r", "lora_alpha", "target_modules"])
def test_a_key_is_taken_out_of_braces_with_its_comma(gone: str) -> None:
    keys = ("defaults", "training", "lora")

    [line] = lines(POLICY, yaml_edits.without(POLICY, (*keys, gone)))[1]

    assert f"{gone}: " not in line
    assert line.endswith("} # as in the paper\n")
    assert line.count(",") == 1


def test_a_file_without_a_last_line_break_gets_its_lines_on_their_own() -> None:
    text = "ftcheck: 1\njobs:\n  a:\n    serving: {log: none}"

    assert yaml_edits.with_value(text, ("jobs", "a", "training", "r"), 1).endswith(
        "{log: none}\n    training:\n      r: 1"
    )


def test_json_stays_json() -> None:
    import json

    text = '{"ftcheck": 1, "jobs": {"a": {"model": {"name": "m"}, "data": {}}}}'
    new = yaml_edits.with_value(text, ("jobs", "a", "serving", "log"), "token-counts")

    assert json.loads(new)["jobs"]["a"]["serving"] == {"log": "token-counts"}
    assert new.startswith(text[:-4])


SHARED = """\
ftcheck: 1
jobs:
  a: {training: &same {max_length: 64}, serving: {max_new_tokens: &tokens 8}}
  b:
    training: *same
    serving: {max_new_tokens: *tokens}
    evaluation: &lone {padding_side: right}
"""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("a", "training", "max_length"), "'jobs.a.training' is shared by the anchor &same (line 3)"),
        (("b", "training", "max_length"), "'jobs.b.training' is the alias *same (line 5)"),
        (("a", "serving", "max_new_tokens"), "shared by the anchor &tokens"),
        (("b", "serving", "max_new_tokens"), "is the alias *tokens (line 6)"),
    ],
)
def test_nothing_is_written_through_an_anchor(keys: tuple[str, ...], said: str) -> None:
    with pytest.raises(yaml_edits.Refused) as refused:
        yaml_edits.with_value(SHARED, ("jobs", *keys), 512)

    assert said in str(refused.value)


def test_an_anchor_that_nobody_uses_is_no_obstacle() -> None:
    new = yaml_edits.with_value(SHARED, ("jobs", "b", "evaluation", "padding_side"), "left")

    assert "evaluation: &lone {padding_side: left}" in new


def test_a_section_that_is_no_mapping_is_not_replaced_by_one() -> None:
    with pytest.raises(yaml_edits.Refused, match="is not a mapping"):
        yaml_edits.with_value("jobs:\n  a: 5\n", ("jobs", "a", "training"), 1)


@pytest.mark.parametrize(
    "value", ["", "null", "no: yes", "#", "a\u2028b", "é\x85", "- a", "1e3", "\U0001f600", "'\"\\", "[x"]
)
def test_every_text_is_read_back_as_it_was_meant(value: str) -> None:
    new = yaml_edits.with_value(POLICY, (*MAPPER, "serving", "system_prompt"), value)

    assert yaml_edits.with_value(new, (*MAPPER, "serving", "system_prompt"), value) == new


def test_the_place_of_a_value_counts_from_one() -> None:
    assert yaml_edits.place(POLICY, (*MAPPER, "training", "max_length")) == (12, 19)
    assert yaml_edits.place(POLICY, (*MAPPER, "training", "packing")) is None


# --- the choice -----------------------------------------------------------------------------------------


def result(check: str, *findings: Finding, outcome: Outcome = Outcome.FAILED) -> Result:
    about = Check(check, check, check, "a", Stage.BEFORE)
    return Result(about, outcome, findings=findings)


def wants(new: Any, old: Any = 64, key: str = "training.max_length", **more: Any) -> Finding:
    severity = more.pop("severity", Severity.ERROR)
    return Finding("bad", severity, change=Change(f"jobs.a.{key}", old, new, **more))


def chosen(*findings: Finding) -> search.Choice:
    found = search.proposals(result(f"c{number}", one) for number, one in enumerate(findings))
    [choice] = search.resolved(found)
    return choice


def test_the_largest_of_lower_bounds_and_the_smallest_of_upper_bounds_are_taken() -> None:
    low = Severity.WARNING

    up = chosen(wants(128), wants(512, severity=low), wants(256))
    down = chosen(wants(32), wants(8, severity=low))

    assert (up.change.new, up.checks, [one.check for one in up.others]) == (512, ("c1",), ["c0", "c2"])
    assert down.change.new == 8


def test_else_the_worst_finding_decides_then_the_first() -> None:
    low = Severity.WARNING

    assert chosen(wants(32, severity=low), wants(128)).change.new == 128
    assert chosen(wants("none", "content"), wants("counts", "content")).change.new == "none"
    assert chosen(wants(True, False), wants(True, False)).checks == ("c0", "c1")


def test_remarks_and_waived_checks_ask_for_nothing() -> None:
    found = [
        result("a", wants(128, severity=Severity.INFO)),
        result("b", wants(128), outcome=Outcome.WAIVED),
        result("c", Finding("no change")),
    ]

    assert search.proposals(found) == ()


def agree(changes: Sequence[Change]) -> str | None:
    return None


def test_what_a_change_brings_to_light_is_mended_too() -> None:
    steps = "training.gradient_accumulation_steps"

    def check(changes: Sequence[Change]) -> Iterable[Result]:
        values = {one.path: one.new for one in changes}
        yield result("length")
        yield result("steps", *([] if f"jobs.a.{steps}" in values else [wants(4, 16, steps)]))

    found = search.search([result("length", wants(512))], check, agree)

    assert [(one.change.path, one.change.new) for one in found.taken] == [
        ("jobs.a.training.max_length", 512),
        (f"jobs.a.{steps}", 4),
    ]
    assert found.settled


def test_a_key_that_checks_pull_to_and_fro_stays_as_it_was() -> None:
    def check(changes: Sequence[Change]) -> Iterable[Result]:
        value = {one.path: one.new for one in changes}.get("jobs.a.training.max_length", 64)
        yield result("long", *([wants(512, value)] if value < 512 else []))
        yield result("fits", *([wants(64, value)] if value > 256 else []))

    found = search.search(check(()), check, agree)

    [left] = found.left
    assert found.taken == ()
    assert found.settled
    assert left.reason == "the checks disagree: fits proposes 64, long 512"


def test_a_search_without_end_stops_and_says_that_it_is_not_settled() -> None:
    runs = 0

    def check(changes: Sequence[Change]) -> Iterable[Result]:
        nonlocal runs
        runs += 1
        value = changes[0].new if changes else 1
        yield result("more", wants(value + 1, value))

    found = search.search(check(()), check, agree)

    assert (found.settled, runs) == (False, search.ROUNDS + 1)
    assert (found.taken[0].change.old, found.taken[0].change.new) == (1, 1 + search.ROUNDS)


def test_unsafe_changes_are_held_unless_they_are_wanted() -> None:
    first = [result("a", wants(512, safe=False))]

    held = search.search(first, None, agree)
    taken = search.search(first, None, agree, unsafe=True)

    assert (held.taken, [one.change.new for one in held.held]) == ((), [512])
    assert ([one.change.new for one in taken.taken], taken.held) == ([512], ())


def test_what_cannot_be_is_left_with_its_reason() -> None:
    found = search.search([result("a", wants(512))], None, lambda changes: "never")

    assert [(one.path, one.reason) for one in found.left] == [("jobs.a.training.max_length", "never")]


def test_reasons_not_to_write() -> None:
    def why(path: str, new: Any = 1, given: Sequence[str] = ()) -> str | None:
        return search.unwritable(POLICY, [Change(path, 0, new)], ("mapper",), given)

    assert why("jobs.mapper.training.max_length") is None
    assert "is set on the command line" in str(
        why("jobs.mapper.training.lora.r", 1, ["jobs.mapper.training.lora={}"])
    )
    assert why("gate.max_age") == "only settings of a job can be written"
    assert "redacted" in str(why("jobs.mapper.serving.system_prompt", "use [redacted]"))


# --- values that are taken away -------------------------------------------------------------------------


def taken_away(folder: Path, policy: str, key: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(policy, encoding="utf-8")
    return search.written(str(path), policy, [Change(f"jobs.a.{key}", "x", None)], ("a",))


HEAD = "ftcheck: 1\n"
JOB = "jobs:\n  a:\n    model: {name: ./m}\n"


def test_a_value_that_only_the_job_states_goes(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    serving:\n      system_prompt: hello # hi\n      log: none\n"

    assert taken_away(tmp_path, policy, "serving.system_prompt") == policy.replace(
        "      system_prompt: hello # hi\n", ""
    )


def test_a_value_that_defaults_state_too_becomes_null(tmp_path: Path) -> None:
    policy = (
        f"{HEAD}defaults: {{serving: {{system_prompt: other}}}}\n{JOB}    serving: {{system_prompt: x}}\n"
    )

    new = taken_away(tmp_path, policy, "serving.system_prompt")

    assert new == policy.replace("{system_prompt: x}", "{system_prompt: null}")


def test_a_value_that_a_base_file_states_becomes_null_here(tmp_path: Path) -> None:
    base = f"{HEAD}{JOB}    serving: {{system_prompt: x}}\n"
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    policy = f"{HEAD}extends: [./base.yaml]\n"

    new = taken_away(tmp_path, policy, "serving.system_prompt")

    assert new == f"{policy}jobs:\n  a:\n    serving:\n      system_prompt: null\n"
    assert (tmp_path / "base.yaml").read_text(encoding="utf-8") == base


def test_a_value_with_another_default_becomes_null(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    training: {{max_length: 5, packing: false}}\n"

    new = taken_away(tmp_path, policy, "training.max_length")

    assert new == policy.replace("max_length: 5", "max_length: null")


def test_a_library_argument_goes_from_its_open_section(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    training: {{model_init_kwargs: {{device_map: auto}}, packing: false}}\n"

    new = taken_away(tmp_path, policy, "training.model_init_kwargs.device_map")

    assert "model_init_kwargs: {}, packing: false" in new
