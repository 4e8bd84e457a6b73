"""`policy show`: the merged policy as YAML that reads back as itself, with origins on demand."""

from ftcheck.policy import document, draft, show
from ftcheck.policy.nodes import plain
from tests.policy.kit import HEAD, job, presets, read, write

TEXT = (
    job("training: {learning_rate: 1e-5, packing: true, lora: null}", "data: {train: ['a.jsonl', 'b c']}")
    + "checks:\n  lengths: {params: {names: [yes, '12', \"a: b\"]}}\n  duplicates: false\n"
    + "waivers:\n  - {check: a, reason: 'é \"x\" \\', owner: o, expires: 2026-12-31}\n"
    + "  - {check: b, reason: \"two\\nlines\\u2028 \\x7f\", owner: 'null', expires: 2026-12-31}\n"
    + "gate: {require: ['*::lengths', []], max_age: 24h}\n"
)


def test_what_is_shown_reads_back_as_the_same_policy() -> None:
    found = read(TEXT)
    assert found.tree is not None

    tree, problems = document.read(write("shown.yaml", show(found)), "shown.yaml")

    assert problems == ()
    assert tree is not None
    assert plain(tree) == plain(found.tree)


def test_with_origins_it_still_reads_back_and_every_line_says_where_it_is_from() -> None:
    found = read(TEXT)
    assert found.tree is not None

    text = show(found, origin=True)

    tree, _ = document.read(write("shown.yaml", text), "shown.yaml")
    assert tree is not None
    assert plain(tree) == plain(found.tree)
    assert all("  # policy.yaml:" in line for line in text.splitlines())


def test_origins_are_aligned_and_name_presets_defaults_and_the_command_line() -> None:
    presets(low="ftcheck: 1\ngate:\n  max_age: 1h\n")
    text = HEAD + "extends: [low]\ndefaults:\n  training:\n    seed: 1\n    max_length: 8\n"

    shown = show(read(text, "jobs.mapper.training.seed=2"), origin=True)

    assert shown == (
        "ftcheck: 1           # policy.yaml:1\n"
        "jobs:                # policy.yaml:2\n"
        "  mapper:            # policy.yaml:3\n"
        "    training:        # policy.yaml:7\n"
        "      seed: 2        # --set\n"
        "      max_length: 8  # policy.yaml:9\n"
        "    model:           # policy.yaml:4\n"
        "      name: tiny     # policy.yaml:4\n"
        "gate:                # presets/low.yaml:2\n"
        '  max_age: "1h"      # presets/low.yaml:3\n'
    )


def test_a_policy_with_problems_is_shown_as_far_as_it_could_be_read() -> None:
    assert show(read("ftcheck: 1\nnonsense: 2\n")) == "ftcheck: 1\nnonsense: 2\n"
    assert show(draft("nowhere.yaml"), origin=True) == ""
