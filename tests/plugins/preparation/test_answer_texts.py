"""What is said of answers before any tokenizer, and that it does not depend on their neighbours."""

import random
from collections.abc import Sequence

import ftfy
import pytest
from ftcheck_plugins.preparation import answer_texts
from ftcheck_plugins.reading.row_formats import Example, Gist, example, gist

from ftcheck import tables
from ftcheck.inputs.prepared import CLOSED, OPEN


def of(prompt: str, answer: str) -> Gist:
    """The gist of a question with its answer."""
    made = example({"prompt": prompt, "completion": answer}, "prompt-completion", "text")
    assert isinstance(made, Example)
    return gist(made)


def said(answer: str, prompt: str = "Please.") -> list[str]:
    """The codes of one answer."""
    return sorted(code.removeprefix("answer:") for code in answer_texts.remarks([of(prompt, answer)]))


FOUND = (
    ("I'm sorry, but I can't help with that.", "refusal"),
    ("I’m sorry, but I can’t help with that.", "refusal"),
    ("I cannot assist with this.", "refusal"),
    ("很抱歉，我无法执行点外卖这样的外部任务。", "refusal"),
    ("Es tut mir leid, aber ich kann das nicht.", "refusal"),
    ("Извините, но я не могу.", "refusal"),
    ("Well, as an AI language model, I have no opinion.", "as-an-ai"),
    ("作为一个AI，我目前没有这种能力。", "as-an-ai"),
    ("En tant qu’IA, je ne sors pas.", "as-an-ai"),
    ("Als KI-Modell habe ich dafür kein Gefühl.", "as-an-ai"),
    ("Als taalmodel heb ik geen mening.", "as-an-ai"),
    ("Как языковая модель, я не знаю.", "as-an-ai"),
    ("PrÃ¤zise Antwort: GerÃ¤t zurÃ¼cksetzen.", "mojibake"),
    ("ZaÅ¼Ã³Å‚Ä‡ gÄ™Å›lÄ… jaÅºÅ„", "mojibake"),
    ("РџСЂРёРІРµС‚, РєР°Рє РґРµР»Р°?", "mojibake"),
    ("The cafÃ© is closed.", "mojibake"),
    ("It is 5\u00e2\u20ac\u201c6 km.", "mojibake"),
    ("Ge\ufffdt", "replacement"),
    ("Hello! I am {{name}}, made by {{ author }}.", "placeholder"),
    ("Dear [Your Name], thank you.", "bracket"),
    ("Due on [INSERT DATE HERE].", "bracket"),
    ("Set the header to <YOUR API KEY>.", "bracket"),
    ("Good.<eoh>", "markup:<eoh>"),
    ("Good. [/INST] And now?", "markup:[/INST]"),
    ("Good.<|im_end|>", "markup:<|im_end|>"),
    ("Good.</s>", "markup:</s>"),
    ("Write to jane.doe@uni-bonn.de.", "email"),
    ("Call (415) 689-2210 now.", "phone"),
    ("Call +49 30 90139 4412.", "phone"),
    ("Use AKIA2OGYBAH6STMMNXNN as the id.", "key"),
    ('```json\n{"a": 1}\n```', "fenced-json"),
    ('Here it is:\n```\n[{"a": 1}]\n```\n', "fenced-json"),
)


@pytest.mark.parametrize(("answer", "code"), FOUND)
def test_what_a_reader_would_see_is_found(answer: str, code: str) -> None:
    assert said(answer) == [code]


LANGUAGES = (
    "¿Cuándo llegó el año pasado la señora Muñoz?",
    "Zażółć gęślą jaźń – sprawdź ustawienia.",
    "Größe ändern und Schlüssel prüfen: „so“.",
    "L’élève a déjà mangé à l’hôtel.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Привет, как у тебя дела?",
    "今天天气很好，我们去公园吧。",
    "오늘 날씨가 좋네요.",
    "Günaydın, şimdi çığlık atıyor.",
    "It’s 20–30 °C, isn’t it? “Yes” — 🎉",
)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1250", "cp1251", "mac_roman", "cp437"])
@pytest.mark.parametrize("text", LANGUAGES)
def test_whatever_ftfy_repairs_is_mojibake(text: str, encoding: str) -> None:
    garbled = text.encode().decode(encoding, "ignore")

    assert said(text) == []
    assert said(garbled) == (["mojibake"] if ftfy.fix_encoding(garbled) != garbled else [])


FINE = (
    "I'm sorry to hear that. Is there anything I can do?",
    "I cannot wait to see you.",
    "Sorry, the task involves vision.",
    "He worked as an aide, and was an airman.",
    "¿Cuándo llegó el año pasado la señora Muñoz? Präzise: «Größe» – 5 °C, ½ l, Ã is a letter.",
    "Zażółć gęślą jaźń – sprawdź ustawienia użytkownika.",
    "Привет! Сёстры, РОССИЯ № 1 — “да”.",
    "√2 and ∑x² ≤ 3, naïve café’s déjà vu”",
    "这是一个关于机器学习的问题。日本語の文章です。한국어 문장입니다.",
    "x^{{n}} and \\frac{{a}}{b}, ${{ secrets.KEY }}",
    "<p>{{ title }}</p>",
    "```python\nx = 1\n```\n[1] says so.\n```sh\nls\n```",
    "Write to me@yourdomain.com.",
    "{% if user %}{{ user }}{% endif %}",
    "```jinja\nHello {{ name }}\n```",
    "const t = (x) => `{{x}}`",
    "See [your account](https://example.org) and [1], my_list[name], [x for x in y]",
    "<s>old price</s> new price",
    '<div class="a">text</div>',
    "a[i] < b[j] and c > d",
    "name@example.com and 555-123-4567, (123) 456-7890",
    "12 345 678 and 2024-05-11, 10.1000/182, 1+2+3",
    "the task-oriented risk-averse sk-learn package",
    '{"intent": "play", "slots": {"a": {"b": 1}}}',
    "positive",
    "42",
)


@pytest.mark.parametrize("answer", FINE)
def test_healthy_answers_say_nothing(answer: str) -> None:
    assert said(answer) == []


def test_braces_that_the_prompt_has_are_no_unfilled_placeholders() -> None:
    assert said("Thanks for order {{Order Number}}.", "Where is {{Order Number}}?") == []


def test_an_answer_in_its_prompt_is_told_apart_by_where_it_stands() -> None:
    long = "The line number may be prefixed with a filename."

    assert said(long, f"Summarise.\n\nAnswer: {long}\n") == ["ends-prompt", "in-prompt"]
    assert said(f" {long}", f"{long} Is that so?") == ["in-prompt"]
    assert said("yes", "Answer no or yes") == ["ends-prompt"]
    assert said("yes", "yes or no?") == []


def test_earlier_answers_are_no_prompt() -> None:
    text = "You're welcome! If you have any other question, just ask."
    roles = ("user", "assistant", "user", "assistant")
    turns = [
        {"role": role, "content": one} for role, one in zip(roles, ("Hi", text, "Bye", text), strict=True)
    ]
    made = example({"messages": turns}, "messages", "text")
    assert isinstance(made, Example)

    assert answer_texts.remarks([gist(made)]) == {}


def test_pieces_of_the_table_stand_in_what_they_stand_for() -> None:
    table = tables.load("answer_phrases")

    for piece, marks in table["markup"].items():
        assert all(piece in mark for mark in marks), piece
        assert len({mark[0] for mark in marks}) == 1, piece
    models = {**table["models"], **table["models_accented"]}
    assert all(piece in one for piece, phrases in models.items() for one in phrases)
    phrases = [one for some in (*models.values(), *table["refusals"].values()) for one in some]
    assert [one for one in phrases if one != one.lower()] == []
    assert max(len(one) for some in table["refusals"].values() for one in some) < answer_texts.HEAD


def test_a_batch_says_of_each_row_what_it_says_alone() -> None:
    rng = random.Random(1)
    answers = [one for one, _ in FOUND] + list(FINE) + ["", "\x1e", "a\x1eb"]
    some = [of("Please.", rng.choice(answers)) for _ in range(400)]

    together = answer_texts.remarks(some)

    alone: dict[str, list[int]] = {}
    for row, one in enumerate(some):
        for code in answer_texts.remarks([one]):
            alone.setdefault(code, []).append(row)
    assert together == alone


def test_only_what_is_to_be_learned_is_looked_at() -> None:
    assert said("Fine.", "I am {{name}}, as an AI. <eoh> jane@uni-bonn.de") == []


def test_plain_text_is_learned_whole_but_answers_nothing() -> None:
    made = example({"text": "I am {{name}}"}, "text", "text")
    assert isinstance(made, Example)
    one = gist(made)

    assert answer_texts.remarks([one]) == {"answer:placeholder": [0]}
    assert answer_texts.endings([one]) == answer_texts.spelled([one]) == [0]


def numbers(answers: Sequence[str]) -> list[int]:
    """How answers are spelled, as numbers."""
    return answer_texts.spelled([of("?", one) for one in answers])


def test_spelling_is_case_and_punctuation_but_not_white_space_around_it() -> None:
    one, other, third, fourth = numbers(["Billing", " Billing\n", "billing", "Billing."])

    assert one == other
    assert len({one, third, fourth}) == 3
    assert numbers(["x" * 81]) == [0]


def test_an_answer_ends_open_where_its_sentence_goes_on() -> None:
    opened = ["so it", "a,", "1:", "ok ", "First.\nAnd then it goes on to", "第一。\n然后他"]
    closed = ["so it.", "(yes)", "对。", "Two:\n- the first item is\n- the second item is", "x = 1\nreturn x"]

    def ends(answers: Sequence[str]) -> set[int]:
        return set(answer_texts.endings([of("?", one) for one in answers]))

    assert (ends(opened), ends(closed), ends([" "])) == ({OPEN}, {CLOSED}, {0})
