from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.evaluation.evaluation import evaluation_parity

from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.prepared import RowError, Sample
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.records import Change, Location, Severity
from ftcheck.settings import Evaluation
from ftcheck.testing import gold, job, model_config, prepared, rows, run, sample, serving_side, tokenizer

PROMPT = "Answer briefly."
ASKED: tuple[Message, ...] = ({"role": "system", "content": PROMPT}, {"role": "user", "content": "secret?"})
TURNS: tuple[Message, ...] = (*ASKED, {"role": "assistant", "content": "A printer."})
KEY = "jobs.job.serving.system_prompt"


def parity(served: str | None = PROMPT, **changes: Any) -> dict[str, Any]:
    usual = {
        "job": job(serving={"system_prompt": served}),
        "tokenizer": tokenizer(),
        "serving": serving_side(),
        "model": model_config(),
        "prepared": prepared([8]),
        "rows": rows(1, system_prompts=[PROMPT], system=[0]),
        "sample": sample(TURNS),
        "gold": gold(("what is that?", "A chair."), system_prompt=served),
        "evaluation": None,
    }
    return {**usual, **changes}


def of_many(*kinds: dict[str, Any]) -> Sample:
    """Sample rows, each with template switches of its own."""
    drawn = sample(*[TURNS] * len(kinds))
    return replace(
        drawn, rows=tuple(replace(row, **kind) for row, kind in zip(drawn.rows, kinds, strict=True))
    )


def test_a_model_that_is_asked_and_stopped_as_trained_passes() -> None:
    ran = run(evaluation_parity, **parity())

    assert ran.findings == ()
    assert ran.measured == {"gold_items": 1, "prompts_compared": 1, "prompts_different": 0}
    assert ran.result.summary == "1 of 1 prompt is served as trained · 1 gold item"


def evaluated(of: ServingSide | None = None, served: str | None = PROMPT, **stated: Any) -> dict[str, Any]:
    """An evaluation section, and the side that it loads."""
    made = job(serving={"system_prompt": served}, evaluation=Evaluation(**stated))
    return parity(job=made, evaluation=of or serving_side())


@pytest.mark.parametrize("side", [serving_side(opening="<|user|>"), serving_side(shift=1)])
def test_a_server_that_asks_otherwise_is_an_error_whatever_other_rules_say(side: ServingSide) -> None:
    """A policy may have this rule alone."""
    ran = run(evaluation_parity, **parity(serving=side))

    [finding] = ran.findings
    assert (ran.result.outcome, finding.severity) == ("failed", Severity.ERROR)
    assert ran.measured["prompts_different"] == 1


def test_a_row_that_begins_otherwise_than_its_prompt_is_an_error_that_quotes_nothing() -> None:
    ran = run(evaluation_parity, **parity(sample=of_many({"ids": (0,)})))

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert (
        finding.message
        == "in 1 of 1 sample row, the served prompt differs from the start of the row, first at token 1 of 27"
    )
    assert finding.at is not None
    assert (finding.at.path, finding.at.line) == ("train.jsonl", 1)
    assert "secret" not in finding.message


def test_a_benchmark_without_the_template_is_an_error_with_the_change() -> None:
    ran = run(evaluation_parity, **evaluated(apply_chat_template=False))

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.change == Change("jobs.job.evaluation.apply_chat_template", False, True)


def test_plain_rows_may_be_evaluated_without_the_template() -> None:
    plain = {
        **evaluated(served=None, apply_chat_template=False),
        "rows": rows(1, turns=[0]),
        "sample": sample(),
    }

    assert run(evaluation_parity, **plain).findings == ()


@pytest.mark.parametrize(
    ("side", "key", "stated"),
    [
        (
            serving_side(opening="<|user|>"),
            "chat_template",
            {"chat_template": "x.jinja", "tokenizer": "base"},
        ),
        (serving_side(opening="<|user|>"), "tokenizer", {"tokenizer": "base"}),
        (serving_side(opening="<|user|>"), "chat_template_kwargs", {"chat_template_kwargs": {"a": 1}}),
        (serving_side(shift=1), "tokenizer", {"chat_template": "x.jinja", "tokenizer": "base"}),
    ],
)
def test_an_evaluation_that_asks_otherwise_is_an_error_at_what_it_states(
    side: ServingSide, key: str, stated: dict[str, Any]
) -> None:
    ran = run(evaluation_parity, **evaluated(side, **stated))

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == f"jobs.job.evaluation.{key}"
    assert "secret" not in finding.message


def test_an_evaluation_with_a_tokenizer_that_agrees_passes() -> None:
    side = ServingSide(tokenizer(path="copy"), same=False)

    assert run(evaluation_parity, **evaluated(side, tokenizer="copy")).findings == ()


def test_evaluations_own_system_prompt_must_be_the_trained_one() -> None:
    [finding] = run(evaluation_parity, **evaluated(system_prompt="Be verbose.")).findings

    assert "evaluation sends a system prompt of 11 characters" in finding.message
    assert finding.change == Change("jobs.job.evaluation.system_prompt", "Be verbose.", PROMPT)


@pytest.mark.parametrize(
    ("batch", "side", "found"), [(8, "right", 1), (8, "left", 0), (8, None, 0), (1, "right", 0)]
)
def test_batches_must_be_padded_on_the_left(batch: int, side: Any, found: int) -> None:
    ran = run(evaluation_parity, **evaluated(batch_size=batch, padding_side=side))

    assert len(ran.findings) == found
    if found:
        assert ran.worst is Severity.WARNING
        assert ran.findings[0].change == Change("jobs.job.evaluation.padding_side", "right", "left")


def test_gold_items_that_no_template_renders_are_not_repeated() -> None:
    trouble = ((Location("gold.json", 1), RowError("template", "no chat template")),)
    held = GoldSet("gold.json", (), row_errors=trouble)
    without = run(evaluation_parity, **parity(serving=serving_side(chat_template=None), gold=held))
    raising = run(evaluation_parity, **parity(gold=held))

    assert without.findings == ()
    assert len(raising.findings) == 1


def test_a_few_prompts_that_differ_are_a_warning() -> None:
    drawn = of_many({"ids": (0,)}, *[{}] * 99)

    at_most = run(evaluation_parity, **parity(sample=drawn))
    above = run(evaluation_parity, {"different_percent": 0.5}, **parity(sample=drawn))

    assert at_most.worst is Severity.WARNING
    assert above.worst is Severity.ERROR


def test_rows_with_switches_of_their_own_are_named_by_their_keys() -> None:
    drawn = of_many({"ids": (0,), "template_kwargs": {"enable_thinking": False}}, {})

    [finding] = run(evaluation_parity, **parity(sample=drawn)).findings

    assert finding.severity is Severity.WARNING
    assert "these rows set enable_thinking" in finding.message


def test_rows_without_an_answer_or_without_a_question_are_not_compared() -> None:
    drawn = of_many({"prompt_turns": 0}, {"prompt_turns": 3})

    assert run(evaluation_parity, **parity(sample=drawn)).measured["prompts_compared"] == 0


def test_a_system_prompt_that_the_server_does_not_send_is_an_error_with_the_change() -> None:
    ran = run(evaluation_parity, **parity(None))

    [finding] = ran.findings
    assert finding.message.startswith("1 of 1 training row has a system prompt of 15 characters (sha256:")
    assert finding.at == Location("policy.yaml", 1, 1, KEY)
    assert finding.change == Change(KEY, None, PROMPT)


def test_a_system_prompt_that_no_row_has_is_an_error() -> None:
    [finding] = run(evaluation_parity, **parity(rows=rows(1))).findings

    assert "1 of 1 training row has no system prompt, but the server sends a system prompt" in finding.message
    assert finding.change == Change(KEY, PROMPT, None)


def test_white_space_around_a_system_prompt_counts_only_where_the_template_keeps_it() -> None:
    assert run(evaluation_parity, **parity(PROMPT + "\n")).worst is Severity.ERROR


@pytest.mark.parametrize(("others", "severity"), [(1, Severity.ERROR), (2, Severity.WARNING)])
def test_the_usual_system_prompt_is_that_of_99_rows_in_a_hundred(others: int, severity: Severity) -> None:
    mixed = rows(100, system_prompts=[PROMPT, "Other."], system=[0] * (100 - others) + [1] * others)

    ran = run(evaluation_parity, **parity("Third.", rows=mixed))

    assert ran.worst is severity
    assert ran.findings[0].change is None


def test_one_of_several_system_prompts_at_the_server_passes() -> None:
    mixed = rows(2, system_prompts=[PROMPT, "Other."], system=[0, 1])

    assert run(evaluation_parity, **parity(rows=mixed)).findings == ()


def test_rows_in_trouble_have_no_say_about_the_system_prompt() -> None:
    mixed = rows(2, system_prompts=[PROMPT], system=[0, -1], row_errors={1: RowError("json", "not JSON")})

    assert run(evaluation_parity, **parity(rows=mixed)).findings == ()


def test_more_system_prompts_than_are_kept_are_not_taken_for_one() -> None:
    many = rows(3, system_prompts=[], system=[0, 0, 0])

    ran = run(evaluation_parity, **parity(rows=many))

    assert ran.worst is Severity.WARNING


def test_a_turn_end_that_does_not_stop_generation_is_an_error() -> None:
    ran = run(evaluation_parity, **parity(serving=serving_side(eos_token_id=1_000_001)))

    [finding] = ran.findings
    assert finding.message == (
        "training ends turns with <|end|> (1000000) (1 of 1 sample row),"
        " but generation stops at <|pad|> (1000001)"
    )


def test_the_generation_config_may_name_the_turn_end() -> None:
    named = model_config(generation={"eos_token_id": [1_000_001, 1_000_000]})

    ran = run(evaluation_parity, **parity(serving=serving_side(eos_token_id=1_000_001), model=named))

    assert ran.findings == ()


def test_a_turn_end_before_a_token_that_stops_is_a_warning() -> None:
    both = tokenizer(stop_ids=frozenset({1_000_000, 1_000_001}))
    drawn = sample(TURNS)
    ended = replace(drawn.rows[0], ids=(*drawn.rows[0].ids, 1_000_001))

    ran = run(
        evaluation_parity,
        **parity(
            tokenizer=both,
            serving=serving_side(eos_token_id=1_000_001),
            sample=replace(drawn, rows=(ended,)),
        ),
    )

    assert ran.worst is Severity.WARNING


def test_gold_items_that_cannot_be_used_are_errors_at_their_lines() -> None:
    place = Location("gold.json", 7, 1)
    broken = replace(gold(("?", "A")), row_errors=((place, RowError("schema", "has no key 'expected'")),))

    [finding] = run(evaluation_parity, **parity(gold=broken)).findings

    assert finding.message == "this gold item cannot be used: has no key 'expected'"
    assert finding.at == place


def test_an_id_that_is_taken_is_an_error_at_the_second_item() -> None:
    found = gold(("?", "A"), ("!", "B"))
    twice = replace(found, items=tuple(replace(one, id="x") for one in found.items))

    [finding] = run(evaluation_parity, **parity(gold=twice)).findings

    assert finding.message.startswith("this item's id is already used at gold.json:1")
    assert finding.at is not None
    assert finding.at.line == 2


def test_an_empty_gold_set_is_an_error_at_its_path() -> None:
    [finding] = run(evaluation_parity, **parity(gold=GoldSet("gold.json", ()))).findings

    assert finding.message == "the gold set gold.json is empty"


def test_plain_text_without_a_gold_set_is_skipped() -> None:
    plain = parity(None, rows=rows(1, turns=[0]), sample=sample(), gold=None)

    assert (
        run(evaluation_parity, **plain).skipped == "the rows are not conversations, and data.gold is not set"
    )


def test_item_19_no_prompt_compared_is_no_pass() -> None:
    nothing = parity(sample=sample(({"role": "assistant", "content": "Yes."},)), gold=None)

    ran = run(evaluation_parity, **nothing)

    assert ran.measured["prompts_compared"] == 0
    assert ran.result.outcome != "passed"


@pytest.mark.parametrize(("engine", "severity"), [("transformers", "error"), ("vllm", "warning")])
def test_16_a_trained_stop_that_the_generation_config_does_not_list(engine: str, severity: str) -> None:
    """The tokenizer's EOS ends rows; transformers' generate stops at what the file lists alone."""
    one = job(serving={"system_prompt": PROMPT, "engine": engine}, training={"lora": {"r": 16}})
    model = model_config(generation={"eos_token_id": [1_000_001]})
    drawn = replace(sample(TURNS), rows=(replace(sample(TURNS).rows[0], ids=(65, 1_000_000)),))

    ran = run(evaluation_parity, **parity(job=one, model=model, sample=drawn))

    assert any(
        finding.severity == severity
        and "is the tokenizer's EOS, but generation_config.json lists" in finding.message
        for finding in ran.findings
    )


def test_16_a_listed_stop_that_is_ordinary_text_is_an_error() -> None:
    one = job(serving={"system_prompt": PROMPT})
    ran = run(
        evaluation_parity, **parity(job=one, model=model_config(generation={"eos_token_id": [35, 1_000_000]}))
    )

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.message.startswith("eos_token_id 35 in generation_config.json is the ordinary token '#'")


def test_16_a_stop_text_inside_answers_cuts_them() -> None:
    """Whole rows are in the loss, so the sample rows are searched; a stop at the end cuts nothing."""
    turns: tuple[Message, ...] = (*ASKED, {"role": "assistant", "content": "One.\n\nTwo."})
    asked = {"job": job(serving={"system_prompt": PROMPT, "stop": ("\n\n", "Two.")})}
    drawn = {"sample": sample(turns), "gold": gold(("?", "First\n\nsecond"), system_prompt=PROMPT)}

    found = run(evaluation_parity, **{**parity(), **asked, **drawn}).findings

    assert sorted(one.message for one in found) == [
        "serving.stop '\\n\\n' occurs inside answers: 1 of 1 gold answer contains it, first gold.json:1",
        "serving.stop '\\n\\n' occurs inside answers: 1 of 1 training row contains it, first train.jsonl:1:1",
    ]


def test_20_nothing_said_of_the_served_system_prompt_is_unknown_not_none() -> None:
    for unsaid in (job(), job(serving={"max_new_tokens": 64})):
        ran = run(evaluation_parity, **parity(job=unsaid))
        assert ran.result.outcome == "passed"
        assert "whether the server sends one is unknown" in ran.findings[0].message
    said = run(evaluation_parity, **parity(job=job(serving={"system_prompt": None})))
    assert said.result.outcome == "failed"


def test_25_prompts_that_differ_in_one_character_say_where() -> None:
    ran = run(evaluation_parity, **parity("Answer briefly!", gold=None))

    [finding] = ran.findings
    assert "they differ in 1 character from character 15 on" in finding.message
    assert "briefly" not in finding.message


def test_19_a_stop_is_counted_in_the_rows_that_were_searched() -> None:
    """Two sample rows of 500: the finding says 2 of 2 searched, and is not weighed against all 500."""
    drawn = replace(sample(TURNS, TURNS), total=500)
    changes: dict[str, Any] = {"sample": drawn, "job": job(serving={"system_prompt": PROMPT, "stop": ("A",)})}

    [found] = [
        one for one in run(evaluation_parity, **parity(**changes)).findings if "training row" in one.message
    ]

    assert "2 of 2 training rows searched, 500 in all, contain it" in found.message
    assert found.severity is Severity.ERROR
