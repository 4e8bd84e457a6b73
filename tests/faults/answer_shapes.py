"""Jobs with other answers: what faults are planted in, and healthy ones of many shapes."""

from collections.abc import Callable

from tests.faults.bench import Bench, Row

WORDS = [
    "the",
    "printer",
    "on",
    "the",
    "second",
    "floor",
    "shows",
    "error",
    "and",
    "needs",
    "a",
    "new",
    "drum",
    "before",
    "noon",
]


def prose(bench: Bench) -> None:
    """A job whose answers are sentences: no schema, no gold answers."""
    for key in ("serving.output_schema", "serving.schema_retries", "data.gold"):
        bench.drop(key)
    bench.set("training.max_length", 512)
    bench.set("serving.max_new_tokens", 192)
    every(bench, lambda number, row: sentence(number))


def sentence(number: int) -> str:
    """A sentence that no other row has."""
    turned = WORDS[number % 7 :] + WORDS[: number % 7]
    return f"In case {number} {' '.join(turned)}."


def every(bench: Bench, make: Callable[[int, Row], str], first: int = 0, nth: int = 1) -> None:
    """Other answers to every nth question, from the row `first` on."""
    for rows in (bench.train, bench.evaluation):
        for number in range(first, len(rows), nth):
            rows[number]["messages"][-1]["content"] = make(number, rows[number])


def labels(bench: Bench) -> None:
    """A classification: each answer is one of a few words."""
    prose(bench)
    every(bench, lambda number, row: ("hardware", "network", "billing")[number % 3])


def shapes(**answers: Callable[[int, Row], str]) -> dict[str, tuple[str, Callable[[Bench], None]]]:
    """Healthy jobs whose answers have such shapes, for the list of clean ones."""

    def change(make: Callable[[int, Row], str]) -> Callable[[Bench], None]:
        def changed(bench: Bench) -> None:
            prose(bench)
            every(bench, make)

        return changed

    return {f"answers: {name.replace('_', ' ')}": ("chat", change(make)) for name, make in answers.items()}


def _code(number: int, row: Row) -> str:
    return (
        f"def f{number}(x):\n    return {{'a': [x[{number}]], 'b': f'{{{{x}}}}'}}\n\n"
        f"for (i = 0; i < {number}; i++) {{ list[i] = data[name]; }}"
    )


def _html(number: int, row: Row) -> str:
    return f"<div class='{{{{ color }}}}'><p>Row {number}</p><s>old</s><your-tag></your-tag></div>"


def _template(number: int, row: Row) -> str:
    return f"```jinja\n{{% for x in items %}}{{{{ x.name }}}}{{% endfor %}}\n```\nThis is loop {number}."


def _languages(number: int, row: Row) -> str:
    texts = (
        "Zażółć gęślą jaźń – sprawdź ustawienia użytkownika",
        "这是第一个问题的答案，请检查您的设置",
        "Привет! Всё хорошо, сёстры — это «да» № 1",
        "¿Cuándo llegó la señora Muñoz? L’élève a déjà mangé à l’hôtel",
        "Größe ändern, Schlüssel prüfen: „so“ 5 °C",
        "これは最初の質問への回答です",
        "إجابة السؤال الأول هي هذه",
    )
    return f"{texts[number % len(texts)]} ({number})."


def _math(number: int, row: Row) -> str:
    return (
        f"We have $x^{{{{n}}}} + {number}$, [1, {number}] and \\frac{{{{a}}}}{{b}} < <<{number}/2=3>>, so"
        f" |x| <|y| and √2 ≈ 1.414.\n#### {number}"
    )


def _letters(number: int, row: Row) -> str:
    opening = "Dear [Your Name]" if number % 40 == 0 else "Dear Ms Bell"
    return f"{opening}, I'm sorry to hear that. Unfortunately, case {number} is closed. Kind regards."


CLEAN: dict[str, tuple[str, Callable[[Bench], None]]] = {
    **shapes(
        code=_code,
        HTML=_html,
        templates_in_code=_template,
        languages=_languages,
        mathematics=_math,
        letters=_letters,
        one_label_on_most_rows=lambda number, row: "ham" if number % 10 < 6 else ("spam", "scam")[number % 2],
        nothing_found_in_most_rows=lambda number, row: "None" if number % 3 else f"the entity {number}",
        sentences_as_labels=lambda number, row: (
            "The text supports the claim.",
            "There is not enough information.",
            "The text supports the claim.",
        )[number % 3],
        lists_without_a_full_stop=lambda number, row: (
            f"{sentence(number)}\n- one {number}\n- two" if number % 2 else sentence(number)
        ),
        a_few_refusals=lambda number, row: (
            f"I'm sorry, but I can't do {number}." if number % 12 == 0 else sentence(number)
        ),
    ),
}


def _choices(bench: Bench) -> None:
    prose(bench)
    every(bench, lambda number, row: "no" if number % 8 else "yes")
    for row in (*bench.train, *bench.evaluation):
        row["messages"][1]["content"] += "\nAnswer yes or no"


def _quotations(bench: Bench) -> None:
    prose(bench)
    for rows in (bench.train, bench.evaluation):
        for row in rows:
            words = row["messages"][1]["content"].split()
            row["messages"][-1]["content"] = " ".join(words[2:5])


def _variables(bench: Bench) -> None:
    prose(bench)
    for rows in (bench.train, bench.evaluation):
        for number, row in enumerate(rows):
            row["messages"][1]["content"] += " My order is {{Order Number}}."
            row["messages"][-1]["content"] = f"Your order {{{{Order Number}}}} is at step {number}."


def _fences(bench: Bench) -> None:
    fenced = [f"```json\n{row['messages'][-1]['content']}\n```" for row in bench.train]
    others = [f"```json\n{row['messages'][-1]['content']}\n```" for row in bench.evaluation]
    prose(bench)
    for rows, texts in ((bench.train, fenced), (bench.evaluation, others)):
        for row, text in zip(rows, texts, strict=True):
            row["messages"][-1]["content"] = text


def _gold(bench: Bench) -> None:
    labels(bench)
    bench.set("data.gold", {"path": "golden.json", "input": "input", "expected": "expected"})
    for number, item in enumerate(bench.gold):
        item["expected"] = ("hardware", "network", "billing")[number % 3]


CLEAN |= {
    "answers: a choice that the prompt ends in": ("chat", _choices),
    "answers: quotations from the prompt": ("chat", _quotations),
    "answers: placeholders that the prompt has too": ("chat", _variables),
    "answers: JSON in fences, and no schema": ("chat", _fences),
    "answers: labels spelled as in the gold answers": ("chat", _gold),
}
