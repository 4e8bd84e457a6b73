"""The shipped sample jobs are valid, reproducible and small."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.places import SAMPLES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JOBS = ("mapper", "analyst")
ROLES = ["system", "user", "assistant"]
VERDICTS = {"Verdict: approve", "Verdict: reject", "Verdict: escalate"}
STOPS = {"mapper": "<|eot_id|>", "analyst": "<|end|>"}
MIB = 1024 * 1024

Chat = list[dict[str, str]]

each_job = pytest.mark.parametrize("job", JOBS)


def chats(job: str, split: str) -> list[Chat]:
    text = (SAMPLES / job / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["messages"] for line in text.splitlines()]


def golden(job: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((SAMPLES / job / "golden.json").read_text("utf-8"))
    return items


def rows(job: str) -> Iterator[Chat]:
    yield from chats(job, "train")
    yield from chats(job, "eval")


def normal(text: str) -> str:
    """The text without case and spacing."""
    return " ".join(text.lower().split())


def inputs(job: str) -> list[str]:
    """Every input of every split, normalised."""
    texts = [chat[1]["content"] for chat in rows(job)] + [item["input"] for item in golden(job)]
    return [normal(text) for text in texts]


def contents(document: "Chat | str") -> list[str]:
    """The texts of a conversation, or the one text that it is."""
    return [document] if isinstance(document, str) else [turn["content"] for turn in document]


def load_script() -> ModuleType:
    """The script as a module, although its folder is no package."""
    spec = spec_from_file_location("make_samples", SAMPLES / "make_samples.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def open_tokenizer(job: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        SAMPLES / "models" / f"{job}-tiny", local_files_only=True
    )
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers() -> "dict[str, PreTrainedTokenizerBase]":
    return {job: open_tokenizer(job) for job in JOBS}


@each_job
def test_each_row_is_one_exchange_under_the_same_system_prompt(job: str) -> None:
    found = list(rows(job))

    assert all([turn["role"] for turn in chat] == ROLES for chat in found)
    assert all(turn["content"].strip() == turn["content"] != "" for c in found for turn in c)
    assert len({chat[0]["content"] for chat in found}) == 1


@each_job
def test_the_splits_have_the_promised_sizes(job: str) -> None:
    sizes = {"mapper": (1500, 120), "analyst": (1000, 100)}

    assert (len(chats(job, "train")), len(chats(job, "eval"))) == sizes[job]
    assert len(golden(job)) >= 200


@each_job
def test_no_input_appears_twice_in_or_across_splits(job: str) -> None:
    found = inputs(job)

    assert len(set(found)) == len(found)


@each_job
def test_golden_ids_are_unique_and_items_have_no_other_keys(job: str) -> None:
    items = golden(job)

    assert len({item["id"] for item in items}) == len(items)
    assert all(item.keys() == {"id", "input", "expected"} for item in items)


def test_every_mapper_answer_fits_the_output_schema() -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads((SAMPLES / "mapper" / "output_schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    answers = [json.loads(chat[2]["content"]) for chat in rows("mapper")]
    answers += [item["expected"] for item in golden("mapper")]

    assert [answer for answer in answers if not validator.is_valid(answer)] == []
    for name, spec in schema["properties"].items():
        assert {answer[name] for answer in answers} == set(spec["enum"])


def test_each_mapper_intent_is_phrased_in_many_ways() -> None:
    phrasings = defaultdict(set)
    for chat in rows("mapper"):
        phrasings[json.loads(chat[2]["content"])["intent"]].add(chat[1]["content"])

    assert min(len(texts) for texts in phrasings.values()) >= 40


def test_every_analyst_answer_reasons_and_ends_in_a_verdict() -> None:
    answers = [chat[2]["content"].split("\n") for chat in rows("analyst")]

    assert all(len(lines) == 2 and lines[0].count(".") >= 2 for lines in answers)
    assert {lines[1] for lines in answers} == VERDICTS
    assert {item["expected"] for item in golden("analyst")} == VERDICTS


@each_job
def test_the_template_puts_the_answer_and_its_stop_token_in_the_loss(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    tokenizer = tokenizers[job]
    found = list(rows(job))

    encoded = tokenizer.apply_chat_template(found, return_dict=True, return_assistant_tokens_mask=True)

    for chat, ids, mask in zip(found, encoded["input_ids"], encoded["assistant_masks"], strict=True):
        trained = [token for token, on in zip(ids, mask, strict=True) if on]
        assert tokenizer.decode(trained) == chat[2]["content"] + STOPS[job]
        assert trained[-1] == tokenizer.eos_token_id


@each_job
def test_the_generation_prompt_is_a_prefix_of_the_whole_conversation(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    tokenizer = tokenizers[job]

    for chat in rows(job):
        prompt = tokenizer.apply_chat_template(chat[:2], tokenize=False, add_generation_prompt=True)
        open_end = tokenizer.apply_chat_template(chat[:2], tokenize=False)
        whole = tokenizer.apply_chat_template(chat, tokenize=False)
        assert str(whole).startswith(str(prompt) + chat[2]["content"] + STOPS[job])
        assert str(prompt).startswith(str(open_end))
        assert prompt != open_end


@each_job
def test_the_template_names_a_role_it_does_not_know(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    from jinja2.exceptions import TemplateError

    with pytest.raises(TemplateError, match="unknown role 'tool'"):
        tokenizers[job].apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@each_job
def test_the_auto_tokenizer_gives_the_ids_of_tokenizer_json(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    from tokenizers import Tokenizer

    auto = tokenizers[job]
    plain = Tokenizer.from_file(str(SAMPLES / "models" / f"{job}-tiny" / "tokenizer.json"))
    texts = [turn["content"] for chat in rows(job) for turn in chat]
    texts += [str(auto.apply_chat_template(chat, tokenize=False)) for chat in rows(job)]

    for special in (True, False):
        ours = auto(texts, add_special_tokens=special)["input_ids"]
        theirs = plain.encode_batch(texts, add_special_tokens=special)
        assert ours == [encoding.ids for encoding in theirs]


@each_job
def test_the_special_tokens_are_distinct_and_the_model_stops_at_the_end_of_a_turn(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    folder, tokenizer = SAMPLES / "models" / f"{job}-tiny", tokenizers[job]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    generation = json.loads((folder / "generation_config.json").read_text("utf-8"))

    assert tokenizer.eos_token == STOPS[job]
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert config["eos_token_id"] == tokenizer.eos_token_id == generation["eos_token_id"][0]
    assert config["pad_token_id"] == tokenizer.pad_token_id == generation["pad_token_id"]
    assert config["vocab_size"] == len(tokenizer)
    assert config["max_position_embeddings"] == tokenizer.model_max_length


@each_job
def test_every_linear_layer_fits_nf4_blocks(job: str) -> None:
    from safetensors import safe_open

    file = SAMPLES / "models" / f"{job}-tiny" / "model.safetensors"
    with safe_open(file, framework="np") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    linear = [shape for name, shape in shapes.items() if name.endswith("proj.weight")]

    assert linear
    assert all(size % 64 == 0 for shape in linear for size in shape)


def test_the_samples_stay_small() -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    sizes = [path.stat().st_size for path in files]

    assert max(sizes) <= 3_000_000
    assert sum(sizes) <= 6_000_000


@each_job
def test_the_data_is_utf_8_with_unix_line_ends(job: str) -> None:
    for path in (SAMPLES / job).iterdir():
        text = path.read_bytes()
        assert text.decode("utf-8").endswith("\n"), path.name
        assert b"\r" not in text, path.name


@each_job
def test_the_base_model_reads_no_input_of_the_data_and_none_with_its_answer(job: str) -> None:
    script = load_script()
    maker = script.mapper_job() if job == "mapper" else script.analyst_job()

    examples = script.unseen(maker, 600)
    documents = [contents(document) for document in maker.documents(maker, examples, Random(1))]

    assert not {normal(example.prompt) for example in examples} & set(inputs(job))
    for example, texts in zip(examples, documents, strict=True):
        answers = [text for text in texts if text.startswith("{") or "Verdict" in text]
        assert not (answers and example.prompt in texts)


@each_job
def test_the_base_model_has_learned_to_write_every_token_of_an_answer(
    job: str, tokenizers: "dict[str, PreTrainedTokenizerBase]"
) -> None:
    """A token that it never wrote has no place in its table of outputs, and LoRA gives it none."""
    script, tokenizer = load_script(), tokenizers[job]
    maker = script.mapper_job() if job == "mapper" else script.analyst_job()

    written = {token for _, labels in script.reading(maker, tokenizer, 2000) for token in labels}

    answers = [tokenizer.encode(chat[2]["content"], add_special_tokens=False) for chat in rows(job)]
    assert {token for ids in answers for token in ids} <= written


def test_the_device_of_a_request_is_the_one_that_it_names() -> None:
    grammar = load_script().mapper_job().grammar["devices"]
    words = {device: "|".join(map(re.escape, names)) for device, names in grammar.items() if device != "none"}

    for chat in rows("mapper"):
        named = {
            device for device, any_of in words.items() if re.search(rf"\b({any_of})\b", chat[1]["content"])
        }
        assert (named or {"none"}) == {json.loads(chat[2]["content"])["device"]}, chat[1]["content"]


def test_the_script_makes_the_committed_data_again(tmp_path: Path) -> None:
    script = SAMPLES / "make_samples.py"
    command = [sys.executable, str(script), "--data-only", "--out", str(tmp_path)]

    subprocess.run(command, check=True)

    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 7
    for path in made:
        assert path.read_bytes() == (SAMPLES / path.relative_to(tmp_path)).read_bytes(), path.name
