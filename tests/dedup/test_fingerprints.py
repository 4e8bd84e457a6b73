"""Fingerprints of texts: the words that count, one by one and many at once."""

import hashlib
import random
import re
import unicodedata

import pytest

from ftcheck.dedup import fingerprints as likeness
from ftcheck.dedup.fingerprints import fingerprint, fingerprints, normalised


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
    _, found_of_pairs, _ = likeness.of_rows(pairs, [[0]] * len(pairs), [-1] * len(pairs))
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

    last = [len(row) - 1 for row in rows]
    answers = [row[-1:] for row in rows]

    made = likeness.of_rows(rows, asked, last)

    for numbers, those in zip(made, (questions, rows, answers), strict=True):
        assert numbers.tolist() == [defined("\n".join(texts)) for texts in those]


@pytest.mark.parametrize("mark", "’“”‘–—…•°→·«»\u00a0")
def test_typography_belongs_to_no_word(mark: str) -> None:
    texts = [f"One{mark}two", f"{mark} One, two {mark}", mark, f"{mark}é{mark}"]

    assert normalised(texts[0]) == normalised(texts[1]) == "one two"
    assert fingerprints(texts).tolist() == [defined(text) for text in texts]
