import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.tokens.cases.tokens import CASES
from ftcheck_rules.tokens.tokens import tokenizer_parity

from ftcheck import InputError, Severity
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Sample
from ftcheck.inputs.probe_texts import CONVERSATIONS, PROBES
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.settings import Data, Job, Model, Serving
from ftcheck.testing import (
    Case,
    FakeTokenizer,
    Ran,
    gold,
    inputs,
    job,
    lock,
    packages,
    run,
    sample,
    serving_side,
    tokenizer,
)

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "a secret question"},
    {"role": "assistant", "content": "a secret answer"},
)


class Refusing(FakeTokenizer):
    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        if any(message["role"] == "system" for message in messages):
            raise InputError("the chat template raised TemplateError: no system role")
        return super().render(messages, prompt=prompt)


def check(training: FakeTokenizer | None = None, serving: ServingSide | None = None, **changes: Any) -> Ran:
    side = training or tokenizer()
    made = changes.pop("job", job())
    given = {
        "job": made,
        "tokenizer": side,
        "serving": serving or serving_side(side),
        "sample": sample(TALK, TALK, using=side),
        "lock": None,
        "packages": packages(transformers="5.23.0"),
        "inputs": inputs(made),
    }
    return run(tokenizer_parity, **{**given, **changes})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(tokenizer_parity, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_there_are_64_different_probes_and_each_conversation_ends_in_an_answer() -> None:
    assert len({probe.text for probe in PROBES}) == len({probe.name for probe in PROBES}) == 64
    assert all(one.messages[-1]["role"] == "assistant" for one in CONVERSATIONS)


def test_one_tokenizer_on_both_sides_passes_with_everything_counted() -> None:
    ran = check()

    assert not ran.findings
    assert ran.measured == {
        "probes": 72,
        "rows_compared": 2,
        "probes_different": 0,
        "rows_different": 0,
        "served_rows_different": 0,
    }
    assert ran.result.summary == "train = serve, 72 probes, 2 rows"


def test_another_serving_tokenizer_is_an_error_with_the_first_difference_shown() -> None:
    other = job(serving={"tokenizer": "other"})

    ran = check(serving=serving_side(shift=1), job=other)

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at == other.at("serving.tokenizer")
    sides = "train W h a t   [87, 104, 97, 116, 32] · serve W h a t   [88, 105, 98, 117, 33]"
    assert sides in finding.message
    assert ran.measured["rows_different"] == ran.measured["served_rows_different"] == 2


def test_another_serving_template_is_left_to_template_parity() -> None:
    ran = check(serving=serving_side(opening="<|assistant|>\n"))
    assert ran.result.outcome == "passed"


def test_another_tokenizer_behind_another_template_is_still_found() -> None:
    ran = check(serving=serving_side(opening="<|assistant|>\n", shift=1))

    [finding] = ran.findings
    assert "2 of 2 rendered rows and 8 of 8 rendered probes and 64 of 64 plain probes" in finding.message
    assert ran.measured["served_rows_different"] == 2


def test_a_conversation_that_only_the_server_refuses_is_compared_as_training_renders_it() -> None:
    ran = check(serving=ServingSide(Refusing(), same=False))
    assert ran.result.outcome == "passed"


def test_words_of_rows_are_never_shown() -> None:
    ran = check(tokenizer(reference_shift=3), serving_side(shift=2))
    assert "secret" not in str(ran.result)


def test_a_tokenizer_json_that_says_otherwise_is_a_warning_on_its_own() -> None:
    ran = check(tokenizer(reference_shift=1))

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("model.name")
    assert ran.measured["rows_different"] == 2
    assert ran.measured["served_rows_different"] == 0


def test_a_server_that_goes_by_tokenizer_json_makes_it_an_error() -> None:
    served = job(serving={"engine": "llama.cpp"})

    [finding] = check(tokenizer(reference_shift=1), job=served).findings

    assert finding.severity is Severity.ERROR
    assert finding.at == served.at("serving.engine")


@pytest.mark.parametrize(("engine", "worst"), [("tgi", Severity.ERROR), ("vllm", None)])
def test_such_a_server_with_files_of_its_own_goes_by_those(engine: str, worst: Severity | None) -> None:
    served = job(serving={"engine": engine, "tokenizer": "other"})
    assert check(serving=serving_side(reference_shift=1), job=served).worst is worst


def test_a_tokenizer_without_tokenizer_json_is_compared_with_serving_alone() -> None:
    assert check(tokenizer(reference_shift=None)).result.outcome == "passed"


def test_plain_text_is_compared_by_the_plain_probes_alone() -> None:
    ran = check(serving=serving_side(opening="other"), sample=Sample(rows=(), total=5))

    assert ran.result.outcome == "passed"
    assert ran.measured["probes"] == 64
    assert ran.measured["rows_compared"] == 0


def test_gold_prompts_with_other_ids_are_an_error_at_the_gold_set() -> None:
    asked = job(data={"gold": {"path": "gold.json"}})
    held = gold(("Why?", "So."), ("And?", "Then."), using=tokenizer(shift=1))

    ran = check(job=asked, inputs=inputs(asked, gold=held))

    [finding] = ran.findings
    assert finding.at == asked.at("data.gold")
    assert finding.message.startswith("2 of 2 gold prompts have different ids than in training")
    assert ran.measured["gold_different"] == 2


def test_a_gold_set_rendered_otherwise_is_left_to_template_parity() -> None:
    asked = job(data={"gold": {"path": "gold.json"}})
    held = gold(("Why?", "So."), using=tokenizer(opening="<|bot|>"))

    assert check(job=asked, inputs=inputs(asked, gold=held)).result.outcome == "passed"


def test_a_gold_set_that_does_not_open_is_noted() -> None:
    asked = job(data={"gold": {"path": "gold.json"}})

    ran = check(job=asked, inputs=inputs(asked, broken={"gold": "no such file"}))

    assert ran.result.outcome == "passed"
    assert ran.worst is Severity.INFO


def test_long_rows_are_left_out_once_the_budget_is_spent() -> None:
    long = ({"role": "user", "content": "x" * 150_000}, {"role": "assistant", "content": "y"})

    ran = check(sample=sample(long, TALK, long))

    assert ran.measured["rows_compared"] == 2


def test_other_ids_than_the_locks_are_an_error_that_names_versions_and_the_first_difference() -> None:
    then = lock(tokenizer(shift=1), texts={"digits": "1234567890"}, versions={"transformers": "5.22.0"})

    ran = check(lock=then)

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at == job().at("model.name")
    said = finding.message
    assert "1 of 1 plain probe, with transformers 5.22.0 -> 5.23.0" in said
    assert 'probe "digits", token 1: train 1 2 3 4 5 [49, 50, 51, 52, 53] · ' in said
    assert said.endswith("[50, 51, 52, 53, 54] (tokens, then ids)")
    assert ran.measured["locked_different"] == 1


def test_a_tokenizer_of_its_own_is_where_the_difference_is_placed() -> None:
    named = job(model={"tokenizer": "other"})
    then = lock(tokenizer(shift=1), texts={"digits": "123"})

    assert check(job=named, lock=then).findings[0].at == named.at("model.tokenizer")


def test_other_versions_with_the_same_ids_are_only_noted() -> None:
    then = lock(texts={"digits": "1234567890"}, versions={"transformers": "5.22.0"})

    ran = check(lock=then)

    [finding] = ran.findings
    assert (ran.result.outcome, finding.severity) == ("passed", Severity.INFO)
    assert ran.result.summary == "train = lock = serve, 72 probes, 2 rows"


def test_other_special_ids_than_the_locks_are_an_error() -> None:
    [finding] = check(lock=lock(tokenizer(eos_token_id=7), texts={"digits": "1234567890"})).findings

    assert finding.severity is Severity.ERROR
    assert "eos 7 -> 1000000" in finding.message


def test_a_lock_that_does_not_know_the_job_is_noted() -> None:
    ran = check(lock=lock(of_another_job=True))

    [finding] = ran.findings
    assert finding.severity is Severity.INFO
    assert "does not contain this job" in finding.message
    assert "locked_different" not in ran.measured


def test_conversations_of_a_lock_with_another_template_are_not_held_against_the_tokenizer() -> None:
    talks = {one.name: one.messages for one in CONVERSATIONS}
    then = lock(tokenizer(loses=("system",), training_template="old"), conversations=talks)

    assert check(lock=then).result.outcome == "passed"


def test_a_mended_mistral_regex_is_a_warning_only_where_ids_change() -> None:
    changed, same = check(tokenizer(fixed_shift=1)), check(tokenizer(fixed_shift=0))

    [finding] = changed.findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("model.name")
    assert "2 of 2 rendered rows" in finding.message
    assert same.findings == ()


REAL = ("phi-3-mini-without-config", "phi-3-mini-instruct")


def real(realdata: Path, folder: Path, training: str, serving: str | None) -> Ran:
    from ftcheck_plugins.model import tokenizer as loaders
    from ftcheck_plugins.preparation import preparation

    data = folder / "train.jsonl"
    with (realdata / "jobs" / "mapper" / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(next(lines)) for _ in range(120)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = Job(
        name="job",
        model=Model(name=str(realdata / "tokenizers" / training)),
        data=Data(train=str(data)),
        serving=Serving(tokenizer=serving and str(realdata / "tokenizers" / serving)),
    )
    offered = (loaders.tokenizer, loaders.serving, preparation.prepared, preparation.sample)
    opened = Inputs({one.name: one for one in offered}, {"run": Run(folder=folder)}, made)
    given = {name: opened.get(name) for name in tokenizer_parity.inputs if name not in ("lock", "packages")}
    return run(tokenizer_parity, **given, lock=None, packages=packages())


@pytest.mark.realdata
def test_phi_3_without_its_config_gives_other_ids_than_its_tokenizer_json(
    realdata: Path, tmp_path: Path
) -> None:
    ran = real(realdata, tmp_path, REAL[0], None)

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert "transformers (LlamaTokenizer) gives different ids than tokenizer.json" in finding.message
    assert ran.measured["rows_different"] == ran.measured["rows_compared"] > 100
    assert ran.measured["served_rows_different"] == 0


@pytest.mark.realdata
def test_phi_3_trained_without_and_served_with_its_config_is_an_error(realdata: Path, tmp_path: Path) -> None:
    ran = real(realdata, tmp_path, *REAL)

    assert [finding.severity for finding in ran.findings] == [Severity.ERROR, Severity.WARNING]
    assert ran.findings[0].at is not None
    assert ran.findings[0].at.yaml_path == "jobs.job.serving.tokenizer"
    assert ran.measured["served_rows_different"] > 100


@pytest.mark.realdata
def test_phi_3_with_its_config_is_the_same_everywhere(realdata: Path, tmp_path: Path) -> None:
    assert real(realdata, tmp_path, REAL[1], None).result.outcome == "passed"


def test_a_tokenizer_json_that_differs_on_leading_white_space_alone_is_only_noted() -> None:
    class Prefixed(FakeTokenizer):
        def reference(self, text: str) -> list[int] | None:
            return [0, *self.encode(text)] if text[:1].isspace() else self.encode(text)

    ran = check(Prefixed())

    assert (ran.result.outcome, ran.worst) == ("passed", Severity.INFO)
