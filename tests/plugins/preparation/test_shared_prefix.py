"""Prompts that are tokenised once: the ids of the parts are those of the whole, or nothing is cut."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.tokenizer import open_tokenizer
from ftcheck_plugins.preparation.rendering import Differs, Rendered
from ftcheck_plugins.preparation.shared_prefix import cut, is_cuttable
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer
from tokenizers import Tokenizer

from ftcheck.records import Location
from ftcheck.settings import Training
from tests.benchmarks.vocabularies import deepseek_like, falcon_like
from tests.places import DATA

# fmt: off
WORDS = (
    "don't", "I'LL", "été", "漢字", "e\u0301", "12345", "3.14", "a", "B", "_x", "\n", "\r\n\n", "\t", "  ",
    " ", "<|im_end|>", "(y)", "--", "…", "👩‍👩‍👧", "ﬁ", "\u0301", "\u00a0", "'s", "' t",
)
# fmt: on


def some_text(rng: random.Random) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(("", " ", " ")) for _ in range(rng.randint(1, 12)))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("a", 0),
        ("a b", 1),
        ("a b ", 1),
        ("a  b", 0),
        ("é b", 0),
        ("a é", 0),
        ("a b c", 3),
        ("x y 1 2", 1),
    ],
)
def test_the_last_space_between_two_letters_is_the_cut(text: str, at: int) -> None:
    assert cut(text) == at


@pytest.fixture(params=["falcon", "deepseek", "gpt2", "llama-3-instruct", "Qwen3"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if not (DATA / "tokenizers").is_dir():
        pytest.skip("no shared data here")
    made = {"falcon": falcon_like, "deepseek": deepseek_like}.get(request.param)
    folder = made(tmp_path / "t") if made is not None else DATA / "tokenizers" / request.param
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.realdata
def test_the_ids_of_the_parts_are_those_of_the_whole(raw: Any) -> None:
    assert is_cuttable(raw, raw.get_added_tokens_decoder().values())
    rng = random.Random(0)
    seen = 0
    for _ in range(4_000):
        text = some_text(rng)
        for at in range(1, len(text) - 1):
            if text[at] == " " and cut(text[: at + 2]) == at:
                parts = [raw.encode(one, add_special_tokens=False).ids for one in (text[:at], text[at:])]
                assert parts[0] + parts[1] == raw.encode(text, add_special_tokens=False).ids, text
                seen += 1
    assert seen > 500


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["phi-3-mini-instruct", "TinyLlama-1.1B-Chat-v1.0"])
def test_sentencepiece_is_not_cut(name: str) -> None:
    file = DATA / "tokenizers" / name / "tokenizer.json"
    if not file.is_file():
        pytest.skip("no shared data here")
    assert not is_cuttable(Tokenizer.from_file(str(file)), ())


@pytest.mark.realdata
@pytest.mark.parametrize("change", ["pattern", "prefix", "dropout", "normalizer", "added"])
def test_what_was_not_read_is_not_cut(change: str) -> None:
    file = DATA / "tokenizers" / "gpt2" / "tokenizer.json"
    if not file.is_file():
        pytest.skip("no shared data here")
    stated = json.loads(file.read_text(encoding="utf-8"))
    split = {"type": "Split", "pattern": {"Regex": "a b"}, "behavior": "Isolated", "invert": False}
    added = {"id": 60_000, "content": "new york", "special": False, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    if change == "pattern":
        stated["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, stated["pre_tokenizer"]]}
    elif change == "prefix":
        stated["pre_tokenizer"]["add_prefix_space"] = True
    elif change == "dropout":
        stated["model"]["dropout"] = 0.1
    elif change == "normalizer":
        stated["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    else:
        stated["added_tokens"].append({**added, **flags})
    raw = Tokenizer.from_str(json.dumps(stated))
    assert not is_cuttable(raw, raw.get_added_tokens_decoder().values())


@pytest.mark.realdata
def test_a_row_that_differs_ends_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / "tokenizers" / "gpt2").is_dir():
        pytest.skip("no shared data here")
    side = open_tokenizer(str(falcon_like(tmp_path / "t")), offline=True, place=Location())
    rows = RowTokenizer(side, Training())
    assert rows._cutting
    texts = [[Rendered("one two", None), Rendered("one two three", None)]]
    assert [len(one.ids) for one in rows._pairs(texts)] == [2, 3]
    monkeypatch.setattr("ftcheck_plugins.preparation.shared_prefix.cut", lambda text: 2)
    with pytest.raises(Differs, match="prompt is tokenised once"):
        RowTokenizer(side, Training())._pairs(texts)
