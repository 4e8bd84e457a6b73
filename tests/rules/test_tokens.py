import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.cases import Case, cases_of
from ftcheck_rules.probes import CONVERSATIONS, PROBES
from ftcheck_rules.tokens import tokenizer_parity

from ftcheck import InputError, Severity
from ftcheck.inputs import Inputs, Message, Run, Sample, ServingSide
from ftcheck.settings import Data, Job, Model, Serving
from ftcheck.testing import FakeTokenizer, Ran, gold, inputs, job, run, sample, serving_side, tokenizer

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "a secret question"},
    {"role": "assistant", "content": "a secret answer"},
)


class Switching(FakeTokenizer):
    """Opens the answer otherwise when thinking is off, as Qwen3's template does."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        text = super().render(messages, prompt=prompt)
        return text + ("<think></think>" if prompt and not switches.get("enable_thinking", True) else "")


class Refusing(FakeTokenizer):
    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        if any(message["role"] == "system" for message in messages):
            raise InputError("the chat template raised TemplateError: no system role")
        return super().render(messages, prompt=prompt)


class Swapped(FakeTokenizer):
    """Renders otherwise with the template that TRL swaps in."""

    def render(self, messages: Any, *, prompt: bool = False, **switches: Any) -> str:
        return ("<s>" if "chat_template" in switches else "") + super().render(messages, prompt=prompt)


def check(training: FakeTokenizer | None = None, serving: ServingSide | None = None, **changes: Any) -> Ran:
    side = training or tokenizer()
    made = changes.pop("job", job())
    given = {
        "job": made,
        "tokenizer": side,
        "serving": serving or serving_side(side),
        "sample": sample(TALK, TALK, using=side),
        "inputs": inputs(made),
    }
    return run(tokenizer_parity, **{**given, **changes})


@pytest.mark.parametrize("case", cases_of("tokens"), ids=lambda case: case.name)
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
    _, train, serve = finding.message.splitlines()
    assert train == "  train  W h a t    [87, 104, 97, 116, 32]"
    assert serve == "  serve  W h a t    [88, 105, 98, 117, 33]"
    assert ran.measured["rows_different"] == ran.measured["served_rows_different"] == 2


def test_another_serving_template_is_an_error_at_the_template() -> None:
    other = job(serving={"chat_template": "other.jinja"})

    [finding] = check(serving=serving_side(opening="<|assistant|>\n"), job=other).findings

    assert finding.at == other.at("serving.chat_template")
    assert "2 of 2 rendered rows and 8 of 8 rendered probes, the same on 64 plain probes" in finding.message
    assert finding.message.endswith('probe "one turn", token 34\n  train  (ends here)\n  serve  ↵  [10]')


def test_switches_that_only_the_server_sends_are_an_error_at_the_switches() -> None:
    side = Switching()
    asked = job(serving={"chat_template_kwargs": {"enable_thinking": False}})
    serving = ServingSide(side, same=True, switches=asked.serving.chat_template_kwargs)

    [finding] = check(side, serving, job=asked).findings

    assert finding.at == asked.at("serving.chat_template_kwargs")


def test_a_row_that_trains_with_the_same_switches_agrees() -> None:
    side = Switching()
    switches = {"enable_thinking": False}
    one = dataclasses.replace(sample(TALK).rows[0], template_kwargs=switches)

    ran = check(side, ServingSide(side, same=True, switches=switches), sample=Sample((one,), 1))

    assert ran.measured["served_rows_different"] == 0
    assert ran.measured["probes_different"] == 8


def test_a_conversation_that_only_one_side_can_render_is_an_error_not_a_crash() -> None:
    [finding] = check(serving=ServingSide(Refusing(), same=False)).findings
    assert finding.severity is Severity.ERROR
    assert "serving cannot render it: the chat template raised TemplateError" in finding.message


def test_a_conversation_that_no_side_can_render_is_no_difference() -> None:
    side = Refusing()
    assert check(side, ServingSide(side, same=True)).result.outcome == "passed"


def test_rows_are_rendered_with_the_template_that_training_applies() -> None:
    side = Swapped(training_template="{% generation %}")

    ran = check(side, ServingSide(side, same=True))

    [finding] = ran.findings
    assert ran.measured["rows_different"] == 2
    assert ran.measured["probes_different"] == 0
    assert "TRL's own version" in (finding.fix or "")


def test_words_of_rows_are_never_shown() -> None:
    ran = check(tokenizer(reference_shift=3), serving_side(opening="<|assistant|> "))
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
    held = gold(("Why?", "So."), ("And?", "Then."), using=tokenizer(opening="<|assistant|>\n"))

    ran = check(job=asked, inputs=inputs(asked, gold=held))

    [finding] = ran.findings
    assert finding.at == asked.at("data.gold")
    assert finding.message.startswith("2 of 2 gold prompts have other ids than training gives them")
    assert ran.measured["gold_different"] == 2


def test_a_gold_set_that_does_not_open_is_noted() -> None:
    asked = job(data={"gold": {"path": "gold.json"}})

    ran = check(job=asked, inputs=inputs(asked, broken={"gold": "no such file"}))

    assert ran.result.outcome == "passed"
    assert ran.worst is Severity.INFO


def test_long_rows_are_left_out_once_the_budget_is_spent() -> None:
    long = ({"role": "user", "content": "x" * 150_000}, {"role": "assistant", "content": "y"})

    ran = check(sample=sample(long, TALK, long))

    assert ran.measured["rows_compared"] == 2


REAL = ("phi-3-mini-without-config", "phi-3-mini-instruct")


def real(realdata: Path, folder: Path, training: str, serving: str | None) -> Ran:
    from ftcheck_plugins import preparation
    from ftcheck_plugins import tokenizer as loaders

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
    return run(tokenizer_parity, **{name: opened.get(name) for name in tokenizer_parity.inputs})


@pytest.mark.realdata
def test_phi_3_without_its_config_gives_other_ids_than_its_tokenizer_json(
    realdata: Path, tmp_path: Path
) -> None:
    ran = real(realdata, tmp_path, REAL[0], None)

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert "transformers (LlamaTokenizer) gives other ids than tokenizer.json" in finding.message
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
