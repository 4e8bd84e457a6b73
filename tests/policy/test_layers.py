"""Presets and files that a policy extends, `defaults`, and checks that are taken out."""

from pathlib import Path

from ftcheck.policy import presets as shipped
from ftcheck.policy.nodes import find, plain
from ftcheck.records import Location
from tests.places import POLICIES
from tests.policy.kit import HEAD, presets, read, said, write


def test_mappings_are_merged_deep_and_lists_replaced() -> None:
    presets(low="ftcheck: 1\nchecks:\n  duplicates: {tags: [a, b], severity: error}\n")

    found = read(HEAD + "extends: [low]\nchecks:\n  duplicates: {tags: [c]}\n")

    assert said(found) == []
    assert found.policy is not None
    check = found.policy.checks["duplicates"]
    assert (check.tags, check.severity) == (("c",), "error")


def test_later_entries_lie_on_earlier_ones_and_the_policy_on_top() -> None:
    presets(one="gate: {max_age: 1h, fail_on: info}\n", two="gate: {max_age: 2h}\n")

    found = read(HEAD + "extends: [one, two]\n")

    assert found.policy is not None
    assert (found.policy.gate.max_age, found.policy.gate.fail_on) == ("2h", "info")


def test_a_policy_inherits_the_stage_but_not_the_name() -> None:
    presets(low="ftcheck: 1\nname: low\nstage: after\n")

    found = read(HEAD + "extends: [low]\n")

    assert found.policy is not None
    assert (found.policy.name, found.policy.stage) == ("policy", "after")


def test_values_keep_their_origin_through_merging() -> None:
    presets(low="ftcheck: 1\ngate:\n  max_age: 1h\n")

    found = read(HEAD + "extends: [low.yaml]\ngate:\n  fail_on: info\n")

    assert found.policy is not None
    assert found.policy.places["gate.max_age"] == Location("presets/low.yaml", 3, 12)
    assert found.policy.places["gate.fail_on"] == Location("policy.yaml", 7, 12)
    assert found.policy.at("gate.require") == Location("policy.yaml", 6, 1, "gate.require")


def test_paths_are_relative_to_the_file_that_extends() -> None:
    write("shared/base.yaml", "extends: [./more.yaml]\n")
    write("shared/more.yaml", "gate: {max_age: 3h}\n")

    found = read(HEAD + "extends: [shared/base.yaml]\n")

    assert found.policy is not None
    assert found.policy.gate.max_age == "3h"
    assert list(found.files) == ["shared/more.yaml", "shared/base.yaml", "policy.yaml"]


def test_a_file_beside_the_policy_wins_over_a_preset_if_its_suffix_is_written() -> None:
    presets(low="gate: {max_age: 1h}\n")
    write("low.yaml", "gate: {max_age: 2h}\n")

    by_file, by_name = read(HEAD + "extends: [low.yaml]\n"), read(HEAD + "extends: [low]\n")

    assert by_file.policy is not None
    assert by_name.policy is not None
    assert (by_file.policy.gate.max_age, by_name.policy.gate.max_age) == ("2h", "1h")


def test_an_unknown_preset_is_named_with_what_was_meant_and_what_there_is() -> None:
    presets(recommended="ftcheck: 1\n", strict="ftcheck: 1\n")
    assert said(read(HEAD + "extends: [recomended]\n")) == [
        "policy.yaml:5:11: extends.0: unknown preset 'recomended'; did you mean 'recommended'? "
        "(available: recommended, strict)"
    ]


def test_a_bare_name_that_is_a_file_beside_the_policy_is_explained() -> None:
    write("mine.yaml", "ftcheck: 1\n")
    assert said(read(HEAD + "extends: [mine]\n")) == [
        "policy.yaml:5:11: extends.0: unknown preset 'mine'; write './mine.yaml' for the"
        " file next to this one"
    ]


def test_a_missing_file_is_named_at_the_entry() -> None:
    found = read(HEAD + "extends: [../up/base.yaml]\n")
    assert said(found) == [f"policy.yaml:5:11: extends.0: no such file: {Path.cwd().parent}/up/base.yaml"]


def test_a_circle_is_named_with_its_chain() -> None:
    write("a.yaml", "extends: [b.yaml]\n")
    write("b.yaml", "extends: [a.yaml]\n")
    assert said(read(HEAD + "extends: [a.yaml]\n")) == [
        "b.yaml:1:11: extends.0: circular 'extends': a.yaml -> b.yaml -> a.yaml"
    ]


def test_a_policy_that_extends_itself_is_a_circle() -> None:
    assert said(read(HEAD + "extends: [policy.yaml]\n")) == [
        "policy.yaml:5:11: extends.0: circular 'extends': policy.yaml -> policy.yaml"
    ]


def test_the_same_file_twice_is_no_circle() -> None:
    presets(one="extends: [base]\n", two="extends: [base]\n", base="gate: {max_age: 9h}\n")

    found = read(HEAD + "extends: [one, two]\n")

    assert found.policy is not None
    assert found.policy.gate.max_age == "9h"


def test_a_flood_of_files_is_stopped() -> None:
    presets(**{f"p{n}": f"extends: [p{n + 1}, p{n + 1}]\n" for n in range(20)}, p20="ftcheck: 1\n")

    messages = said(read(HEAD + "extends: [p0]\n"))

    assert messages
    assert all(message.endswith("reads more than 100 files") for message in messages)


def test_extends_must_be_a_list() -> None:
    assert said(read(HEAD + "extends: low\n")) == [
        "policy.yaml:5:10: extends: must be a list of presets and paths, not the text 'low'; write [low]"
    ]
    assert said(read(HEAD + "extends: [1]\n")) == [
        "policy.yaml:5:11: extends.0: must be text, not 1; put it in quotes"
    ]


def test_problems_of_an_extended_file_are_reported_there_and_nothing_is_called_missing() -> None:
    write("base.yaml", "jobs:\n\tmapper: {}\n")

    found = read("ftcheck: 1\nextends: [base.yaml]\njobs:\n  mapper:\n    trainin: {}\n")

    assert said(found) == [
        "base.yaml:2:1: tab used for indentation: indent with spaces",
        "policy.yaml:5:5: jobs.mapper.trainin: unknown key 'trainin'; did you mean 'training'?",
    ]


def test_jobs_may_come_from_an_extended_file() -> None:
    write("base.yaml", HEAD + "    training: {max_length: 768}\n")

    found = read("ftcheck: 1\nextends: [base.yaml]\njobs:\n  mapper:\n    training: {packing: true}\n")

    assert found.policy is not None
    training = found.policy.jobs["mapper"].training
    assert (training.max_length, training.packing) == (768, True)


def test_the_policy_itself_must_say_its_version() -> None:
    presets(low="ftcheck: 1\n")
    text = "extends: [low]\n" + HEAD.removeprefix("ftcheck: 1\n")
    assert said(read(text)) == ["policy.yaml:1:1: missing key 'ftcheck': a policy starts with 'ftcheck: 1'"]


def test_defaults_lie_under_every_job_and_keep_their_place() -> None:
    text = "ftcheck: 1\ndefaults:\n  training: {max_length: 8, seed: 1}\njobs:\n"
    text += "  a: {model: {name: m}}\n  b:\n    model: {name: m}\n    training: {max_length: 9}\n"

    found = read(text)

    assert found.policy is not None
    a, b = found.policy.jobs["a"], found.policy.jobs["b"]
    assert (a.training.max_length, b.training.max_length, b.training.seed) == (8, 9, 1)
    assert a.places["training.max_length"] == Location("policy.yaml", 3, 26)
    assert b.places["training.max_length"] == Location("policy.yaml", 8, 28)


def test_a_problem_in_defaults_is_reported_once() -> None:
    jobs = "jobs:\n  a: {model: {name: m}}\n  b: {model: {name: m}}\n"
    text = "ftcheck: 1\ndefaults: {training: {max_lenght: 8}}\n" + jobs
    assert said(read(text)) == [
        "policy.yaml:2:23: defaults.training.max_lenght: unknown key 'max_lenght'; did you mean 'max_length'?"
    ]


def test_false_takes_a_check_out_and_the_draft_remembers() -> None:
    presets(low="checks: {duplicates: {severity: error}, lengths: }\n")

    found = read(HEAD + "extends: [low]\nchecks: {duplicates: false}\n")

    assert found.policy is not None
    assert list(found.policy.checks) == ["lengths"]
    assert found.policy.removed == found.removed == ("duplicates",)


def test_a_check_with_nothing_after_its_name_keeps_what_a_preset_says() -> None:
    presets(low="checks: {duplicates: {severity: warning}}\n")

    found = read(HEAD + "extends: [low]\nchecks:\n  duplicates:\n  lengths:\n")

    assert found.policy is not None
    assert found.policy.checks["duplicates"].severity == "warning"
    assert found.policy.checks["lengths"].params == {}


def test_an_empty_section_says_nothing_and_null_is_a_value_where_it_can_be_one() -> None:
    write("base.yaml", HEAD + "    training: {seed: 7, lora: {r: 4}}\n    serving:\n")

    found = read(
        "ftcheck: 1\nextends: [base.yaml]\njobs:\n  mapper:\n    training: {lora: null}\n    data:\ngate:\n"
    )

    assert found.policy is not None
    training = found.policy.jobs["mapper"].training
    assert (training.seed, training.lora) == (7, None)


def test_plugins_are_known_even_where_the_policy_is_wrong() -> None:
    found = read("plugins: [mine, 5]\nnonsense: 1\n")
    assert found.policy is None
    assert found.plugins == ("mine",)


def test_the_merged_tree_holds_defaults_in_the_jobs() -> None:
    found = read("ftcheck: 1\ndefaults: {run: out}\njobs: {a: {model: {name: m}}}\n")
    assert found.tree is not None
    assert "defaults" not in found.tree.items
    run = find(found.tree, ("jobs", "a", "run"))
    assert run is not None
    assert plain(run) == "out"


def test_presets_are_the_yaml_files_of_the_shipped_folder() -> None:
    folder = presets(low="ftcheck: 1\n", high="ftcheck: 1\n")
    write("presets/notes.txt", "")
    write("presets/samples/deep.yaml", "")

    assert shipped.names(folder) == ("high", "low")
    assert shipped.find("low", folder) == shipped.find("low.yaml", folder) == Path("presets/low.yaml")
    assert shipped.find("samples/deep", folder) is None
    assert shipped.folder() == POLICIES
