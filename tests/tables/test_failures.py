"""The catalogue that `ftcheck explain` prints: every entry has a home, and the bench agrees with it."""

from ftcheck.extension.plugin_host import make_host
from ftcheck.tables.failures import catalogue, caught_by, url
from tests.cli.project import Project
from tests.faults.catalogue import FAULTS

NO_RULE_YET = {"late-oom", "throughput-target", "nccl-p2p-rtx40", "nn-dataparallel"}
"""They need a GPU, or the memory and time model."""
HOST = {"gate", "policy"}
"""Caught by the gate and by the policy reader, not by a rule."""


def test_every_failure_names_a_rule_that_there_is() -> None:
    rules = set(make_host().rules) | HOST

    assert {one.id for one in catalogue() if one.rule is None} == NO_RULE_YET
    assert {one.rule for one in catalogue() if one.rule is not None} <= rules


def test_the_bench_plants_what_the_catalogue_says_each_rule_catches() -> None:
    planted = {fault.id: fault.rule for fault in FAULTS}

    said = {one.id: one.rule for one in catalogue() if one.id in planted}
    assert said == {name: rule for name, rule in planted.items() if name in said}
    assert len(said) == 101
    assert len(catalogue()) == 113


def test_explain_names_what_a_rule_catches_with_remedy_and_threads(project: Project) -> None:
    ran = project.call("explain", "truncation")
    [first, *_] = caught_by("truncation")

    words = " ".join(ran.out.split())
    assert first.what in words
    assert first.fix in words
    assert first.threads[0] in words


def test_threads_are_full_urls_where_the_owner_is_known() -> None:
    unknown = {thread for one in catalogue() for thread in one.threads if not thread.startswith("https://")}

    assert unknown == {"LLM-demos#1", "llmcomp#59"}
    assert url("huggingface/open-r1#85") == "https://github.com/huggingface/open-r1/issues/85"
