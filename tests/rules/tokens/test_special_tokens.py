from typing import Any

import numpy as np
import pytest
from ftcheck_rules.tokens.cases.special_tokens import CASES, BeginsTexts
from ftcheck_rules.tokens.special_tokens import special_tokens

from ftcheck import Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.testing import Case, FakeTokenizer, Ran, job, model_config, prepared, rows, run, tokenizer

PAD, EOS, BOS = 1_000_001, 1_000_000, 1_000_005


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(special_tokens, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def check(
    bos: list[int], *, using: FakeTokenizer | None = None, turns: int = 3, config: Any = None, **sections: Any
) -> Ran:
    where = rows(len(bos), turns=[turns] * len(bos))
    return run(
        special_tokens,
        job=job(**sections),
        tokenizer=using or BeginsTexts(),
        prepared=prepared([9] * len(bos), of=where, bos=np.array(bos, dtype=np.int32)),
        model=model_config(**(config or {})),
    )


def test_two_bos_are_an_error_at_the_first_row_that_has_them() -> None:
    ran = check([1, 2, 2])

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert str(finding.at) == "train.jsonl:2:1"
    assert finding.message.startswith("2 of 3 rows start with two <|begin|> tokens")
    assert ran.measured["rows_with_two_bos"] == 2


def test_conversations_without_bos_are_a_warning_at_the_template() -> None:
    [finding] = check([0, 0]).findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("model.chat_template")


def test_no_bos_is_asked_for_where_the_tokenizer_adds_none() -> None:
    """Qwen has none; others have one that they never write."""
    silent = FakeTokenizer(bos_token_id=BOS, marks=BeginsTexts.marks)
    assert check([0, 0], using=silent).result.outcome == "passed"
    assert check([0, 0], using=FakeTokenizer()).result.outcome == "passed"


def test_no_bos_is_asked_for_in_text_that_no_template_renders() -> None:
    assert check([0, 0], turns=0).result.outcome == "passed"


def test_a_padding_token_past_the_table_is_an_error_at_the_model() -> None:
    [finding] = check([1], config={"vocab_size": PAD}).findings

    assert finding.severity is Severity.ERROR
    assert finding.at == job().at("model.name")
    assert finding.message == (
        "the padding token <|pad|> has id 1,000,001, but the embedding table has 1,000,001 rows"
    )


@pytest.mark.parametrize("config", [{"vocab_size": PAD + 1}, {"text_config": {"vocab_size": PAD + 1}}, {}])
def test_a_padding_token_in_the_table_passes(config: Any) -> None:
    assert check([1], config=config).result.outcome == "passed"


def test_a_table_that_grows_takes_the_token_in() -> None:
    ran = check([1], config={"vocab_size": PAD}, model={"resize_embeddings_to": PAD + 1})
    assert ran.result.outcome == "passed"


def test_no_padding_token_is_fine_as_trl_takes_eos() -> None:
    ran = check([1], using=BeginsTexts(pad_token_id=None))
    assert ran.result.outcome == "passed"
    assert ran.measured["pad_token"] == "not set (TRL takes EOS)"


def test_a_padding_token_that_the_policy_names_is_the_one_that_counts() -> None:
    ran = check([1], training={"extra": {"pad_token": "<|begin|>"}})

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.at == job().at("training.pad_token")


def test_padding_with_unknown_is_a_remark_unless_the_models_makers_chose_it() -> None:
    marks = ("<|end|>", "<unk>", *BeginsTexts.marks[2:])

    [finding] = check([1], using=BeginsTexts(marks=marks)).findings

    assert finding.severity is Severity.INFO
    own = check([1], using=BeginsTexts(marks=marks), config={"pad_token_id": PAD})
    assert not own.findings


def test_no_prepared_row_is_skipped() -> None:
    ran = run(
        special_tokens,
        job=job(),
        tokenizer=BeginsTexts(),
        prepared=prepared([9], row_errors={0: RowError("json", "not JSON")}),
        model=model_config(),
    )
    assert ran.skipped == "no row could be prepared"


def test_25_several_bos_are_told_by_where_they_come_from() -> None:
    """Three BOS where the text has none: the template writes them."""
    side = tokenizer(bos_token_id=1_000_002)
    marked = rows(1, marks={"<|system|>": [0]})

    def message(of: Any) -> str:
        made = prepared([9], bos=np.array([3], dtype=np.int32), of=of)
        ran = run(special_tokens, job=job(), tokenizer=side, prepared=made, model=model_config())
        return ran.findings[0].message

    assert message(rows(1)).endswith("up to 3 <|system|> tokens: the text has none, the template writes them")
    assert message(marked).endswith("one is in the text, the template writes the other")
