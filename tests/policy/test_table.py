"""The table of trainer arguments, held against the settings and against the installed libraries."""

from dataclasses import MISSING, fields
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.policy.table import SECTIONS, section
from ftcheck.settings import Training

OWN = {"packing_planner", "lora", "quantization", "extra"}


@pytest.mark.parametrize("owner", list(SECTIONS))
def test_every_key_of_the_settings_is_one_of_the_library(owner: type[Any]) -> None:
    known = section(owner)
    assert known is not None
    assert {field.name for field in fields(owner)} - OWN <= set(known.fields)


@pytest.mark.parametrize("owner", list(SECTIONS))
def test_defaults_of_the_settings_are_those_of_the_library(owner: type[Any]) -> None:
    known = section(owner)
    assert known is not None
    for field in fields(owner):
        if field.name not in OWN and field.default not in (MISSING, None):
            assert field.default == known.fields[field.name]["default"], field.name


@pytest.mark.parametrize("owner", list(SECTIONS))
def test_what_was_removed_is_no_field_any_more(owner: type[Any]) -> None:
    known = section(owner)
    assert known is not None
    assert not set(known.removed) & set(known.fields)
    assert not set(known.removed) & {field.name for field in fields(owner)}
    assert set(known.elsewhere) <= set(known.fields)


def test_a_section_that_is_no_librarys_has_no_table() -> None:
    assert section(type(Training())) is not None
    assert section(int) is None


def test_the_table_is_dated() -> None:
    table = tables.load("trainer_arguments")
    assert set(table["versions"]) == {"bitsandbytes", "peft", "transformers", "trl"}
    assert table["as_of"] >= "2026-11-22"
    assert "ftcheck_trainers.arguments_table" in table["source"]


@pytest.mark.filterwarnings("ignore")
def test_the_table_says_what_the_installed_libraries_accept() -> None:
    pytest.importorskip("trl")
    pytest.importorskip("bitsandbytes")
    from ftcheck_trainers.arguments_table import make_table

    made = make_table()

    hint = "run: python -m ftcheck_trainers.arguments_table"
    assert made["sections"] == tables.load("trainer_arguments")["sections"], hint
