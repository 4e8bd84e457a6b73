"""A fast engine gives the ids that tokenizers gives, or is left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.first_opening import found
from ftcheck_plugins.model.kept_backend import KeptBackend
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation import token_engines
from ftcheck_plugins.preparation.rendering import (
    Differs,
)
from ftcheck_plugins.preparation.token_engines import (
    WARM,
    Engine,
    Ids,
    Reference,
    joined,
)

from tests.benchmarks import vocabularies
from tests.places import DATA
from tests.plugins.preparation.kit import prepare, turns


class Wrong:
    """An engine that agrees until a word comes up that it does not know."""

    name = "wrong 1"

    def __init__(self, reference: Reference, failure: BaseException | None = None) -> None:
        self.reference, self.failure = reference, failure

    def learn(self, reference: Reference, special: bool) -> bool:
        return True

    def encode(self, texts: Sequence[str], *, special: bool) -> Ids:
        rows = [self.reference.encode([text], special=special).flat for text in texts]
        for n, text in enumerate(texts):
            if "wrong" in text and self.failure is not None:
                raise self.failure
            rows[n] = rows[n] + 1 if "wrong" in text else rows[n]
        return joined(rows)


class PanicException(BaseException):
    """As pyo3 names what a Rust panic becomes."""


def with_other(chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Engine:
    monkeypatch.setattr(token_engines, "WARM", 2)
    monkeypatch.setattr(token_engines, "_Gigatoken", Wrong)
    monkeypatch.setattr(token_engines, "_load", lambda reference: Wrong(reference, **settings))
    return Engine(Reference(chat.backend))


def test_an_engine_that_agrees_is_used_and_named(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = with_other(chat, monkeypatch)

    fast.encode(["a b", "c"], special=False)

    assert (fast.name, fast.note) == ("wrong 1", None)
    assert fast.encode(["laptop is slow"], special=False).same(
        Reference(chat.backend).encode(["laptop is slow"], special=False)
    )


def test_an_engine_that_was_loaded_ahead_is_held_against_samples_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = found(DATA / "tokenizers" / "phi-3-mini-instruct")
    assert opened is not None
    monkeypatch.setattr(token_engines, "WARM", 2)
    monkeypatch.setattr(token_engines, "_Gigatoken", Wrong)
    loads: list[Reference] = []

    def load(reference: Reference) -> Wrong:
        loads.append(reference)
        return Wrong(reference)

    monkeypatch.setattr(token_engines, "_load", load)

    for texts, name in ((["a b", "c"], "wrong 1"), (["a wrong b", "c"], "tokenizers")):
        engine = Engine(Reference(KeptBackend(*opened, lambda: None)))
        engine.load_ahead()
        assert not engine.settled
        engine.encode(texts, special=False)
        engine.close()
        assert (engine.name, engine.settled) == (name, True)

    assert len(loads) == 2


def test_a_transformers_tokenizer_is_read_by_no_other_thread(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Reference] = []
    monkeypatch.setattr(token_engines, "_load", loads.append)
    engine = Engine(Reference(chat.original))

    engine.load_ahead()
    engine.close()

    assert loads == []


def test_an_engine_that_differs_on_the_first_rows_is_not_used(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = with_other(chat, monkeypatch)

    fast.encode(["wrong", "c"], special=False)

    assert fast.name == "tokenizers"
    assert "gives other ids" in str(fast.note)


def test_an_engine_that_differs_later_ends_the_pass(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = with_other(chat, monkeypatch)
    fast.encode(["a b", "c"], special=False)

    with pytest.raises(Differs, match="other ids"):
        fast.encode(["wrong"] * 200, special=False)


@pytest.mark.parametrize("failure", [PanicException("rust"), ValueError("x")])
def test_an_engine_that_panics_leaves_the_rows_to_tokenizers(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    fast = with_other(chat, monkeypatch, failure=failure)
    fast.encode(["a b", "c"], special=False)

    made = fast.encode(["wrong"], special=False)

    assert made.same(Reference(chat.backend).encode(["wrong"], special=False))
    assert (fast.name, fast.note) == ("tokenizers", "gigatoken failed on a row")


def test_a_pass_that_must_begin_again_gives_the_same_digest(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gigatoken turns out to differ after some batches: all rows are done again without it."""
    rows = [{"messages": turns(f"it is {n}" + (" wrong" if n > 2000 else ""))} for n in range(3000)]
    plain = prepare(samples, tmp_path / "plain", rows)
    monkeypatch.setattr(token_engines, "WARM", 1000)
    monkeypatch.setattr(token_engines, "_Gigatoken", Wrong)
    monkeypatch.setattr(token_engines, "_load", Wrong)

    again = prepare(samples, tmp_path / "again", rows)

    assert again.digest == plain.digest
    assert len(again) == 3000
    assert again.engine == "tokenizers"
    assert any("other ids" in note for note in again.rows.notes)


def test_gigatoken_gives_the_same_digest(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gigatoken")
    rows = [{"messages": turns(f"naïve {n} 漢字 <|eot_id|>")} for n in range(1500)]
    monkeypatch.setattr(token_engines, "WARM", 100_000)
    slow = prepare(samples, tmp_path / "slow", rows)
    monkeypatch.setattr(token_engines, "WARM", 500)

    fast = prepare(samples, tmp_path / "fast", rows)

    assert slow.engine == "tokenizers"
    assert fast.engine.startswith("gigatoken")
    assert fast.digest == slow.digest


@pytest.mark.realdata
@pytest.mark.parametrize("escaped", [False, True])
def test_gigatoken_loads_deepseeks_words_however_line_breaks_are_written(
    tmp_path: Path, escaped: bool
) -> None:
    """The published file has them as characters; the same pattern with escapes cuts the same words."""
    pytest.importorskip("gigatoken")
    if not DATA.is_dir():
        pytest.skip("no shared data here")
    folder = vocabularies.deepseek_like(tmp_path)
    stated = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pattern = stated["pre_tokenizer"]["pretokenizers"][2]["pattern"]
    assert "\r\n" in pattern["Regex"]
    if escaped:
        pattern["Regex"] = pattern["Regex"].replace("\r", r"\r").replace("\n", r"\n")
        (folder / "tokenizer.json").write_text(json.dumps(stated), encoding="utf-8")
    opened = found(folder)
    assert opened is not None
    backend = KeptBackend(*opened, lambda: None)
    engine = Engine(Reference(backend))
    texts = [f"{n} 你好,世界!\r\n漢字かな 12345 naïve\n" for n in range(WARM)]

    first = engine.encode(texts, special=False)

    assert engine.name.startswith("gigatoken")
    assert engine.encode(texts, special=False).same(first)
