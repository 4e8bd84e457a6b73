from typing import Any

import pytest
from ftcheck_rules.data.gold import wilson
from ftcheck_rules.outcome.accuracy import accuracy, needed, regression
from ftcheck_rules.outcome.cases.accuracy import CASES, JSON, asked

from ftcheck import Severity
from ftcheck.inputs.baseline import Baseline
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.finished_run import Generation
from ftcheck.inputs.prepared import RowError
from ftcheck.policy import make_params
from ftcheck.records import Location
from ftcheck.testing import Case, Ran, generations, output_schema, prepared, rows, run

RULES = {"accuracy": accuracy, "regression": regression}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def told(expected: list[Any], given: list[Any], **params: Any) -> Ran:
    return run(accuracy, {"min_rows": 1, "margin": 1.0, **params}, **asked(expected, given, target=1.0))


def test_the_measurements_are_the_ones_that_others_rely_on() -> None:
    measured = told(["yes"] * 4, ["yes", "yes", "yes", "no"]).measured
    assert (measured["accuracy"], measured["n"]) == (0.75, 4)
    assert measured["accuracy_low"] == round(wilson(0.75, 4)[0], 4)


def test_nineteen_of_twenty_are_not_called_95_per_cent_and_the_rows_that_would_do_are_named() -> None:
    ran = run(accuracy, {"min_rows": 20}, **asked(["yes"] * 20, ["yes"] * 19 + ["no"], target=0.95))
    [finding] = [one for one in ran.findings if one.severity is Severity.ERROR]
    assert "the 95 % interval starts at 76.4%" in finding.message
    assert finding.fix is not None
    rows_needed = int(finding.fix.split()[3].replace(",", ""))
    assert wilson(0.95, rows_needed)[0] >= 0.9 > wilson(0.95, rows_needed - 1)[0]


def test_no_number_of_rows_shows_a_target_that_the_share_does_not_reach() -> None:
    assert needed(0.9, 0.9) is None
    assert needed(0.9001, 0.9) is None or wilson(0.9001, needed(0.9001, 0.9) or 0)[0] >= 0.9


def test_without_a_target_nothing_passes() -> None:
    ran = run(accuracy, **asked(["yes"] * 60, ["yes"] * 60, target=None))
    assert ran.worst is Severity.WARNING


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        ({"a": 1, "b": True}, '{"b": true, "a": 1.0}', True),
        ({"a": 1}, '{"a": true}', False),
        ({"a": 1}, '{"a": 1, "b": 2}', False),
        ({"a": 1}, 'Here it is: {"a": 1}', False),
        ([1, 2], " [1,2]\n", True),
    ],
)
def test_json_is_equal_as_values(expected: Any, given: str, right: bool) -> None:
    assert told([expected], [given]).measured["accuracy"] == right


@pytest.mark.parametrize(
    ("given", "right"), [("so it is 1,234", True), ("1234.0", True), ("1233", False), ("none", False)]
)
def test_the_last_number_counts(given: str, right: bool) -> None:
    assert told(["first 7, then #### 1234"], [given], match="numeric").measured["accuracy"] == right


def test_named_fields_decide_and_others_may_differ() -> None:
    ran = told([{"team": "print", "note": "x"}] * 2, ['{"team": "print"}', '{"team": 1}'], match="field")
    assert (ran.measured["accuracy.team"], ran.measured["accuracy.note"]) == (0.5, 0.0)
    named = told([{"team": "print", "note": "x"}], ['{"team": "print"}'], match="field", fields=("team",))
    assert named.measured["accuracy"] == 1


def test_the_worst_fields_and_the_wrong_rows_are_named_without_their_content() -> None:
    ran = told([{"team": "print", "urgent": False}] * 3, [JSON[0], JSON[1], "secret words"])
    texts = [one.message for one in ran.findings]
    assert "field 'team' is wrong in 2 of 3 answers (rows 2, 3)" in texts
    assert "row 3: not valid JSON" in texts
    assert not any("network" in text or "secret" in text for text in texts)
    assert ran.findings[-1].content == "secret words"


def test_mistakes_are_named_only_between_values_that_the_policy_names_itself() -> None:
    schema = output_schema({"properties": {"team": {"enum": ["print", "network"]}, "who": {}}})
    wrong = '{"team": "network", "who": "Mallory"}'
    made = asked([{"team": "print", "who": "Alice"}] * 60, [wrong] * 60, output_schema=schema)
    texts = [one.message for one in run(accuracy, **made).findings]
    assert any(text.endswith("60 times 'network' instead of 'print'") for text in texts)
    assert not any("Mallory" in text or "Alice" in text for text in texts)

    judged = asked(["Verdict: reject"] * 60, ["Verdict: approve"] * 60)
    named = run(accuracy, {"pattern": "Verdict: (approve|reject)"}, **judged).findings
    assert "confused values: 60 times 'approve' instead of 'reject'" in [one.message for one in named]
    any_word = run(accuracy, {"pattern": r"Verdict: (\w+)"}, **judged).findings
    assert not any("approve" in one.message for one in any_word)


def test_an_expected_answer_of_another_kind_is_an_error() -> None:
    ran = told(["Verdict: yes", "no verdict"], ["Verdict: yes"] * 2, pattern=r"Verdict: (\w+)")
    assert (
        "1 expected answer cannot be compared with match: regex; the first does not match"
        in ran.findings[0].message
    )
    assert ran.measured["n"] == 1


def test_a_pattern_that_is_none_is_refused_with_the_policy() -> None:
    from ftcheck.errors import PolicyError

    for params in ({"pattern": "("}, {"match": "regex"}):
        with pytest.raises(PolicyError, match="pattern"):
            make_params(accuracy, params)


def test_gold_rows_that_are_training_rows_are_not_counted_and_many_are_an_error() -> None:
    from ftcheck.dedup import fingerprints

    made = asked(["yes"] * 60, ["yes"] * 60)
    seen = [fingerprints.fingerprint(fingerprints.asked(item.messages)) for item in made["gold"].items[:2]]
    made["prepared"] = prepared([5] * 3, of=rows(3, asked=[*seen, 7]))

    few = run(accuracy, **made)
    many = run(accuracy, {"max_leaked_share": 0.01}, **made)

    assert (few.measured["n"], few.measured["leaked_rows"]) == (58, 2)
    assert few.result.outcome == "passed"
    assert "2 of 60 gold questions are in the training rows" in few.findings[0].message
    assert many.worst is Severity.ERROR


def test_questions_without_an_answer_count_as_wrong_and_are_counted_by_cause() -> None:
    silent = [Generation(trouble="no answer within 60 s")] * 2 + [Generation(trouble="HTTP 500")]
    ran = told(["yes"] * 4, ["yes", *silent])
    assert ran.measured["accuracy"] == 0.25
    assert "3 of 4 questions got no answer" in ran.findings[0].message
    assert "no answer within 60 s: 2; HTTP 500: 1" in ran.findings[0].message


def test_gold_rows_with_other_keys_are_an_error_that_names_them() -> None:
    made = asked([], [], generations=None)
    trouble = RowError("schema", "has no key 'expected'; it has the keys answer, input", "name the key")
    made["gold"] = GoldSet("gold.json", (), row_errors=((Location("gold.json", 2, 1, row=1), trouble),))
    [finding] = run(accuracy, **made).findings
    assert "1 of 1 gold rows cannot be used; the first: has no key 'expected'" in finding.message
    assert str(finding.at) == "gold.json:2:1"


def test_what_was_not_trained_or_not_asked_is_skipped_and_a_dead_endpoint_is_an_error() -> None:
    made = asked(["yes"], ["yes"])
    assert "was not trained" in (run(accuracy, **{**made, "run_artifacts": None}).skipped or "")
    assert run(accuracy, **{**made, "generations": generations(problem="run contains no adapter")}).skipped
    assert "no gold" in (run(accuracy, **{**made, "gold": None, "generations": None}).skipped or "")
    from ftcheck.inputs.finished_run import Generations

    dead = Generations(
        "serving.endpoint", 64, problem="serving.endpoint returned no answer: connection refused"
    )
    ran = run(accuracy, **{**made, "generations": dead})
    assert ran.worst is Severity.ERROR
    assert ran.findings[0].at is not None
    assert ran.findings[0].at.yaml_path == "jobs.job.serving.endpoint"


def compared(tuned: list[str], base: Any, baseline: Baseline | None, **params: Any) -> Ran:
    made = asked(["yes"] * len(tuned), tuned)
    del made["prepared"], made["tokenizer"]
    return run(regression, params, **made, base_generations=base, baseline=baseline)


def test_questions_that_only_the_base_knows_are_named() -> None:
    ran = compared(["no", "yes", "yes"], generations("yes", "no", "no"), None)
    assert (ran.measured["gain"], ran.measured["lost"]) == (0.3333, 1)
    assert "(row 1)" in ran.findings[0].message


def test_other_gold_questions_than_before_are_not_compared() -> None:
    ran = compared(["yes"], generations("no"), Baseline("old.json", 1.0, 50, same_gold=False))
    assert ran.worst is Severity.WARNING
    assert "is based on other gold questions" in ran.findings[0].message


def test_without_base_and_baseline_there_is_nothing_to_compare() -> None:
    assert compared(["yes"], generations(problem="the endpoint serves one model"), None).skipped
