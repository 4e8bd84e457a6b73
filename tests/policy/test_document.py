"""What keeps a file from being a policy, each in one line at its place."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ftcheck.policy import document, draft
from ftcheck.policy.nodes import find, plain
from ftcheck.records import Location
from tests.bounded_cpu import bounded_cpu
from tests.policy.kit import read, said, write


def tree_of(text: str) -> object:
    tree, problems = document.read(write("policy.yaml", text), "policy.yaml")
    assert tree is not None
    assert problems == ()
    return plain(tree)


def one_problem(text: str | bytes) -> str:
    _, problems = document.read(write("policy.yaml", text), "policy.yaml")
    [problem] = problems
    return str(problem)


def test_a_missing_file_is_named() -> None:
    assert said(draft("nowhere/policy.yaml")) == ["nowhere/policy.yaml: no such file"]


def test_a_folder_is_no_policy() -> None:
    Path("jobs").mkdir()
    assert said(draft("jobs")) == ["jobs: is a folder, not a policy file"]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_an_unreadable_file_says_why() -> None:
    assert said(draft("/proc/self/mem")) == ["/proc/self/mem: cannot be read: Input/output error"]


@pytest.mark.parametrize("text", ["", "  \n", "# only a comment\n"])
def test_an_empty_file_says_how_a_policy_begins(text: str) -> None:
    assert one_problem(text) == "policy.yaml: is empty: a policy starts with 'ftcheck: 1'"


def test_a_file_larger_than_a_mebibyte_is_refused() -> None:
    text = "a: 1\n" + "#" * (1 << 20)
    assert one_problem(text) == "policy.yaml: is larger than 1 MiB, the limit for a policy file"


def test_a_byte_order_mark_is_named_with_the_remedy() -> None:
    message = "policy.yaml:1:1: starts with a byte-order mark (BOM): save it as UTF-8 without BOM"
    assert one_problem("\ufeffftcheck: 1\n") == message


def test_utf_16_is_named() -> None:
    assert one_problem("ftcheck: 1\n".encode("utf-16")) == "policy.yaml:1:1: is UTF-16: save it as UTF-8"


def test_bytes_that_are_not_utf_8_are_named_with_offset_and_line() -> None:
    message = "policy.yaml:2:10: is not UTF-8: byte 0xe9 at offset 20; save it as UTF-8"
    assert one_problem(b"ftcheck: 1\nname: caf\xe9\n") == message


def test_a_tab_in_the_indentation_is_named() -> None:
    message = "policy.yaml:2:1: tab used for indentation: indent with spaces"
    assert one_problem("jobs:\n\tmapper: {}\n") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: [1\nb: 2",
            "2:2: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence, "
            "started on line 1)",
        ),
        (
            "a: b: c",
            "1:5: unexpected ':': check the indentation, or quote a text that contains ': '",
        ),
        ("a: @b", "1:4: not valid YAML: a value cannot start with '@'; put the text in quotes"),
        ("a: [*::b]", "1:5: undefined alias '*::b'; put a text that starts with '*' in quotes"),
        (
            "  a: 1\nb: 2",
            "2:1: not valid YAML: indented less than the first key, or after the end of the document",
        ),
        ("a: \x00", "1:4: control character U+0000 is not allowed"),
        ("%YAML 1.1\n---\na: on", "1:1: a directive (%) is not supported: remove the line"),
        ("a: 1\n---\nb: 2", "2:1: a second document starts here: a policy is a single YAML document"),
        ("- a\n- b", "1:1: must be a mapping of keys to values, not a list"),
        ("a", "1:1: must be a mapping of keys to values, not one value"),
        ("a: 1\nb: 2\na: 3", "3:1: a: duplicate key 'a', on lines 1 and 3"),
        ("a:\n  b: 1\n  'b': 2", "3:3: a.b: duplicate key 'b', on lines 2 and 3"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "1:4: a: the tag '!!python/object/apply:os.system' is not allowed: a policy is plain data",
        ),
        ("a: !mine {}", "1:4: a: the tag '!mine' is not allowed: a policy is plain data"),
        ("a: !!binary aGk=", "1:4: a: the tag '!!binary' is not allowed: a policy is plain data"),
        ("a: !!int twelve", "1:4: a: 'twelve' cannot be read as int"),
        ("1: a", "1:1: the key 1 is not text: put it in quotes"),
        ("null: a", "1:1: the key null is not text: put it in quotes"),
        ("? [a]\n: b", "1:3: a key must be text, not a list or a mapping"),
        (
            "a: &a {b: 1}\nc: {<<: *a}",
            "2:5: c: merge keys (<<) are not supported: use 'defaults' or 'extends'",
        ),
        ("a: .nan", "1:4: a: .nan is not a finite number (quote it if it is text)"),
        ("a: -.inf", "1:4: a: -.inf is not a finite number (quote it if it is text)"),
        ("a: 12e4567", "1:4: a: 12e4567 is not a finite number (quote it if it is text)"),
        ("a: 99999999999999999999", "1:4: a: the number is too large (quote it if it is text)"),
        ('a: "\\ud800"', "1:4: a: contains half a character (a lone surrogate)"),
        ("a: " + "[" * 60 + "]" * 60, "1:53: is nested deeper than 50 levels"),
        ("a: &a [*a]", "1:4: is nested deeper than 50 levels (an alias in itself?)"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_at_its_place(text: str, message: str) -> None:
    assert one_problem(text) == f"policy.yaml:{message}"


def test_aliases_that_blow_up_are_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert (
        one_problem("\n".join(rows)) == "policy.yaml:1:37: more than 10,000 values, with aliases written out"
    )


@pytest.mark.parametrize("text", ["[" * 500_000, "a:\n" + "".join(f" k{n}: v\n" for n in range(80_000))])
def test_a_hostile_file_is_refused_without_being_read_whole(text: str) -> None:
    with bounded_cpu():
        message = one_problem(text)

    assert "is nested deeper than 50 levels" in message or "more than 10,000 values" in message


def test_several_problems_are_all_reported() -> None:
    _, problems = document.read(write("policy.yaml", "1: a\nb: .nan\nb: 2\n"), "policy.yaml")
    assert [str(problem) for problem in problems] == [
        "policy.yaml:1:1: the key 1 is not text: put it in quotes",
        "policy.yaml:2:4: b: .nan is not a finite number (quote it if it is text)",
        "policy.yaml:3:1: b: duplicate key 'b', on lines 2 and 3",
    ]


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "a: 1e-5\nb: 2.0E-4\nc: 08\nd: on\ne: yes\nf: 0o17\ng: true\nh: ~\ni: '1'\nj: 12:30\nk: 1_000\n"
    values = {"a": 1e-5, "b": 2e-4, "c": 8, "d": "on", "e": "yes", "f": 15, "g": True, "h": None}
    assert tree_of(text) == values | {"i": "1", "j": "12:30", "k": 1000}


def test_a_date_stays_the_text_it_is() -> None:
    assert tree_of("a: 2026-12-31\nb: 2026-13-45\n") == {"a": "2026-12-31", "b": "2026-13-45"}


def test_anchors_and_aliases_are_allowed() -> None:
    assert tree_of("a: &x [1, 2]\nb: *x\nc: &x 3\n") == {"a": [1, 2], "b": [1, 2], "c": 3}


def test_keys_and_values_keep_their_places() -> None:
    tree, _ = document.read(write("policy.yaml", "jobs:\n  a:\n    b: [1, {c: 2}]\n"), "policy.yaml")

    assert tree is not None
    node = find(tree, ("jobs", "a", "b", 1, "c"))
    assert node is not None
    assert node.at == Location("policy.yaml", 3, 16, "jobs.a.b.1.c")
    assert node.key == Location("policy.yaml", 3, 13, "jobs.a.b.1.c")


def test_windows_line_ends_are_read_with_the_same_places() -> None:
    found = read("ftcheck: 1\r\njobs:\r\n  a:\r\n    model: {name: m}\r\n    trainin: {}\r\n")
    assert said(found) == ["policy.yaml:5:5: jobs.a.trainin: unknown key 'trainin'; did you mean 'training'?"]


def test_a_yaml_reader_is_made_for_a_document_not_for_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(**options: Any) -> YAML:
        made.append(options)
        return YAML(**options)

    monkeypatch.setattr(document, "YAML", counted)

    assert tree_of(f"a: [{', '.join(map(str, range(500)))}]\n") == {"a": list(range(500))}
    assert len(made) <= 2


def test_a_value_that_cannot_be_read_is_named_at_its_aliases_too() -> None:
    _, problems = document.read(write("policy.yaml", "a: &x !!int zz\nb: *x\n"), "policy.yaml")

    assert [problem.message for problem in problems] == ["'zz' cannot be read as int"] * 2
