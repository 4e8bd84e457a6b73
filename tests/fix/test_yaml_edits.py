"""Edits of the policy's text: the line that changes, and no other."""

from typing import Any

import pytest

from ftcheck.fix import search, yaml_edits
from tests.fix.kit import POLICY

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


ITEM = {"check": "m::c", "reason": "known: see #3", "expires": "2026-12-06", "fingerprints": ["a:1", "b:1"]}
BLOCK = """\
  - check: "m::c"
    reason: "known: see #3"
    expires: "2026-12-06"
    fingerprints:
      - "a:1"
      - "b:1"
"""
FLOW = '{check: "m::c", reason: "known: see #3", expires: "2026-12-06", fingerprints: ["a:1", "b:1"]}'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1  # one\n", "a: 1  # one\nwaivers:\n" + BLOCK),
        ("a: 1", "a: 1\nwaivers:\n" + BLOCK.rstrip("\n")),
        ("waivers:\n  - {check: x}  # why\nz: 2\n", "waivers:\n  - {check: x}  # why\n" + BLOCK + "z: 2\n"),
        (
            "waivers:\n- check: x\n  owner: o\n\n# end\nz: 2\n",
            "waivers:\n- check: x\n  owner: o\n" + BLOCK.replace("\n  ", "\n")[2:] + "\n# end\nz: 2\n",
        ),
        ("waivers: [{check: x}]  # why\n", f"waivers: [{{check: x}}, {FLOW}]  # why\n"),
        ("waivers: []\nz: 2\n", f"waivers: [{FLOW}]\nz: 2\n"),
        ("waivers:  # none\nz: 2\n", "waivers:  # none\n" + BLOCK + "z: 2\n"),
        ("a: 1\r\nb: 2\r\n", "a: 1\r\nb: 2\r\nwaivers:\r\n" + BLOCK.replace("\n", "\r\n")),
        ('{"a": 1}\n', f'{{"a": 1, "waivers": [{FLOW}]}}\n'),
    ],
    ids=["none", "no-break", "lines", "outdented", "braces", "empty", "null", "windows", "json"],
)
def test_one_more_item_touches_nothing_else(text: str, wanted: str) -> None:
    made = yaml_edits.with_item(text, "waivers", ITEM)

    if text.startswith("{"):
        assert made.startswith('{"a": 1, "waivers": [{')
    else:
        assert made == wanted


def test_a_shared_list_is_not_added_to() -> None:
    with pytest.raises(yaml_edits.Refused, match="shared by the anchor"):
        yaml_edits.with_item("waivers: &w [{check: x}]\nz: *w\n", "waivers", ITEM)
