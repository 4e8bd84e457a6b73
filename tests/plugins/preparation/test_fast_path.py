"""The fast ways of preparation give what the trainer's own libraries give, or are left."""

import hashlib
import json
import random
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.model.tokenizer import ChatTokenizer
from ftcheck_plugins.preparation import preparation, template_limits, token_engines
from ftcheck_plugins.preparation.arrow_store import _of_mask
from ftcheck_plugins.preparation.rendering import (
    Differs,
    Rendered,
    Renderer,
    Request,
)
from ftcheck_plugins.preparation.token_engines import (
    Engine,
    Ids,
    Reference,
    joined,
)
from ftcheck_plugins.reading import row_formats
from ftcheck_plugins.reading.row_formats import Example, talk

from ftcheck.dedup import fingerprints as likeness
from ftcheck.dedup.fingerprints import fingerprint, fingerprints, normalised
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.packing.truncation import cut_bounds, cutter
from ftcheck.records import Location
from ftcheck.settings import Data, Job, Model, Training

LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}
MARKED = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}{{ tools | tojson if tools }}{{ mood }}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def chat(samples: Path) -> ChatTokenizer:
    at = Location(path="policy.yaml")
    return tokenizer.open_tokenizer(str(samples / "models" / "mapper-tiny"), offline=True, place=at)


def turns(answer: Any = "fine") -> list[dict[str, Any]]:
    return [{"role": "user", "content": "how?"}, {"role": "assistant", "content": answer}]


ODD_ROWS: tuple[Request, ...] = (
    Request(turns()),
    Request(turns(), opening=True),
    Request(turns(), marked=True),
    Request(turns(), tools=[{"type": "function", "function": {"name": "f"}}]),
    Request(turns(), kwargs={"mood": "calm"}),
    Request(turns(), kwargs={"add_generation_prompt": True}),
    Request(turns(), kwargs={"tokenize": True}),
    Request([{**turns()[0], "tool_calls": None}, turns()[1]]),
    Request([{**turns()[0], "content": None}], marked=True),
    Request([*turns(), {"role": "assistant", "content": "so", "thinking": "hm"}]),
    Request([{"role": "user"}]),
)


@pytest.mark.parametrize("number", range(len(ODD_ROWS)))
def test_a_compiled_template_renders_what_transformers_renders(chat: ChatTokenizer, number: int) -> None:
    chat.training_template = MARKED
    request = ODD_ROWS[number]
    direct, slow = Renderer(chat), Renderer(chat, direct=False)

    mine, theirs = direct.batch([request])[0], slow.batch([request])[0]

    assert type(mine) is type(theirs)
    assert mine == theirs or str(mine) == str(theirs)


def test_most_rows_are_rendered_directly(chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.training_template = MARKED
    renderer = Renderer(chat)
    renderer.batch([Request(turns())])
    monkeypatch.setattr(renderer, "_by_transformers", lambda request: Rendered("not asked", []))
    monkeypatch.setattr(renderer, "_check", lambda requests, direct: None)

    texts = [one.text for one in renderer.batch([Request(turns(f"n{n}")) for n in range(3)])]  # type: ignore[union-attr]

    assert texts == [f"<user>how?<assistant>n{n}</s>" for n in range(3)]


def test_a_template_that_differs_each_time_ends_the_direct_way(chat: ChatTokenizer) -> None:
    chat.training_template = "{{ range(99999) | random }}{{ messages[0].content }}"

    with pytest.raises(Differs, match="differs"):
        Renderer(chat).batch([Request(turns())] * 3)


def test_a_row_that_loops_for_ever_is_stopped_and_the_others_are_rendered(
    chat: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    chat.training_template = (
        "{% if messages[0].content == 'loop' %}{% for a in range(9999) %}{% for b in range(9999) %}"
        "{% set c = a * b %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
    )
    rows = [Request([{"role": "user", "content": text}]) for text in ("one", "loop")]

    made = Renderer(chat).batch(rows)

    assert made[0] == Rendered("one", [])
    assert isinstance(made[1], template_limits.OutOfBounds)


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


def prepare(samples: Path, folder: Path, rows: Sequence[Any]) -> Prepared:
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = Model(name=str(samples / "models" / "mapper-tiny"))
    job = Job(name="job", model=model, data=Data(train=str(data)), training=Training(max_length=64))
    prepared: Prepared = Inputs(LOADERS, {"run": Run(folder=folder / "work")}, job).get("prepared")
    return prepared


def test_masks_of_many_rows_are_counted_as_row_by_row() -> None:
    draw = np.random.default_rng(1)
    rows = [draw.random(draw.integers(0, 9)) < 0.6 for _ in range(500)]
    starts = np.cumsum([0, *map(len, rows)])

    trained, answer = _of_mask(np.concatenate(rows), starts)

    runs = ["".join("x" if one else " " for one in row).split() for row in rows]
    assert trained.tolist() == [int(row.sum()) for row in rows]
    assert answer.tolist() == [len(run[-1]) if run else 0 for run in runs]


@pytest.mark.parametrize("setting", [{}, {"truncation_mode": "keep_end"}, {"packing": True}])
def test_bounds_of_the_cut_are_those_of_the_cut(setting: dict[str, Any]) -> None:
    training = Training(max_length=4, **setting)
    starts, stops = cut_bounds(training)(np.array([10, 20, 30]), np.array([12, 29, 34]))

    for start, stop, first, end in zip((10, 20, 30), (12, 29, 34), starts, stops, strict=True):
        assert cutter(training)(list(range(start, stop))) == list(range(first, end))


def test_ascii_words_have_the_fingerprint_of_any_words() -> None:
    assert fingerprint("Hello,  WORLD_1") == fingerprint("\uff28ello world 1")
    assert fingerprint(" ++ ") == fingerprint("++") != 0
    assert fingerprint(" \n") == 0


def test_many_fingerprints_are_those_of_each() -> None:
    texts = ["", " ", "++", "a", " A  b. ", "naïve", "x\ny", ".a.", "\n\n", "ﬁne", "3 + 14", "31 + 4"]
    texts += ["a\x01b", "\x01", "\x00 c\x7f", "_d_e_", "tab\tbed", "é \x01 –", "\u0301a", " –– x"]

    assert fingerprints(texts).tolist() == [defined(text) for text in texts]
    assert [fingerprint(text) for text in texts] == fingerprints(texts).tolist()
    assert fingerprints([]).tolist() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2 + 3?", "What is 2 - 3?"),
        ("12+3", "12*3"),
        ("12 / 3", "12 % 3"),
        ("x > 5", "x < 5"),
        ("Sort a list in C++.", "Sort a list in C#."),
        ("Sort it in C++", "Sort it in C"),
        ("3 × 4", "3 ÷ 4"),
        ("über 3 + 4", "über 3 - 4"),
        ("a 5% rise", "a 5 rise"),
    ],
)
def test_operators_and_suffixes_tell_questions_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("- one\n- two", "* one\n* two"),
        ("**Bold** and _thin_", "bold and thin"),
        ("# Title\n> quoted", "Title: quoted"),
        ("state-of-the-art", "state of the art"),
        ("well - no", "well, no"),
        ("and/or", "and or"),
        ("Größe — so!", "größe - SO"),
    ],
)
def test_bullets_dashes_and_emphasis_belong_to_no_word(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert fingerprint(one) == fingerprint(other)


def test_the_words_of_any_text_are_those_of_all_at_once() -> None:
    rng = random.Random(2)
    ascii_signs = "ab7 0_+-*/=<>%^$#.,\n\x01("
    signs = ascii_signs + "éßİ…–×−°\u00a0\u0301漢٣🙂𠀀\ud800ﬁ"
    texts = ["".join(rng.choices(ascii_signs, k=rng.randint(0, 9))) for _ in range(20_000)]
    texts += ["".join(rng.choices(signs, k=rng.randint(0, 9))) for _ in range(20_000)]

    found = fingerprints(texts).tolist()

    assert [text for text, one in zip(texts, found, strict=True) if one != defined(text)] == []
    assert [text for text in texts[-500:] if normalised(text) != words_of(text)] == []

    pairs = [rng.sample(texts, 2) for _ in range(5_000)]
    _, found_of_pairs = likeness.of_rows(pairs, [[0]] * len(pairs))
    assert found_of_pairs.tolist() == [defined("\n".join(pair)) for pair in pairs]


SIGN = r"+\-*/=<>%^$×÷−#"
GAP = rf"(?:[^\w{SIGN}]|_)"
IN_LINE = rf"(?:(?!\n){GAP})"
BESIDE_A_NUMBER = rf"(?<=[^#])(?:(?<=[0-9].)|(?<=[0-9]{IN_LINE}.)|(?={IN_LINE}?[0-9]))"
AFTER_A_LETTER = r"(?<=[a-z][+#])|(?<=[a-z][+#][+#])"
IDLE = re.compile(rf"[{SIGN}](?!{BESIDE_A_NUMBER}|{AFTER_A_LETTER})", re.DOTALL)


def words_of(text: str) -> str:
    """What `normalised` should give, by regular expressions."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(f"{GAP}+", " ", IDLE.sub(" ", folded)).strip() or text.strip()


def defined(text: str) -> int:
    """The fingerprint of a text, as it is defined."""
    words = words_of(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big", signed=True) if words else 0


def test_plain_talk_has_the_gist_of_any_conversation() -> None:
    rng = random.Random(0)
    roles = ["system", "developer", "user", "assistant", "tool", "odd"]
    texts = ["", " \n", "yes", '{"a": 1}', "[broken", "–"]
    for _ in range(2_000):
        count = rng.randint(1, 5)
        messages = [{"role": rng.choice(roles), "content": rng.choice(texts)} for _ in range(count)]
        known = row_formats.gist(Example(messages=tuple(messages), talk=talk(messages)))
        looked = row_formats.gist(Example(messages=tuple(messages)))

        assert sorted(known.remarks) == sorted(looked.remarks)
        assert known._replace(remarks=[]) == looked._replace(remarks=[])


def test_the_fingerprint_of_a_row_is_that_of_its_texts_as_one() -> None:
    rows = [
        ["Hi –", "++", "naïve"],
        ["++", " "],
        [],
        ["a", "", "b\u0301"],
        ["–"],
        ["2", "+ 3"],
        ["é 2 -", "3"],
    ]
    rows += [["C", "++"], ["5", "- item"], ["5 –", "- item"], ["ß 5", "- ß"], ["", "-5"], ["1\n- x", "-"]]
    asked = [[0, 2], [0, 1], [], [1], [0], *[[0, 1]] * 8]
    questions = [[row[place] for place in places] for row, places in zip(rows, asked, strict=True)]

    made = likeness.of_rows(rows, asked)

    for numbers, those in zip(made, (questions, rows), strict=True):
        assert numbers.tolist() == [defined("\n".join(texts)) for texts in those]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "s"}, *turns()],
        [*turns(), {"role": "user", "content": "again?"}, {"role": "assistant", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [{"role": "tool", "content": "t"}, {"role": "user", "content": "q"}, {"role": "odd", "content": "o"}],
        [{"role": "assistant", "content": "first"}, *turns()],
    ],
)
def test_rows_and_gold_questions_are_compared_by_the_same_words(messages: list[dict[str, Any]]) -> None:
    """Leakage holds the fingerprint of a row against that of a gold item, which `likeness` makes."""
    for plain in (None, talk(messages)):
        gist = row_formats.gist(Example(messages=tuple(messages), talk=plain))

        assert gist.question == likeness.asked(messages)
        assert "\n".join(gist.said) == likeness.whole(messages)


@pytest.mark.parametrize("mark", "’“”‘–—…•°→·«»\u00a0")
def test_typography_belongs_to_no_word(mark: str) -> None:
    texts = [f"One{mark}two", f"{mark} One, two {mark}", mark, f"{mark}é{mark}"]

    assert normalised(texts[0]) == normalised(texts[1]) == "one two"
    assert fingerprints(texts).tolist() == [defined(text) for text in texts]
