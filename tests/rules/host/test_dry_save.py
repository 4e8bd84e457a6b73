from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.host.cases.dry_save import CASES
from ftcheck_rules.host.dry_save import dry_save
from ftcheck_rules.serving.server_limits import server_limits

from ftcheck.extension.rules import Rule
from ftcheck.inputs.dry_save import SavedGeneration
from ftcheck.records import Location, Severity
from ftcheck.tables import load
from ftcheck.testing import Case, Ran, job, run, saved

RULES: dict[str, Rule] = {"dry-save": dry_save, "server-limits": server_limits}
FILE = "model/generation_config.json"
VOID = SavedGeneration(FILE, ("temperature", "top_p"))
REFUSED = replace(VOID, changed=("pad_token_id",), refused="ValueError: no")
BESIDE = {"engine": "vllm", "adapter": "separate"}


def served(serving: dict[str, Any], lora: dict[str, Any] | None = None, **found: Any) -> Ran:
    one = job(model={"name": "org/base"}, training={"lora": lora or {"r": 16}}, serving=serving)
    return run(server_limits, job=one, saved=saved(**found))


def place(ran: Ran) -> str | None:
    at = ran.findings[0].at
    return at.yaml_path if at is not None else None


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one.rule}: {one.name}")
def test_the_cases(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())

    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_a_tokenizer_that_comes_back_as_it_was_passes_with_its_numbers() -> None:
    ran = run(dry_save, job=job(), saved=saved())

    assert ran.findings == ()
    assert ran.measured["tokenizer_class"] == "TokenizersBackend"
    assert ran.result.summary == "3 files saved; 8 of 8 texts have the same ids after loading again"


def test_other_ids_after_loading_again_are_an_error_that_names_the_probes() -> None:
    [finding] = run(dry_save, job=job(), saved=saved(differing=("spaces", "emoji"))).findings

    assert finding.severity is Severity.ERROR
    assert "2 of 8 probe texts" in finding.message
    assert "spaces, emoji" in finding.message
    assert finding.at == Location("policy.yaml", 1, 1, "jobs.job.model.name")


def test_the_place_of_a_tokenizer_of_its_own_is_its_key() -> None:
    own = job(model={"tokenizer": "tok"})

    [finding] = run(dry_save, job=own, saved=saved(problem="saving the tokenizer raised OSError")).findings

    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.model.tokenizer"


def test_a_config_that_full_training_cannot_save_is_an_error_at_the_file() -> None:
    [finding] = run(dry_save, job=job(), saved=saved(generation=REFUSED)).findings

    assert finding.severity is Severity.ERROR
    assert finding.at == Location(path=FILE)
    assert "once the trainer has set pad_token_id in it" in (finding.message)
    assert finding.fix == "set do_sample: true in the file, or remove temperature, top_p"


@pytest.mark.parametrize(
    ("training", "generation", "says"),
    [
        ({"lora": {}}, VOID, "this run saves only the adapter"),
        ({"lora": {}}, REFUSED, "this run saves only the adapter"),
        ({}, VOID, "this run saves it unchanged"),
    ],
)
def test_a_contradiction_that_this_run_survives_is_a_warning_and_does_not_claim_a_crash(
    training: dict[str, Any], generation: SavedGeneration, says: str
) -> None:
    ran = run(dry_save, job=job(training=training), saved=saved(generation=generation))

    assert ran.worst is Severity.WARNING
    assert says in ran.findings[0].message


def test_a_contradiction_that_is_not_about_sampling_is_not_laid_to_do_sample() -> None:
    ran = run(dry_save, job=job(), saved=saved(generation=SavedGeneration(FILE, ("early_stopping",))))

    assert "do_sample" not in ran.findings[0].message
    assert "early_stopping" in ran.findings[0].message


def test_a_config_that_holds_together_is_not_spoken_of() -> None:
    assert run(dry_save, job=job(), saved=saved(generation=SavedGeneration(FILE))).findings == ()


def test_without_a_server_there_is_nothing_to_hold_the_job_against() -> None:
    ran = served({})

    assert ran.skipped is not None
    assert ran.skipped.startswith("none of serving.engine, serving.adapter and serving.transformers is set")


def test_a_server_that_nothing_is_known_of_is_a_skip() -> None:
    assert served({"engine": "ollama"}).result.outcome == "skipped"
    assert served({"adapter": "merged"}).result.outcome == "skipped"


def test_a_rank_above_the_servers_is_an_error_that_names_the_flag_and_changes_no_rank() -> None:
    [finding] = served(BESIDE, {"r": 40}).findings

    assert finding.severity is Severity.ERROR
    assert finding.message == "the adapter's rank is 40, but vLLM loads adapters up to rank 16 (its default)"
    assert finding.fix == "start the server with --max-lora-rank 64, and set serving.max_lora_rank: 64"
    assert finding.change is None
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.training.lora.r"


def test_the_rank_that_the_server_was_started_for_counts() -> None:
    assert served({**BESIDE, "max_lora_rank": 64}, {"r": 64}).findings == ()
    assert served({**BESIDE, "max_lora_rank": 32}, {"r": 64}).worst is Severity.ERROR
    assert served({"adapter": "separate", "max_lora_rank": 8}, {"r": 16}).worst is Severity.ERROR


def test_a_rank_of_single_modules_counts_too() -> None:
    ran = served(BESIDE, {"r": 8, "extra": {"rank_pattern": {"q_proj": 32}}})

    assert ran.measured["lora_rank"] == 32
    assert ran.worst is Severity.ERROR


def test_a_largest_rank_that_the_server_does_not_start_with_is_an_error() -> None:
    assert place(served({**BESIDE, "max_lora_rank": 24})) == "jobs.job.serving.max_lora_rank"


@pytest.mark.parametrize(
    ("key", "lora"),
    [
        ("modules_to_save", {"modules_to_save": ("lm_head",)}),
        ("use_dora", {"use_dora": True}),
        ("bias", {"bias": "all"}),
        ("trainable_token_indices", {"extra": {"trainable_token_indices": [7]}}),
    ],
)
def test_what_is_no_lora_matrix_is_refused_beside_vllm_and_taken_when_merged(
    key: str, lora: dict[str, Any]
) -> None:
    [finding] = served(BESIDE, {"r": 16, **lora}).findings

    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == f"jobs.job.training.lora.{key}"
    assert served({**BESIDE, "adapter": "merged"}, {"r": 16, **lora}).findings == ()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("/tmp/base", True),
        ("/home/me/.cache/huggingface/hub/models--org--base/snapshots/0123", True),
        ("/models/base", False),
        ("org/base", False),
    ],
)
def test_a_base_in_a_folder_that_goes_away_is_a_warning(name: str, bad: bool) -> None:
    one = job(model={"name": name}, training={"lora": {"r": 16}}, serving=BESIDE)

    ran = run(server_limits, job=one, saved=saved())

    assert (ran.worst is Severity.WARNING) is bad
    assert not bad or place(ran) == "jobs.job.model.name"


def test_a_class_that_the_servers_transformers_does_not_know_is_an_error_there() -> None:
    ran = served({"engine": "vllm", "transformers": "4.57.6"})

    assert ran.worst is Severity.ERROR
    assert place(ran) == "jobs.job.serving.transformers"
    assert "TokenizersBackend" in ran.findings[0].message


@pytest.mark.parametrize("version", ["5.0.0", "5.23", "6.0"])
def test_transformers_5_knows_what_transformers_5_saves(version: str) -> None:
    assert served({"engine": "vllm", "transformers": version}).findings == ()


def test_special_tokens_in_a_list_stop_transformers_4() -> None:
    config = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": ["<|im_start|>"]}

    [finding] = served({"engine": "vllm", "transformers": "4.57.6"}, tokenizer_config=config).findings

    assert finding.severity is Severity.ERROR
    assert "extra_special_tokens" in finding.message
    assert served({"engine": "vllm"}, tokenizer_config=config).findings == ()


@pytest.mark.parametrize(
    "serving",
    [
        {"engine": "vllm", "transformers": "4.46.3", "tokenizer": "another"},
        {"engine": "vllm", "transformers": "4.46.3", "adapter": "separate"},
    ],
)
def test_a_server_that_does_not_load_the_saved_tokenizer_is_not_blamed_for_it(
    serving: dict[str, Any],
) -> None:
    assert served(serving).findings == ()


@pytest.mark.parametrize(
    ("serving", "where"),
    [
        ({"engine": "tgi"}, "jobs.job.serving.engine"),
        ({"engine": "tgi", "engine_version": "2.4.0"}, "jobs.job.serving.engine"),
        ({"engine": "vllm", "transformers": "4.46.3"}, "jobs.job.serving.transformers"),
    ],
)
def test_a_template_in_a_file_that_the_server_does_not_read_is_a_warning(
    serving: dict[str, Any], where: str
) -> None:
    ran = served(serving, tokenizer_class="LlamaTokenizer")

    assert ran.worst is Severity.WARNING
    assert place(ran) == where


@pytest.mark.parametrize(
    ("serving", "template_file"),
    [
        ({"engine": "tgi"}, "tokenizer_config.json"),
        ({"engine": "tgi", "chat_template": "serve.jinja"}, "chat_template.jinja"),
        ({"engine": "vllm", "transformers": "4.47.0"}, "chat_template.jinja"),
        ({"engine": "vllm"}, "chat_template.jinja"),
        ({"engine": "tgi"}, None),
    ],
)
def test_a_template_that_the_server_finds_is_not_spoken_of(
    serving: dict[str, Any], template_file: str | None
) -> None:
    ran = served(serving, tokenizer_class="LlamaTokenizer", template_file=template_file)

    assert ran.findings == ()


def test_llama_cpp_knows_a_pretokenizer_by_its_hash() -> None:
    known = load("llama_cpp_pretokenizers")["known"]
    llama = next(digest for digest, name in known.items() if name == "llama-bpe")

    ran = served({"engine": "llama.cpp"}, pretokenizer=llama)

    assert ran.findings == ()
    assert ran.measured["pretokenizer"] == "llama-bpe"


def test_a_hash_that_llama_cpp_does_not_know_is_a_warning_at_the_engine() -> None:
    ran = served({"engine": "llama.cpp"}, pretokenizer="0" * 64)

    assert ran.worst is Severity.WARNING
    assert place(ran) == "jobs.job.serving.engine"
    assert "000000000000" in ran.findings[0].message


def test_vocabularies_that_llama_cpp_copies_are_not_looked_up() -> None:
    assert served({"engine": "llama.cpp"}, pretokenizer=None).result.outcome == "skipped"
