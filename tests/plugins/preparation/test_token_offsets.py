"""Masks without offsets: the same as with them, or left to them."""

import random
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation.rendering import Rendered, Renderer, Request
from ftcheck_plugins.preparation.token_offsets import Places, Unclear
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer
from tokenizers import processors

from ftcheck import templates
from ftcheck.records import Location
from ftcheck.settings import Training
from tests.places import DATA

WORDS = (
    "apples",
    "  two",
    "naïve",
    "漢字",
    "5",
    "\n\n",
    "<|eot_id|>",
    "👩‍👩‍👧",
    " x ",
    "don't",
    "",
    "</s>",
    "é",
)


def opened(folder: Path) -> ChatTokenizer:
    return tokenizer.open_tokenizer(str(folder), offline=True, place=Location(path="policy.yaml"))


def texts(chat: ChatTokenizer, count: int) -> list[Rendered]:
    """Rendered conversations of odd words, with their spans."""
    rng = random.Random(0)
    requests = []
    for _ in range(count):
        said = ["".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(4)]
        roles = ("user", "assistant", "user", "assistant")
        requests.append(
            Request([{"role": r, "content": s} for r, s in zip(roles, said, strict=True)], marked=True)
        )
    return [one for one in Renderer(chat).batch(requests) if isinstance(one, Rendered)]


def same_masks(folder: Path) -> int:
    """How many of 400 rows were told without offsets; each as with them."""
    chat = opened(folder)
    chat.training_template = templates.applied(chat.chat_template, assistant_only_loss=True)
    chat.training_template = RowTokenizer(
        chat, Training(assistant_only_loss=True)
    )._tokenizer.training_template
    rows = RowTokenizer(chat, Training(assistant_only_loss=True))
    some = texts(chat, 400)
    ids, mask = rows._by_offsets(some)
    assert rows._places is not None
    mine, unclear = rows._places.masks([one.text for one in some], [one.spans or [] for one in some], ids)
    for n in set(range(len(some))) - set(unclear):
        row = slice(int(ids.starts[n]), int(ids.starts[n + 1]))
        assert mine[row].tolist() == mask[row].tolist(), some[n].text
    return len(some) - len(unclear)


@pytest.mark.parametrize("name", ["mapper-tiny", "analyst-tiny"])
def test_masks_are_those_of_the_offsets(name: str, samples: Path) -> None:
    assert same_masks(samples / "models" / name) > 100


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "told"), [("llama-3-instruct", 100), ("phi-3-mini-instruct", 100), ("Qwen3", 300)]
)
def test_masks_of_real_tokenizers_are_those_of_the_offsets(name: str, told: int) -> None:
    """Qwen3's blocks end in a line break, which is a token with a place of its own there."""
    if not (DATA / "tokenizers" / name).is_dir():
        pytest.skip("no shared data here")
    assert same_masks(DATA / "tokenizers" / name) > told


@pytest.mark.realdata
def test_a_space_has_no_place_of_its_own_where_the_tokenizer_trims_offsets() -> None:
    folder = DATA / "tokenizers" / "Qwen3"
    if not folder.is_dir():
        pytest.skip("no shared data here")
    backend = opened(folder).backend
    assert Places(backend.backend_tokenizer, backend.added_tokens_decoder)._spaces
    backend.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    assert not Places(backend.backend_tokenizer, backend.added_tokens_decoder)._spaces


def test_added_tokens_that_take_in_their_surroundings_are_not_for_this(samples: Path) -> None:
    class Odd:
        lstrip, rstrip, single_word, normalized, content = True, False, False, False, "<x>"

    raw: Any = opened(samples / "models" / "mapper-tiny").backend.backend_tokenizer
    with pytest.raises(Unclear):
        Places(raw, {5: Odd()})
    with pytest.raises(Unclear):
        Places(raw, {})
