"""Texts and conversations that distinguish tokenizers and templates, and how a difference is shown.

They are made up, so their text may be shown; of a row of data only the place is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftcheck.inputs.tokenizer import Message, Tokenizer
from ftcheck.plurals import counted
from ftcheck.records import Location

SHOWN = 5
"""How many tokens are shown from the first difference on."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A short text with a name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with a name; its last message is the answer."""

    name: str
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What is sent to the server: all but the answer."""
        return self.messages[:-1]


PROBES = tuple(
    Probe(name, text)
    for name, text in (
        ("one word", "Hello"),
        ("a sentence", "The quick brown fox jumps over the lazy dog."),
        ("a leading space", " Hello"),
        ("two leading spaces", "  Hello"),
        ("a trailing space", "Hello "),
        ("spaces at both ends", "   Hello   "),
        ("spaces inside", "one  two   three    four"),
        ("only a space", " "),
        ("many spaces", " " * 17),
        ("a tab", "one\ttwo"),
        ("leading tabs", "\t\tindented"),
        ("a line break", "one\ntwo"),
        ("two line breaks", "one\n\ntwo"),
        ("a leading line break", "\nHello"),
        ("a trailing line break", "Hello\n"),
        ("Windows line breaks", "one\r\ntwo\r\n"),
        ("only line breaks", "\n\n\n"),
        ("a break and spaces", "one\n    two\n  three"),
        ("no-break space", "10\u00a0000\u202f€"),
        ("zero-width space", "zero\u200bwidth"),
        ("ideographic space", "全角\u3000空白"),
        ("byte order mark inside", "a\ufeffb"),
        ("digits", "1234567890"),
        ("grouped digits", "1,234,567.89"),
        ("a phone number", "+49 (0)30 901820-00"),
        ("a date and a time", "2026-01-31T23:59:59.123+02:00"),
        ("exponents", "1e-5 2.0E+10 -0.0"),
        ("Arabic digits", "٠١٢٣٤٥٦٧٨٩"),
        ("capitals", "ALL CAPS LIKE THIS"),
        ("mixed case", "iPhone McDonald eBay camelCase snake_case kebab-case"),
        ("contractions", "don't I'll we've she'd THEY'RE"),
        ("curly quotes and dashes", "“quoted” ‘text’ – and — so on …"),
        ("punctuation", "!?;:,.()[]{}<>/\\|@#$%^&*_-+=~`"),
        ("a run of dots", "wait....... what??!!"),
        ("German", "Größenänderungsmaßnahmen für Straßenfußgänger"),
        ("French", "L’été où l’œuvre naïve plaît à Noël"),
        ("Turkish", "İstanbul'da ılık çay içiyoruz"),
        ("Polish", "Zażółć gęślą jaźń"),
        ("Vietnamese", "Tiếng Việt có nhiều dấu"),
        ("Russian", "Съешь же ещё этих мягких французских булок"),
        ("Greek", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία"),
        ("Chinese", "今天天气很好,我们去公园吧。"),
        ("Japanese", "東京タワーへ行きました。カタカナとひらがな"),
        ("Korean", "안녕하세요, 반갑습니다"),
        ("Thai", "ภาษาไทยไม่มีช่องว่าง"),
        ("Hindi", "हिन्दी में लिखा हुआ पाठ"),
        ("Arabic", "مرحبا بالعالم، كيف الحال؟"),
        ("Hebrew", "שלום עולם, מה שלומך?"),
        ("directions mixed", "abc שלום 123 مرحبا xyz"),
        ("combining marks", "e\u0301 n\u0303 a\u030a versus é ñ å"),
        ("compatibility forms", "ﬁne ① ㎏ ｆｕｌｌ"),
        ("emoji", "😀 🎉 👍"),
        ("joined emoji", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪"),
        ("rare characters", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀 \U0001f9ff"),
        ("Python", "def f(x: int) -> int:\n    return x ** 2  # square\n"),
        ("C", 'int main(void) { printf("%d\\n", 42); return 0; }'),
        ("SQL", "SELECT * FROM t WHERE a <> 'b' AND c >= 10;"),
        ("JSON", '{"intent": "AddToPlaylist", "slots": {"artist": null, "n": [1, 2.5, true]}}'),
        ("a URL", "https://example.org/a/b.html?q=1&r=%20x#top"),
        ("e-mail and path", "user.name+tag@example.org C:\\Temp\\new ~/.config/app.toml"),
        ("Markdown", "# Title\n\n- **bold** `code`\n\n```sh\nls -la\n```\n"),
        ("HTML", '<p class="x">A &amp; B<br/></p>'),
        ("ChatML as text", "<|im_start|>user\nhello<|im_end|>\n"),
        ("other control tokens as text", "<s>[INST] a [/INST] b</s> <|user|> c <|end|> d<|eot_id|>"),
    )
)


def _talk(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    """Messages of user and assistant in turn, after a system message if there is one."""
    opening: tuple[Message, ...] = () if system is None else ({"role": "system", "content": system},)
    roles = ("user", "assistant")
    return opening + tuple({"role": roles[n % 2], "content": text} for n, text in enumerate(texts))


CONVERSATIONS = (
    Conversation("one turn", _talk("What is the capital of France?", "Paris.")),
    Conversation(
        "system + one turn",
        _talk("Add two and three.", "5", system="You are a calculator. Answer in digits."),
    ),
    Conversation(
        "several turns",
        _talk(
            "Hi!", "Hello, how can I help?", "My screen is black.", "Is it plugged in?", "It is.", "Try F8."
        ),
    ),
    Conversation(
        "system + several turns",
        _talk("Name a colour.", "Blue", "Another one.", "Green", system="Answer with one word."),
    ),
    Conversation("line breaks", _talk("first\n\nsecond\n", "one\ntwo", system="Line one.\nLine two.\n")),
    Conversation("spaces at the ends", _talk("  two spaces  ", " an answer with a space ")),
    Conversation("a JSON answer", _talk("Map it: laptop is slow", '{"intent": "Report", "slots": {}}')),
    Conversation("other scripts", _talk("東京はどこですか? 👩‍👧", "في اليابان, 日本です。")),
)

PLAIN = frozenset(probe.name for probe in PROBES)
KINDS = ("rendered probe", "plain probe", "rendered row")


@dataclass(frozen=True, slots=True)
class Pair:
    """One text on two sides: its ids there. `probe` names a built-in text, `at` a row.

    `problem` says why one side could not render it.
    """

    ids: Sequence[int] = ()
    other: Sequence[int] = ()
    probe: str | None = None
    at: Location | None = None
    problem: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the two sides have different ids, or one has none."""
        return self.problem is not None or tuple(self.ids) != tuple(self.other)

    @property
    def kind(self) -> str:
        """What was compared, as a noun."""
        if self.probe is None:
            return "rendered row"
        return "plain probe" if self.probe in PLAIN else "rendered probe"

    @property
    def position(self) -> int:
        """Index of the first token that differs."""
        both = enumerate(zip(self.ids, self.other, strict=False))
        return next((n for n, (one, two) in both if one != two), min(len(self.ids), len(self.other)))


def counts(pairs: Sequence[Pair]) -> str:
    """How many differ: `137 of 250 rendered rows (equal on 64 plain probes)`."""
    other, same = [], []
    for kind in sorted(KINDS, reverse=True):
        found = [pair.differs for pair in pairs if pair.kind == kind]
        if any(found):
            other.append(f"{sum(found)} of {counted(len(found), kind)}")
        elif found:
            same.append(counted(len(found), kind))
    return " and ".join(other) + (f" (equal on {' and '.join(same)})" if same else "")


def first_difference(pairs: Sequence[Pair], side: str, train: Tokenizer, other: Tokenizer) -> str:
    """Where two sides first differ: tokens of a built-in text (a rendered one if any), or a row's place."""
    found = sorted((pair for pair in pairs if pair.differs), key=lambda pair: KINDS.index(pair.kind))
    pair = found[0]
    if pair.problem is not None:
        return f'probe "{pair.probe}": {pair.problem}' if pair.probe else f"{pair.at}: {pair.problem}"
    start = pair.position
    if pair.probe is None:
        lengths = f"{len(pair.ids):,} in training, {len(pair.other):,} in {_SIDES.get(side, side)}"
        return f"first difference: {pair.at}, token {start + 1:,} ({lengths})"
    both = f"train {_shown(pair.ids[start:], train)} · {side} {_shown(pair.other[start:], other)}"
    legend = f"tokens, then ids{_legend(both)}"
    return f'first difference: probe "{pair.probe}", token {start + 1}: {both} ({legend})'


_SIDES = {"serve": "serving", "eval": "evaluation", "gold": "the gold set", "lock": "the lock"}
_SIGNS = {"↵": "line break", "⇥": "tab"}


def _legend(shown: str) -> str:
    """What the signs in a token list stand for."""
    return "".join(f"; {sign} is a {what}" for sign, what in _SIGNS.items() if sign in shown)


def _shown(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The first few tokens, as text and as ids."""
    part = list(ids[:SHOWN])
    if not part:
        return "(no further tokens)"
    words = " ".join(tokenizer.show([one]).replace("\n", "↵").replace("\t", "⇥") for one in part)
    return f"{words} {part}"
