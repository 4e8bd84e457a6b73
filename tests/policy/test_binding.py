"""Rules, jobs, trainers, parameters and required checks that do not exist."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ftcheck.errors import PluginError, PolicyError
from ftcheck.extension.rules import rule
from ftcheck.policy import bind, describe_params, make_params
from ftcheck.records import Finding, Severity, Stage
from tests.policy.kit import HEAD, Percentile, duplicates, host, job, lengths, presets, read

HINT = "(if a plugin provides the rule, list the plugin under 'plugins')"


def refused(text: str) -> list[str]:
    with pytest.raises(PolicyError) as error:
        bind(read(text), host())
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "checks: {lenghts: }",
            f"5:10: checks.lenghts: unknown rule 'lenghts'; did you mean 'lengths'? {HINT}",
        ),
        ("checks: {mine: {rule: qqq}}", f"5:23: checks.mine.rule: unknown rule 'qqq' {HINT}"),
        (
            "checks: {lengths: {jobs: [maper]}}",
            "5:27: checks.lengths.jobs.0: unknown job 'maper'; did you mean 'mapper'?",
        ),
        (
            "checks: {lengths: {jobs: []}}",
            "5:26: checks.lengths.jobs: 'jobs' is empty: name at least one job, or remove 'jobs'",
        ),
        (
            "checks: {environment: {jobs: [mapper]}}",
            "5:24: checks.environment.jobs: the rule 'environment' does not apply to jobs: remove 'jobs'",
        ),
        (
            "checks: {lengths: {params: {percentil: 9}}}",
            "5:29: checks.lengths.params.percentil: unknown key 'percentil'; did you mean 'percentile'?",
        ),
        (
            "checks: {lengths: {params: {percentile: '9'}}}",
            "5:41: checks.lengths.params.percentile: must be a number, not the text '9'; write it "
            "without quotes",
        ),
        (
            "checks: {lengths: {params: {at: eror}}}",
            "5:33: checks.lengths.params.at: must be 'info', 'warning' or 'error', not the text 'eror'; "
            "did you mean 'error'?",
        ),
        (
            "checks: {lengths: {params: {percentile: 101}}}",
            "5:28: checks.lengths.params: percentile 101 is above 100",
        ),
        (
            "checks: {duplicates: {params: {near: true}}}",
            "5:23: checks.duplicates.params: the rule 'duplicates' takes no parameters",
        ),
        (
            "checks: {lengths: }\ngate: {require: ['*::lenghts']}",
            "6:18: gate.require.0: '*::lenghts' matches no check of this policy; did you mean '*::lengths'?",
        ),
        (
            "checks: {lengths: }\ngate: {require: [lengths]}",
            "6:18: gate.require.0: 'lengths' matches no check of this policy; did you mean '*::lengths'?",
        ),
        (
            "checks: {environment: }\ngate: {require: ['*::environment']}",
            "6:18: gate.require.0: '*::environment' matches no check of this policy; did you mean "
            "'environment'?",
        ),
        (
            "checks: {lengths: }\ngate: {require: ['analyst::lengths', zzz]}",
            "6:18: gate.require.0: 'analyst::lengths' matches no check of this policy; did you mean "
            "'*::lengths'?\n"
            "policy.yaml:6:38: gate.require.1: 'zzz' matches no check of this policy",
        ),
        (
            "checks: {lengthz: false}",
            "5:10: checks.lengthz: there is no check 'lengthz' to remove; did you mean 'lengths'?",
        ),
    ],
)
def test_a_name_that_does_not_exist_is_reported_at_its_place(line: str, message: str) -> None:
    assert refused(f"{HEAD}{line}\n") == f"policy.yaml:{message}".splitlines()


def test_an_unknown_trainer_is_reported_with_those_there_are() -> None:
    assert refused(job("trainer: {use: qlra}")) == [
        "policy.yaml:5:20: jobs.mapper.trainer.use: unknown trainer 'qlra'; did you mean 'qlora'? "
        "(available: command, qlora)"
    ]


def test_problems_of_the_draft_and_of_the_names_come_together() -> None:
    assert refused(job("training: {sed: 1}") + "checks: {lenghts: {severity: bad}}\n") == [
        "policy.yaml:5:16: jobs.mapper.training.sed: unknown key 'sed'; did you mean 'seed'?",
        f"policy.yaml:6:10: checks.lenghts: unknown rule 'lenghts'; did you mean 'lengths'? {HINT}",
        "policy.yaml:6:30: checks.lenghts.severity: must be 'info', 'warning' or 'error', not the text 'bad'",
    ]


def test_an_unknown_rule_does_not_make_required_checks_unknown_too() -> None:
    assert refused(HEAD + "checks: {lenghts: }\ngate: {require: ['*::lenghts']}\n") == [
        f"policy.yaml:5:10: checks.lenghts: unknown rule 'lenghts'; did you mean 'lengths'? {HINT}"
    ]


def test_a_file_that_cannot_be_read_is_the_only_problem() -> None:
    assert refused(
        HEAD + "extends: [nowhere]\nchecks: {lengths: {jobs: [other]}}\ngate: {require: [x]}\n"
    ) == ["policy.yaml:5:11: extends.0: unknown preset 'nowhere' (available: none)"]


def test_a_check_that_only_a_preset_names_can_be_taken_out() -> None:
    presets(low="checks: {strict: {rule: lengths}}\n")
    policy, checks = bind(read(HEAD + "extends: [low]\nchecks: {strict: false, duplicates: false}\n"), host())
    assert (policy.removed, checks) == (("strict", "duplicates"), ())


def test_a_required_check_of_another_stage_is_known() -> None:
    text = HEAD + "checks: {lengths: , accuracy: }\ngate: {require: ['*::lengths']}\n"
    _, checks = bind(read(text), host(), Stage.AFTER)
    assert [check.id for check in checks] == ["mapper::accuracy"]


def test_parameters_are_made_into_the_rules_dataclass() -> None:
    made = make_params(lengths, {"percentile": 99, "at": "warning", "names": ["a"]})
    assert made == Percentile(percentile=99.0, at=Severity.WARNING, names=("a",))
    assert make_params(lengths, {}) == Percentile()
    assert make_params(duplicates, {}) is None


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(PolicyError) as error:
        make_params(lengths, {"percentile": "x", "nme": 1})
    assert str(error.value) == (
        "params.nme: unknown key 'nme'; did you mean 'names'?\n"
        "params.percentile: must be a number, not the text 'x'"
    )


def test_parameters_are_described_for_help_texts() -> None:
    first, second, third = describe_params(lengths)
    assert (first.name, first.kind, first.default) == ("percentile", "a number", 95)
    assert first.help == "Which percentile is looked at."
    assert (second.kind, second.default) == ("'info', 'warning' or 'error'", "error")
    assert (third.kind, third.default, third.help) == ("a list of texts", [], "")


def test_parameters_of_a_type_that_yaml_cannot_state_are_the_plugins_fault() -> None:
    @dataclass(frozen=True)
    class Odd:
        """Options."""

        host: object = None
        stream: Iterator[int] | memoryview | None = None

    @rule("odd")
    def odd(rows: Any, params: Odd) -> Iterator[Finding]:
        """Fine.

        Else not.
        """
        yield Finding(f"{rows} {params}")

    with pytest.raises(PluginError) as error:
        make_params(odd, {})

    assert str(error.value).startswith("rule 'odd': its parameters cannot be validated: ")


def test_a_required_check_that_no_report_can_hold_is_refused() -> None:
    watching = replace(lengths, id="finite-loss", stage=Stage.DURING)
    known = replace(host(), rules={**host().rules, watching.id: watching})
    text = HEAD + "checks: {finite-loss: }\ngate: {require: ['*::finite-loss']}\n"

    with pytest.raises(PolicyError) as error:
        bind(read(text), known)

    assert "'*::finite-loss' is a check of stage during" in str(error.value)
