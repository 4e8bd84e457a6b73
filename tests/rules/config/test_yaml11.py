from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.config.yaml11 import (
    CLOCK,
    FLOAT,
    INTEGER,
    LIMIT,
    dotted,
    misread,
    sexagesimal,
)

yaml = pytest.importorskip("yaml")

SCALARS = (
    *("1e-5", "2e-4", "5E-5", "1.0e-5", "1.e-5", "1.0e5", "1.0e+5", "1e5", ".5e-3", "-1e-5", "+1.5", "1_000"),
    *("08", "09", "010", "0", "007", "0x1F", "0b11", "0o10", "1.5", ".5", "5.", "-3", "12", "1__0", "0.5.1"),
    *("12:30", "1:99", "22:22:22", "1:30.5", "08:30", ".inf", "nan", ".nan", "abc", "1e", "e5", "10m", "-"),
)


@pytest.mark.parametrize("value", SCALARS)
def test_numbers_are_those_of_pyyaml(value: str) -> None:
    read = yaml.safe_load(f"key: {value}")["key"] if value != "-" else "-"
    number = isinstance(read, int | float) and not isinstance(read, bool)
    assert bool(FLOAT.fullmatch(value) or INTEGER.fullmatch(value)) is number


def said(tmp_path: Path, text: str | bytes) -> list[tuple[int, int, str, str, bool]]:
    path = tmp_path / "a.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [(one.line, one.column, one.message, one.fix, one.certain) for one in misread(path)]


def test_an_exponent_without_a_dot_is_found_at_its_line_with_what_to_write(tmp_path: Path) -> None:
    assert said(tmp_path, "model: x\noptimizer:\n  learning_rate: 1e-5\n") == [
        (3, 18, "learning_rate: 1e-5 is read by PyYAML as a text, not a number", "write 1.0e-5", True)
    ]


@pytest.mark.parametrize("value", ["1e-5", "2E4", "1.5e4", "-3e-4", ".5e3"])
def test_what_is_to_be_written_is_the_same_number_to_pyyaml(value: str) -> None:
    assert yaml.safe_load(dotted(value)) == float(value)


@pytest.mark.parametrize("value", ["12:30", "1:0:0", "-1:30", "1:30.5"])
def test_base_sixty_is_reckoned_as_pyyaml_does(value: str) -> None:
    assert CLOCK.fullmatch(value)
    assert sexagesimal(value) == yaml.safe_load(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: 08", "seed: 08 is read by PyYAML as a text, not a number"),
        ("eval_at: 12:30", "eval_at: 12:30 is read by PyYAML as 750 (base 60)"),
        ("rank: 010", "rank: 010 is read by PyYAML as 8 (octal)"),
        ("on: push", "PyYAML reads the key on as true"),
        ("eval_strategy: no", "eval_strategy: no is read by PyYAML as false, not a text"),
        ("rates: [1.0, 08]", "rates: 08 is read by PyYAML as a text, not a number"),
    ],
)
def test_what_may_have_been_meant_is_not_certain(tmp_path: Path, line: str, message: str) -> None:
    [found] = said(tmp_path, line)
    assert (found[2], found[4]) == (message, False)


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate: 1.0e-5",
        "learning_rate: '1e-5'",
        'name: "08"',
        "name: '12:30'",
        "text: |\n  1e-5\n",
        "rate: !!str 1e-5",
        "bf16: yes\ntf32: on",
        "size: 0\nseed: 42\nshare: .5",
        "name: v1e5\nid: 2024-01-05\nrun: 8b-e5",
        "a: &x {b: 1.5}\nc: *x\nd: {on_step: 2}",
        "a: 0x10\nb: 1_000",
        "",
        "# nothing\n",
    ],
)
def test_what_is_read_as_it_looks_is_not_flagged(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text) == []


def test_keys_and_values_are_not_mixed_up_after_lists_and_aliases(tmp_path: Path) -> None:
    text = "a: &x [1, {k: v}]\nb: *x\n? [p, q]\n: c\nd: 1e-5\n"
    assert [(one[0], one[2].split(":")[0]) for one in said(tmp_path, text)] == [(5, "d")]


def test_several_documents_are_all_read(tmp_path: Path) -> None:
    assert [one[0] for one in said(tmp_path, "a: 1e-5\n---\nb: 2e-5\n")] == [1, 3]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [1, 2\n", 3), ("a: b: c\n", 1), (b"a: \xff\xfe\n", 1), ("a: 1\n\tb: 2\n", 2)],
)
def test_a_file_that_is_no_yaml_is_said_at_its_line(tmp_path: Path, text: Any, line: int) -> None:
    found = said(tmp_path, text)
    assert len(found) == 1
    assert found[0][0] == line
    assert found[0][2].startswith(("not valid YAML", "not UTF-8"))


def test_deep_nesting_and_alias_bombs_do_no_harm(tmp_path: Path) -> None:
    [found] = said(tmp_path, "a: " + "[" * 5000 + "]" * 5000)
    assert found[2] == "more than 50 levels deep"
    bomb = "a: &a [1e-5, 1]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a, *a]\n" for n in range(30))
    assert len(said(tmp_path, bomb)) == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    [found] = said(tmp_path, b"a: 1e-5\n" * (LIMIT // 8 + 1))
    assert found[2].startswith("larger than 64 KiB")
