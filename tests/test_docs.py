"""The documents say what the code does: README, help texts, rules, hooks."""

import re
from pathlib import PurePath

import pytest
from click.testing import CliRunner

from ftcheck.cli import COMMANDS, app
from ftcheck.extension import hookspecs
from ftcheck.extension.plugin_host import make_host
from ftcheck.policy import describe_params
from ftcheck.tables.failures import catalogue
from tests.places import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
RULES = sorted(make_host().rules)


@pytest.mark.parametrize("rule_id", RULES)
def test_every_rule_says_what_holds_why_how_and_what_its_parameters_mean(rule_id: str) -> None:
    rule = make_host().rules[rule_id]

    assert rule.summary.endswith(".")
    assert len(rule.why) > 40
    assert len(rule.detail) > 40
    assert all(parameter.help for parameter in describe_params(rule))


def test_the_readme_is_short_and_links_to_every_section_of_the_site() -> None:
    linked = set(re.findall(r"\]\((docs/[\w/.-]+)\)", README))

    assert len(README.splitlines()) <= 150
    assert [one for one in linked if not (CHECKOUT / one).exists()] == []
    assert {one.parent.name for one in map(PurePath, linked)} >= {"guides", "how", "extend", "img"}


def test_the_readme_counts_the_catalogue_as_it_is() -> None:
    assert f"a catalogue of {len(catalogue())} failures" in README


@pytest.mark.parametrize(
    "source",
    [
        "sample_plugin/ftcheck_sample/__init__.py",
        "sample_plugin/pyproject.toml",
        "sample_rules/ticket_numbers.py",
    ],
)
def test_the_site_shows_the_samples_as_they_are(source: str) -> None:
    page = (CHECKOUT / "docs" / "extend" / "rule.md").read_text(encoding="utf-8")

    assert f'--8<-- "tests/{source}"' in page
    assert (CHECKOUT / "tests" / source).is_file()


def test_ci_runs_the_readmes_second_command() -> None:
    [command] = re.findall(r"^python3 -m venv .*\[train,fast,guard,dev\].*$", README, re.MULTILINE)

    assert "pytest" in command
    assert "README.md" in (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", [name for name in dir(hookspecs) if name.startswith("ftcheck_")])
def test_every_hook_is_documented_and_annotated(hook: str) -> None:
    function = getattr(hookspecs, hook)

    assert function.__doc__
    assert "return" in function.__annotations__


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_its_help(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"])

    assert said.exit_code == 0
    assert len(said.output.splitlines()) > 4


def test_places_that_speak_of_commands_speak_of_those_there_are() -> None:
    for path in [
        p for folder in ("ftcheck", "rules", "plugins", "trainers") for p in (CHECKOUT / folder).rglob("*.py")
    ]:
        for command in re.findall(r"`ftcheck ([a-z]+)\b", path.read_text(encoding="utf-8")):
            assert command in COMMANDS or command in ("plan",), f"{path}: ftcheck {command}"


CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGES = (
    "output format",
    "a GPU",
    "data format",
    "rule with a parameter",
    "TRL's truncation",
    "max_age",
    "exit codes",
    "training argument that TRL renamed",
    "template probe",
    "worker's timeouts",
    "serving engine",
    "MoE",
    "flag of `plan`",
    "what is cached",
    "how `fix` edits YAML",
)
"""Ordinary changes whose place a newcomer must find in one line."""


@pytest.mark.parametrize("change", CHANGES)
def test_contributing_names_the_place_of_an_ordinary_change(change: str) -> None:
    [row] = [line for line in CONTRIBUTING.splitlines() if line.startswith("|") and change in line]

    assert re.search(r"`[a-z_]+/[a-z_./]+`", row)


def test_every_path_that_contributing_names_exists() -> None:
    named = re.findall(r"`((?:ftcheck|rules|plugins|trainers|tests)/[\w./-]*)`", CONTRIBUTING)

    assert len(named) > 30
    assert [path for path in named if not (CHECKOUT / path).exists()] == []
