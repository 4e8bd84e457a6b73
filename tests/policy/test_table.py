"""The table of trainer arguments, held against the settings and against the installed libraries."""

from dataclasses import MISSING, fields
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.field_metadata import LibraryKeys, Mark, having, marked
from ftcheck.policy.extra_keys import fields as settings_of
from ftcheck.policy.extra_keys import section_of, sections
from ftcheck.policy.table import section
from ftcheck.settings import JobSettings, Training

SECTIONS = [owner for owner in sections(JobSettings).values() if having(owner, LibraryKeys)]


def of_library(owner: type[Any]) -> set[str]:
    """The settings that are keys of the library too."""
    return {name for name, kind in settings_of(owner).items() if section_of(kind) is None} - marked(
        owner, Mark.OWN
    )


@pytest.mark.parametrize("owner", SECTIONS)
def test_every_key_of_the_settings_is_one_of_the_library(owner: type[Any]) -> None:
    known = section(owner)
    assert known is not None
    assert of_library(owner) <= set(known.fields)


@pytest.mark.parametrize("owner", SECTIONS)
def test_defaults_of_the_settings_are_those_of_the_library(owner: type[Any]) -> None:
    known = section(owner)
    assert known is not None
    for field in fields(owner):
        if field.name in of_library(owner) and field.default not in (MISSING, None):
            assert field.default == known.fields[field.name]["default"], field.name


@pytest.mark.parametrize("owner", SECTIONS)
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
