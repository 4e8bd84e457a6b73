"""Ids beyond the table, tables of another size, and embeddings that nobody trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.tokens.cases.vocabulary import CASES
from ftcheck_rules.tokens.vocabulary import added_tokens, vocabulary

from ftcheck import Severity
from ftcheck.testing import (
    Case,
    Ran,
    job,
    model_config,
    modules,
    prepared,
    run,
    token_store,
    tokenizer,
    weights,
)

RULES = {rule.id: rule for rule in (vocabulary, added_tokens)}
TABLE = 1_000_064
MARK = 1_000_000
"""The kit's tokenizer has its special tokens from here on: <|end|>, <|pad|>, <|system|>, <|user|> ..."""
NEW = MARK + 64


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def looked(*rows: list[int], **given: Any) -> Ran:
    """`vocabulary` on these rows, with a table that just holds the kit's tokens."""
    inputs = {
        "job": job(**given.pop("sections", {})),
        "model": model_config(vocab_size=32),
        "weights": weights(TABLE),
        "tokenizer": tokenizer(size=MARK + 5),
        "prepared": prepared([len(row) for row in rows], tokens=token_store(*rows)),
    }
    return run(vocabulary, **{**inputs, **given})


def test_an_id_beyond_the_table_is_found_at_its_first_row() -> None:
    ran = looked([1, 2], [3, NEW], [NEW, NEW + 1])
    [finding] = ran.findings
    assert (finding.severity, finding.at and finding.at.row) == (Severity.ERROR, 2)
    assert finding.message == (
        f"token id {NEW} and 1 other id in 2 rows lie beyond the embedding table, which has 1,000,064 rows"
    )
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.job.model.resize_embeddings_to", NEW + 64)


def test_the_change_makes_room() -> None:
    assert not looked([NEW], sections={"model": {"resize_embeddings_to": NEW + 64}}).findings


def test_the_last_row_of_the_table_is_no_finding() -> None:
    ran = looked([1, TABLE - 1])
    assert not ran.findings
    assert ran.measured == {"max_id": TABLE - 1, "rows": TABLE, "tokenizer_size": MARK + 5}


def test_the_file_comes_before_config_json() -> None:
    assert looked([40]).measured["rows"] == TABLE
    config_only = looked([40], weights=None)
    assert config_only.measured["rows"] == 32
    assert config_only.worst is Severity.ERROR


def test_the_texts_part_of_a_config_is_read() -> None:
    config = model_config(text_config={"vocab_size": TABLE})
    assert looked([40], weights=None, model=config).measured["rows"] == TABLE


def test_a_table_of_unknown_size_is_not_judged() -> None:
    assert "no vocab_size" in str(looked([1], weights=None, model=model_config()).skipped)


def test_rows_that_are_not_fed_do_not_count() -> None:
    given = prepared([1, 2], trained=[1, 0], max_length=8, tokens=token_store([1], [1, NEW]))
    assert not looked(prepared=given).findings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bos_token_id": NEW}, "BOS is"),
        ({"eos_token_id": NEW, "stop_ids": frozenset({NEW})}, "EOS is"),
        ({"stop_ids": frozenset({MARK, NEW})}, "a stop token is"),
    ],
)
def test_bos_eos_and_stop_tokens_need_a_row(changes: dict[str, Any], said: str) -> None:
    marks = tuple(f"<|mark{n}|>" for n in range(65))
    [finding] = looked([1], tokenizer=tokenizer(size=MARK, marks=marks, **changes)).findings
    assert finding.message.startswith(f"{said} <|mark64|> with id {NEW:,}")
    assert str(finding.at and finding.at.yaml_path) == "jobs.job.model.name"


def test_padding_is_left_to_special_tokens() -> None:
    assert not looked([1], tokenizer=tokenizer(size=MARK, pad_token_id=NEW)).findings


def test_more_tokens_than_rows_is_a_remark_while_no_row_uses_them() -> None:
    assert looked([1], tokenizer=tokenizer(size=NEW + 1)).worst is Severity.INFO


def test_a_table_is_not_made_smaller() -> None:
    [finding] = looked([1], sections={"model": {"resize_embeddings_to": MARK + 5}}).findings
    assert finding.severity is Severity.ERROR
    assert "removes 59 rows from a table of 1,000,064" in finding.message
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.job.model.resize_embeddings_to", None)


@pytest.mark.parametrize("adapter", [None, "merged"])
def test_a_larger_table_fits_a_server_that_loads_the_merged_model(adapter: str | None) -> None:
    sections: dict[str, Any] = {"model": {"resize_embeddings_to": NEW}, "serving": {"adapter": "separate"}}
    grown = {"model": {"resize_embeddings_to": NEW + 64}, "serving": {"adapter": "separate"}}
    assert not looked([1], sections=sections).findings
    [finding] = looked([1], sections=grown).findings
    assert "the server's base has 1,000,064" in finding.message
    assert str(finding.at and finding.at.yaml_path) == "jobs.job.model.resize_embeddings_to"
    assert not looked([1], sections={**grown, "serving": {"adapter": adapter}}).findings


# --- added tokens ---------------------------------------------------------------------------------------


def tokens(*rows: list[int], size: int | None = NEW + 64, tied: bool = True, **given: Any) -> Ran:
    """`added-tokens` on these rows; `lora` and `serving` are sections of the job."""
    training = given.pop("training", {"lora": given.pop("lora", {})})
    counted = given.pop("trained", None)
    inputs = {
        "job": job(model={"resize_embeddings_to": size}, training=training),
        "model": model_config(vocab_size=TABLE),
        "modules": modules(vocabulary=TABLE, tied=tied),
        "weights": weights(TABLE, tied=tied),
        "tokenizer": tokenizer(),
        "prepared": prepared([len(row) for row in rows], tokens=token_store(*rows, trained=counted)),
    }
    return run(added_tokens, given.pop("params", {}), **{**inputs, **given})


def test_a_new_token_that_lora_leaves_is_an_error_that_the_change_mends() -> None:
    ran = tokens([1, NEW, NEW + 3])
    [finding] = ran.findings
    assert (finding.severity, str(finding.at and finding.at.yaml_path)) == (
        Severity.ERROR,
        "jobs.job.training.lora",
    )
    assert ran.measured["new_tokens_untrained"] == 2
    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.lora.trainable_token_indices"
    assert finding.change.new == [NEW, NEW + 3]
    assert not tokens(
        [1, NEW, NEW + 3], lora={"extra": {"trainable_token_indices": finding.change.new}}
    ).findings


@pytest.mark.parametrize(
    "lora",
    [
        {"modules_to_save": ("embed_tokens",)},
        {"modules_to_save": ("lm_head",), "extra": {"ensure_weight_tying": True}},
        {"modules_to_save": ("model.embed_tokens",)},
        {"target_modules": ("q_proj", "embed_tokens")},
        {"extra": {"trainable_token_indices": [NEW]}},
        {"extra": {"trainable_token_indices": {"embed_tokens": [NEW]}}},
    ],
)
def test_a_new_token_that_is_trained_is_no_finding(lora: dict[str, Any]) -> None:
    assert not tokens([1, NEW], lora=lora).findings


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": "all-linear"},
        {"modules_to_save": ("embed",)},
        {"extra": {"trainable_token_indices": [NEW + 1]}},
        {"extra": {"trainable_token_indices": {"lm_tail": [NEW]}}},
    ],
)
def test_a_new_token_that_is_not_among_those_trained_is_an_error(lora: dict[str, Any]) -> None:
    assert tokens([1, NEW], lora=lora).worst is Severity.ERROR


@pytest.mark.parametrize(
    ("lora", "path", "new"),
    [
        (
            {"extra": {"trainable_token_indices": [NEW]}},
            "trainable_token_indices",
            {"embed_tokens": [NEW], "lm_head": [NEW]},
        ),
        ({"modules_to_save": ("embed_tokens",)}, "modules_to_save", ["embed_tokens", "lm_head"]),
        ({}, "trainable_token_indices", {"embed_tokens": [NEW], "lm_head": [NEW]}),
    ],
)
def test_a_token_in_the_loss_needs_both_tables_where_there_are_two(lora: Any, path: str, new: Any) -> None:
    [finding] = tokens([1, NEW], tied=False, lora=lora).findings
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == (f"jobs.job.training.lora.{path}", new)
    mended = {"modules_to_save": tuple(new)} if path == "modules_to_save" else {"extra": {path: new}}
    assert not tokens([1, NEW], tied=False, lora=mended).findings


def test_a_token_of_prompts_needs_no_row_in_the_output_layer() -> None:
    lora = {"extra": {"trainable_token_indices": [NEW]}}
    assert not tokens([NEW, 1], tied=False, lora=lora, trained=[1]).findings


def test_room_that_no_row_uses_needs_no_training() -> None:
    assert not tokens([1, 2]).findings


def test_ids_beyond_the_resized_table_are_left_to_vocabulary() -> None:
    assert not tokens([1, NEW + 64]).findings


@pytest.mark.parametrize("kind", ["zero", "equal"])
def test_special_tokens_that_the_base_never_trained_are_an_error(kind: str) -> None:
    dead = {"zero": (MARK,), "equal": (MARK, MARK + 3)}[kind]
    side = weights(TABLE, zero=dead) if kind == "zero" else weights(TABLE, equal=dead)
    ran = tokens([1, MARK + 3, MARK], size=None, weights=side)
    [finding] = ran.findings
    assert (finding.severity, str(finding.at and finding.at.yaml_path)) == (
        Severity.ERROR,
        "jobs.job.model.name",
    )
    assert f"<|end|> ({MARK})" in finding.message
    assert {"zero": "all zero", "equal": "identical"}[kind] in finding.message
    assert finding.change is not None
    assert finding.change.new == list(dead)
    mended = {"extra": {"trainable_token_indices": list(dead)}}
    again = tokens([1, MARK + 3, MARK], size=None, weights=side, lora=mended)
    assert not again.findings


def test_dead_rows_that_nothing_uses_are_no_finding() -> None:
    side = weights(TABLE, zero=(MARK + 1, MARK + 2, MARK + 4), equal=(7, 8))
    assert not tokens([1, 7, 8, MARK], size=None, weights=side).findings


def test_a_stop_token_is_looked_at_though_no_row_has_it() -> None:
    assert tokens([1], size=None, weights=weights(TABLE, zero=(MARK,))).worst is Severity.ERROR


def test_how_small_is_zero_is_a_parameter() -> None:
    assert tokens([1, MARK], size=None, params={"zero": 1e9}).worst is Severity.ERROR


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"training": {}}, "all weights are trained"),
        ({"size": None, "weights": None}, "the weights are not on this machine"),
        ({"size": None, "weights": weights(TABLE, dtype="F8_E4M3")}, "the weights are not on this machine"),
    ],
)
def test_nothing_to_look_at_is_never_a_pass(given: dict[str, Any], reason: str) -> None:
    assert reason in str(tokens([1], **given).skipped)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("side", "config"),
    [
        ("Llama-3.1-8B-Instruct", "Meta-Llama-3-8B-Instruct"),
        ("Mistral-7B-Instruct-v0.3", "Mistral-7B-Instruct-v0.3"),
        ("Qwen2.5-Instruct", "Qwen2.5-7B-Instruct"),
        ("phi-3-mini-instruct", "Phi-3-mini-4k-instruct"),
    ],
)
def test_published_tokenizers_fit_their_tables(realdata: Path, side: str, config: str) -> None:
    from ftcheck_plugins.model.tokenizer import open_tokenizer

    from ftcheck import Location

    made = open_tokenizer(str(realdata / "tokenizers" / side), offline=True, place=Location())
    found = json.loads((realdata / "model-configs" / config / "config.json").read_text(encoding="utf-8"))
    row = made.encode("A request <|end|> with odd tokens \u2603 \U0001f525", special=True)
    ran = looked(row, tokenizer=made, weights=None, model=model_config(**found))
    assert not ran.findings
