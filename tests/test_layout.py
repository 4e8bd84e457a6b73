"""The plan of the house: tests mirror the modules, few entries at the top, one concept a file name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

import pytest

from tests.imports import PACKAGES, file_of, modules

MOST_ENTRIES = 39
"""In `ftcheck/`, without what Python leaves there."""

MIRRORED = {
    "plugins": "ftcheck_plugins",
    "rules": "ftcheck_rules",
    "trainers": "ftcheck_trainers",
    "": "ftcheck",
}
"""Folder of tests -> the package that it mirrors; the host's stand in no folder of their own."""

SCENARIOS = (
    # of the project itself
    "test_commands.py",
    "test_docs.py",
    "test_imports.py",
    "test_installed_plugin.py",
    "test_layout.py",
    "test_packaging.py",
    "test_startup.py",
    "test_types.py",
    "policies/test_samples.py",
    # the templates for CI, containers and editors
    "ci/test_action.py",
    "ci/test_container.py",
    "ci/test_gitlab.py",
    "ci/test_pre_commit.py",
    "ci/test_yaml_language_server.py",
    # the documentation site
    "docs/test_newcomer.py",
    "docs/test_pages.py",
    "docs/test_picture.py",
    "docs/test_reference.py",
    "docs/test_same.py",
    # real configurations of other frameworks, against what was worked out by hand
    "importers/test_expected.py",
    # a signed report: attacks on it, and all that asks for it
    "attest/test_required.py",
    "attest/test_tampering.py",
    # whole runs of the command line
    "cli/test_boundary.py",
    "cli/test_cases_answers.py",
    "cli/test_cases_fail.py",
    "cli/test_cases_nulls.py",
    "cli/test_cases_read.py",
    "cli/test_cases_reasoning.py",
    "cli/test_cases_serve.py",
    "cli/test_cases_tools.py",
    "cli/test_clear_ends.py",
    "cli/test_content.py",
    "cli/test_export_ids.py",
    "cli/test_fix_rows.py",
    "cli/test_formats.py",
    "cli/test_from.py",
    "cli/test_hostile.py",
    "cli/test_light.py",
    "cli/test_memory_unknown.py",
    "cli/test_morning_after.py",
    "cli/test_never_green_by_silence.py",
    "cli/test_night_before.py",
    "cli/test_overlap.py",
    "cli/test_quiet.py",
    "cli/test_selftest.py",
    "cli/test_story.py",
    "cli/test_trained_calls.py",
    # pages of every kind in a real browser
    "browser/test_pages.py",
    "browser/test_speed.py",
    # planted faults and healthy jobs, against all rules
    "mutants/test_mutants.py",
    "fix/test_property.py",
    "plugins/reading/test_differential.py",
    "faults/test_clean.py",
    "faults/test_clean_reasoning.py",
    "faults/test_clean_tools.py",
    "faults/test_tools.py",
    "faults/test_faults.py",
    # rows prepared on a Ray cluster
    "ray/test_connection.py",
    "ray/test_data_pipeline.py",
    "ray/test_engine.py",
    "ray/test_object_storage.py",
    "ray/test_token_shards.py",
    # whole paths through a package
    "cli/test_prepared.py",
    "plugins/guard/test_litellm.py",
    "plugins/preparation/test_against_trl.py",
    "plugins/preparation/test_sample.py",
    "sampling/test_coverage.py",
    "plugins/reading/test_hostile_data.py",
    "trainers/test_own_script.py",
    "trainers/test_processes.py",
    "trainers/test_resume.py",
    "trainers/test_synchronisation.py",
)
"""Tests of many modules at once. Every other file is named after the module that it tests."""

CONCEPTS = {
    "arguments.py": "the arguments of TRL's trainer: checked, and made",
    "arrow_nulls.py": "keys that Arrow fills: the input, what drops them from rows, and the rule",
    "baseline.py": "the base model's answers: the input, and what opens it",
    "benchmarks.py": "benchmark questions: the input, and what reads them",
    "cache.py": "the cache of earlier runs, and its command",
    "config.py": "a configuration file: the training's that a plan writes, the model's that a loader reads",
    "disk.py": "disk space: the estimate, and the rule",
    "dry_save.py": "saving before training: the input, what tries it, and the rule",
    "frameworks.py": "other frameworks: what their programs take, and what starts them",
    "waivers.py": "waivers: which findings they cover, and their section of the page",
    "loaded.py": "a data set as the trainer loads it: the input, and what reads it",
    "packed_batch.py": "a packed batch: the input, and what tries it",
    "row_texts.py": "the texts of a row: the input, and what takes them",
    "during_checks.py": "checks of stage during: their state, and the trainer's callback",
    "endpoint.py": "the served model's endpoint: the input, and what asks it",
    "environment.py": "the process's environment: the input, and what reads it",
    "evaluation.py": "gold questions: the input, and the rules",
    "export.py": "the proxy's configuration: the command, and what writes it",
    "gold.py": "the gold set: what reads it, and the rules",
    "hub.py": "the model's repository on the hub: what asks it, and the rules",
    "lengths.py": "lengths of rows: their statistics, the plan's part, and the rules",
    "load_test.py": "a load test's results: the input, what reads them, and the rules",
    "lock.py": "the lock beside a policy: what it is, its command, and what finds it",
    "machine.py": "this machine: the input, what looks at it, and the rules",
    "monitor.py": "a run that goes on, as its user sees it: the view, and the command",
    "options.py": "what the command line asks for: the options as click has them, and as a run gets them",
    "output_schema.py": "the schema of answers: the input, and what reads it",
    "packing.py": "packing: the plan's part, and the rules",
    "paths.py": "paths that a policy states: made absolute, and resolved to files",
    "plan.py": "a plan before anything runs: of checks, and of a training (the command)",
    "plugin.py": "what a distribution offers to ftcheck",
    "probe.py": "real steps before the training: the input, the plan's part, and the trainer's",
    "records.py": "the frozen records of a package",
    "role_tokens.py": "tokens by role: the input, and what counts them",
    "tool_calls.py": "tool calls of a row: what they are, and the rule",
    "tool_rendering.py": "tools as a template renders them: how they are found again, and in which rows",
    "rules.py": "rules: what one is, and the commands that list and explain them",
    "run.py": "the checks of a policy, run: by their command, and again and again by a fix",
    "run_folder.py": "a run's folder: its files, what writes them, and what opens them",
    "sampled.py": "a sample of a job's rows: what reads it, and what gate, plan, report and trainer say",
    "search.py": "a search for settings that hold: for a plan, and for a fix",
    "show.py": "text for the screen: a merged policy, and a row",
    "templates.py": "chat templates: which one is trained with, and the rules",
    "tokenizer.py": "the tokenizer: the input, and what opens it",
}
"""File names that occur in two packages, and the one concept that they share."""


def wanted(test: PurePath) -> tuple[str, ...]:
    """The modules that a test file (below `tests/`) may be named after: one, or its folder's package."""
    first, *rest = test.parts
    package = MIRRORED.get(first, MIRRORED[""])
    folders = (rest if first in MIRRORED else list(test.parts))[:-1]
    name = test.stem.removeprefix("test_")
    of_package = [".".join([package, *folders])] if folders and folders[-1] == name else []
    return (".".join([package, *folders, name]), *of_package)


def astray(tests: Iterable[PurePath], known: Iterable[str]) -> list[str]:
    """Test files that are named after no module and are not listed, and listed ones without need."""
    here, names = list(tests), set(known)
    lost = [test for test in here if not names & set(wanted(test))]
    said = [f"{one}: there is no {wanted(one)[0]}" for one in lost if str(one) not in SCENARIOS]
    return said + [f"{one} is in SCENARIOS without need" for one in SCENARIOS if PurePath(one) not in lost]


def doubles(known: Iterable[str]) -> Mapping[str, list[str]]:
    """File names that occur more than once, with the modules. A rule's cases bear the rule's name."""
    found = defaultdict(list)
    for module in known:
        path = file_of(module)
        if path.name != "__init__.py" and path.parent.name != "cases":
            found[path.name].append(module)
    return {name: those for name, those in sorted(found.items()) if len(those) > 1}


def test_every_test_file_is_named_after_its_module() -> None:
    here = Path(__file__).parent
    assert astray([path.relative_to(here) for path in here.rglob("test_*.py")], modules()) == []


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("fix/test_finding.py", "fix/test_finding.py: there is no ftcheck.fix.finding"),
        ("rules/data/test_overlap.py", "there is no ftcheck_rules.data.overlap"),
        ("trainers/test_feed.py", "there is no ftcheck_trainers.feed"),
        ("test_gates.py", "there is no ftcheck.gates"),
    ],
)
def test_a_file_that_is_named_after_nothing_is_named(planted: str, said: str) -> None:
    [found] = astray([PurePath(planted), *map(PurePath, SCENARIOS)], modules())

    assert said in found


def test_a_scenario_that_is_gone_or_has_its_module_is_named() -> None:
    gone, *others = map(PurePath, SCENARIOS)

    assert astray(others, []) == [f"{gone} is in SCENARIOS without need"]
    assert astray([gone, *others], [wanted(gone)[0]]) == [f"{gone} is in SCENARIOS without need"]


def test_the_top_of_the_host_package_can_be_taken_in_at_a_glance() -> None:
    entries = {path.name for path in PACKAGES["ftcheck"].iterdir()} - {"__pycache__"}

    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_a_file_name_in_two_packages_is_one_concept() -> None:
    found = doubles(modules())

    assert {name: those for name, those in found.items() if name not in CONCEPTS} == {}
    assert set(CONCEPTS) - set(found) == set(), "these occur once: take them out"


def test_a_new_double_is_seen() -> None:
    planted = [*modules(), "ftcheck.fix.fingerprints"]

    assert "fingerprints.py" in doubles(planted)
    assert "__init__.py" not in doubles(planted)


def test_every_package_is_mirrored() -> None:
    assert set(MIRRORED.values()) == set(PACKAGES)
