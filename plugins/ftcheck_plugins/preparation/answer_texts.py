"""What is to be said of answers before any tokenizer looks at them: refusals, placeholders, mojibake, ….

The texts of a batch are looked at together (a search for a few characters in all of them), and single ones
only where that finds something. Nothing of a text is kept but codes with rows, and checksums.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

from ftcheck import tables
from ftcheck.inputs.prepared import CLOSED, OPEN
from ftcheck_plugins.reading.row_formats import Gist

SHORT = 80
"""Characters up to which an answer may be a label, whose spelling is compared."""
QUOTED = 32
"""Characters from which on an answer that stands anywhere in its prompt is no coincidence."""
HEAD = 64
"""Characters of an answer among which it begins with a refusal."""
END = "\x1e"
"""Parts texts that are looked at together: a control character (record separator)."""
Searched = TypeVar("Searched", str, bytes)


class Joined(Generic[Searched]):
    """Some texts as one, with the index of each among all."""

    def __init__(self, whole: Searched, lengths: Sequence[int], numbers: Sequence[int]) -> None:
        """`whole` has one character between two texts, whose `lengths` do not count it."""
        self.numbers = numbers
        self.whole: Searched = whole
        self.lengths = lengths

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((length + 1 for length in self.lengths), initial=0))

    def having(self, piece: Searched) -> Iterator[int]:
        """The texts that contain `piece`, by index."""
        at = self.whole.find(piece)
        while at >= 0:
            place = bisect_right(self._starts, at) - 1
            yield self.numbers[place]
            at = self.whole.find(piece, self._starts[place + 1])


def joined(texts: Sequence[str], numbers: Sequence[int]) -> Joined[str]:
    """These texts as one."""
    return Joined(END.join(texts), list(map(len, texts)), numbers)


class Lot:
    """Texts that are searched as one: those that are ASCII apart, which is faster."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.wide = [number for number, text in enumerate(texts) if not text.isascii()]
        apart = set(self.wide)
        plain = [number for number in range(len(texts)) if number not in apart]
        self._plain = joined([texts[number] for number in plain], plain)
        self._wide = joined([texts[number] for number in self.wide], self.wide)
        self._among: dict[str, Joined[str]] = {}

    @cached_property
    def _lower(self) -> tuple[Joined[str], Joined[str]]:
        plain, wide = self._plain, self._wide
        return (
            Joined(plain.whole.lower(), plain.lengths, plain.numbers),
            joined([self.texts[number].lower() for number in wide.numbers], wide.numbers),
        )

    @cached_property
    def _zeros(self) -> tuple[Joined[bytes], ...]:
        plain, wide = self._plain, self._wide
        encoded = [self.texts[number].encode("utf-8", "replace") for number in wide.numbers]
        return (
            Joined(plain.whole.encode().translate(DIGITS), plain.lengths, plain.numbers),
            Joined(END.encode().join(encoded).translate(DIGITS), list(map(len, encoded)), wide.numbers),
        )

    def having(self, piece: str) -> Iterator[int]:
        """The texts that contain `piece`, by index."""
        if piece.isascii():
            yield from self._plain.having(piece)
        yield from self._wide.having(piece)

    def having_both(self, rare: str, piece: str) -> Iterator[int]:
        """The texts that contain `piece`: among those that contain a character which few have."""
        if rare not in self._among:
            numbers = list(self.having(rare))
            self._among[rare] = joined([self.texts[number] for number in numbers], numbers)
        yield from self._among[rare].having(piece)

    def having_in_lower(self, piece: str, *, wide: bool) -> Iterator[int]:
        """The texts that contain `piece` once they are in lower case; with `wide` none that are ASCII."""
        if not wide:
            yield from self._lower[0].having(piece)
        yield from self._lower[1].having(piece)

    def having_digits(self, shape: bytes) -> Iterator[int]:
        """The texts that contain `shape`, with every digit a 0."""
        for some in self._zeros:
            yield from some.having(shape)


class Answers(NamedTuple):
    """All answers of a batch, and the row of each."""

    lot: Lot
    rows: Sequence[int]
    gists: Sequence[Gist]

    @property
    def texts(self) -> Sequence[str]:
        """The answers."""
        return self.lot.texts


Look = Callable[[Answers], Iterator[tuple[str, int]]]
"""Gives codes, each with the index of an answer."""


def remarks(gists: Sequence[Gist]) -> dict[str, list[int]]:
    """What is to be said of the answers of these rows: codes, each with its rows in order."""
    texts: list[str] = []
    rows: list[int] = []
    for row, gist in enumerate(gists):
        for place in gist.answers:
            texts.append(gist.texts[place])
            rows.append(row)
    answers = Answers(Lot(texts), rows, gists)
    found: dict[str, set[int]] = {}
    for look in LOOKS:
        for code, index in look(answers):
            found.setdefault(f"answer:{code}", set()).add(rows[index])
    for code, row in _last_answers(gists):
        found.setdefault(f"answer:{code}", set()).add(row)
    return {code: sorted(those) for code, those in found.items()}


def spelled(gists: Sequence[Gist]) -> list[int]:
    """Of each row a checksum of its last answer as it is written; 0 for a long one, or none."""
    return [_checksum(gist) for gist in gists]


def endings(gists: Sequence[Gist]) -> list[int]:
    """Of each row whether its last answer stops mid-sentence (`Rows.ending`)."""
    return [_ending(gist.said[gist.answer]) if gist.answer >= 0 else 0 for gist in gists]


ITEM = re.compile(r"[-*+•>#|]|\d+[.)]\s|\s")
"""How a line begins that is no prose: an item of a list, a heading, a row of a table, code."""
FEW_WORDS = 4
"""A last line of fewer words is no sentence: a value, a name, the end of a program."""


def _ending(text: str) -> int:
    last = text.rstrip()[-1:]
    if not last:
        return 0
    if not last.isalnum() and last not in ",;:-–":
        return CLOSED
    line = text.rstrip().rpartition("\n")
    short = line[2].isascii() and len(line[2].split()) < FEW_WORDS
    return CLOSED if line[1] and (short or ITEM.match(line[2])) else OPEN


def _checksum(gist: Gist) -> int:
    if gist.answer < 0:
        return 0
    text = gist.said[gist.answer].strip()
    return crc32(text.encode("utf-8", "surrogatepass")) + 1 if len(text) <= SHORT else 0


# --- phrases ---------------------------------------------------------------------------------------------


def _refusals(answers: Answers) -> Iterator[tuple[str, int]]:
    """`refusal`: the answer begins by declining."""
    openings = _openings()
    for index, text in enumerate(answers.texts):
        begins = openings.get(text[:2].lower())
        if begins is not None and text[:HEAD].lower().replace("’", "'").startswith(begins):
            yield "refusal", index


@cache
def _openings() -> dict[str, tuple[str, ...]]:
    """How refusals begin, by their first two characters."""
    found: dict[str, list[str]] = {}
    for some in tables.load("answer_phrases")["refusals"].values():
        for opening in some:
            found.setdefault(opening[:2], []).append(opening)
            found.setdefault(opening[:2].replace("'", "’"), []).append(opening)
    return {begin: tuple(some) for begin, some in found.items()}


def _models(answers: Answers) -> Iterator[tuple[str, int]]:
    """`as-an-ai`: the answer says somewhere what it is that speaks."""
    for piece, pattern, anywhere in _model_phrases():
        for index in answers.lot.having_in_lower(piece, wide=not anywhere):
            if pattern.search(answers.texts[index].lower()):
                yield "as-an-ai", index


@cache
def _model_phrases() -> list[tuple[str, re.Pattern[str], bool]]:
    """Groups of phrases: a piece that is in all of them, a pattern, and whether ASCII answers have it too."""
    table = tables.load("answer_phrases")
    return [
        (piece, re.compile(rf"(?<![a-z])(?:{_any(some)})(?![a-z-])"), name == "models")
        for name in ("models", "models_accented")
        for piece, some in table[name].items()
    ]


def _any(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


# --- encodings -------------------------------------------------------------------------------------------

SUSPECT = re.compile(
    "[\x80-\x9f]"
    # Latin-1 and Windows-1252
    "|[ÃÂ] |[\u00c2-\u00dfâ][\u00a0-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
    "|[\u00e0-\u00f4][\u00a0-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]{2}"
    # Windows-1250
    "|[ĂÄĹĐŃâ][\u00a0-\u00bf€‚„…†‡‰Š‹ŚŤŽŹ‘’“”•–—™š›śťžźˇ˘ŁĄŞŻ˛łąşĽ˝ľż]"
    # Windows-1251
    "|[РСВГДЕ][\u00a0-\u00bfЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—™љ›њќћџЎўЈҐЁЄЇІіґё№єјЅѕї]"
    "|[а-п][ЂЃѓЉЊЌЋЏ‡†‰€¤¦¬±µ¶]"
    # Mac Roman
    "|[√¬ƒ≈∆‚–—][ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø]"
    # code page 437
    "|[┬├─┼╞╨╤Γ∞π][ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓╝╗╣║╕╢╖]"
)
"""What a UTF-8 sequence looks like that was read in another encoding: rare in healthy text. What it finds is
looked at closely by ftfy, which takes longer."""
PAIRS = re.compile("[^\x00-\x7f]{2}|[ÃÂ\x80-\x9f]")
"""What all of these have in them, and few texts in Latin letters."""


def _encodings(answers: Answers) -> Iterator[tuple[str, int]]:
    """`replacement` for U+FFFD, `mojibake` for what ftfy would turn back into other characters."""
    for index in answers.lot.having("\ufffd"):
        yield "replacement", index
    for index in answers.lot.wide:
        text = answers.texts[index]
        if PAIRS.search(text) and SUSPECT.search(text) and _garbled(text):
            yield "mojibake", index


def _garbled(text: str) -> bool:
    import ftfy

    return ftfy.fix_encoding(text) != text


# --- placeholders ----------------------------------------------------------------------------------------

MUSTACHE = re.compile(r"(?<![\w^_{}\\$])\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}(?!\})")
"""`{{name}}`; not LaTeX (`x^{{n}}`), GitHub's `${{ … }}`, or three braces."""
BLANKS = {
    "[": re.compile(
        r"\[(?<![\w\])\"']\[)(?:(?:insert|your|enter|add|fill in)\b[^\]\n]{0,60}"
        r"|name|first name|last name|full name|company|company name|recipient|recipient's name|date|address"
        r"|city|phone number|email|email address|job title|product name)\](?![(:\[])"
    ),
    "<": re.compile(r"<(?:your|insert)[ _-][^<>\n]{0,60}>"),
}
"""`[INSERT DATE]`, `[Your Name]`, `<YOUR API KEY>`, in lower case; no links of Markdown, no elements of lists
in code."""
TEMPLATES = ("```", "{%", "</", "{{#", "{{/", "{{>", "=>", "${", "def ", "\\frac", "\\begin")
"""Code, templates and formulas, which have braces and brackets of their own."""


def _placeholders(answers: Answers) -> Iterator[tuple[str, int]]:
    """`placeholder` for `{{name}}` in prose that is not in the prompt; `bracket` for `[Your Name]`."""
    for index in answers.lot.having("{{"):
        text = answers.texts[index]
        if MUSTACHE.search(text) and not _is_code(text) and not _prompted(answers, index, "{{"):
            yield "placeholder", index
    for piece, pattern in BLANKS.items():
        for index in answers.lot.having(piece):
            text = answers.texts[index].lower()
            if pattern.search(text) and not _is_code(text):
                yield "bracket", index


def _is_code(text: str) -> bool:
    return any(one in text for one in TEMPLATES)


def _prompted(answers: Answers, index: int, piece: str) -> bool:
    """Whether something stands in what is said before the answers of this answer's row."""
    gist = answers.gists[answers.rows[index]]
    return any(piece in text for n, text in enumerate(gist.texts) if n not in gist.answers)


# --- markup ----------------------------------------------------------------------------------------------


def _markup(answers: Answers) -> Iterator[tuple[str, int]]:
    """`markup:<eoh>`: a mark of a chat format stands in the answer."""
    for piece, first, pattern in _marks():
        for index in answers.lot.having_both(first, piece):
            for mark in set(pattern.findall(answers.texts[index])):
                if mark != "</s>" or _ends_a_turn(answers.texts[index]):
                    yield f"markup:{mark}", index


@cache
def _marks() -> list[tuple[str, str, re.Pattern[str]]]:
    """Groups of marks: a piece that is in all of them, the character that all begin with, a pattern."""
    groups = tables.load("answer_phrases")["markup"]
    return [(piece, next(iter(marks))[0], re.compile(_any(marks))) for piece, marks in groups.items()]


def _ends_a_turn(text: str) -> bool:
    """Whether `</s>` is the end of a text, and not HTML that is struck through."""
    return text.rstrip().endswith("</s>") and "<s>" not in text


# --- personal data ---------------------------------------------------------------------------------------

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})\b")
PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4})(?![\w-])"
)
FEWEST_DIGITS = 9
INVENTED = re.compile(r"555|234567|876543|^(?:(.)\1*)$")
"""Digits of numbers that nobody has: set aside for stories (555), counted up or down, all alike."""
DIGITS = bytes.maketrans(b"123456789", b"000000000")
SHAPES = (b"000-000-0000", b"000.000.0000", b"(000)", b"+0")
"""What telephone numbers look like with every digit a 0."""
KEYS = {
    "AKIA": re.compile(r"\bAKIA(?![0-9A-Z]*EXAMPLE)[0-9A-Z]{16}\b"),
    "ghp_": re.compile(r"\bghp_[A-Za-z0-9]{36}\b"),
    "github_pat_": re.compile(r"\bgithub_pat_\w{60,}"),
    "sk-": re.compile(r"(?<![\w-])sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{32,}"),
    "sk_live_": re.compile(r"\bsk_live_[A-Za-z0-9]{16,}"),
    "hf_": re.compile(r"\bhf_[A-Za-z0-9]{34,}\b"),
    "AIza": re.compile(r"\bAIza[\w-]{35}\b"),
    "xox": re.compile(r"\bxox[abprs]-[\w-]{20,}"),
    "PRIVATE KEY-----": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"),
}
"""Keys of services, by a piece that each contains."""


def _personal(answers: Answers) -> Iterator[tuple[str, int]]:
    """`email`, `phone` and `key`, by their patterns."""
    for index in answers.lot.having("@"):
        if any(not _reserved(domain) for domain in EMAIL.findall(answers.texts[index])):
            yield "email", index
    for piece, pattern in KEYS.items():
        for index in answers.lot.having_both("_", piece) if "_" in piece else answers.lot.having(piece):
            if pattern.search(answers.texts[index]):
                yield "key", index
    for shape in SHAPES:
        for index in answers.lot.having_digits(shape):
            if any(map(_is_phone, PHONE.findall(answers.texts[index]))):
                yield "phone", index


def _reserved(domain: str) -> bool:
    return domain.lower().endswith(tuple(tables.load("answer_phrases")["reserved_domains"]))


def _is_phone(text: str) -> bool:
    digits = "".join(filter(str.isdigit, text))
    return len(digits) >= FEWEST_DIGITS and not INVENTED.search(digits)


# --- the last answer -------------------------------------------------------------------------------------

FENCED = re.compile(r"(?:json[c5l]?|JSON)?\s*[\[{]")
"""How a block of code begins that is JSON."""


def _last_answers(gists: Sequence[Gist]) -> Iterator[tuple[str, int]]:
    """`fenced-json`, `ends-prompt` and `in-prompt`, with rows."""
    for row, gist in enumerate(gists):
        if gist.answer < 0:
            continue
        texts, place = gist.texts, gist.answers[-1]
        text = texts[place].strip()
        if not text:
            continue
        if text[-1] == "`" and any(map(FENCED.match, text.split("```")[1::2])):
            yield "fenced-json", row
        if place and texts[place - 1].rstrip().endswith(text):
            yield "ends-prompt", row
        if len(text) >= QUOTED and _quotes(gist, place, text):
            yield "in-prompt", row


def _quotes(gist: Gist, place: int, text: str) -> bool:
    """Whether an answer stands in what people said before it."""
    if place == 1:
        return text in gist.texts[0]
    return any(text in gist.texts[number] for number in range(place) if number not in gist.answers)


LOOKS: tuple[Look, ...] = (_refusals, _models, _encodings, _placeholders, _markup, _personal)
