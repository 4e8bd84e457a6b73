"""Answers that are none: what a person would see in ten minutes of reading (issue 14, item 6)."""

import json
from collections.abc import Callable
from dataclasses import replace

from tests.faults.answer_shapes import every, labels, prose, sentence
from tests.faults.bench import SAMPLES, Bench, Row
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []


def fault(id: str, where: str, severity: str = "warning") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in a clean job, with its own tokenizer and with another."""

    def listed(plant: Plant) -> Plant:
        one = Fault(f"{id}-chat", "answers", "answers", where, plant, "chat", severity)

        def other(bench: Bench) -> None:
            other_tokenizer(bench)
            plant(bench)

        FAULTS.extend((one, replace(one, id=f"{id}-other-tokenizer", plant=other)))
        return plant

    return listed


def other_tokenizer(bench: Bench) -> None:
    """The tokenizer and the template of the other sample model: ChatML instead of Llama 3."""
    model = SAMPLES / "models" / "analyst-tiny"
    bench.template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("tokenizer", "tokenizer_config", "config", "generation"):
        file = {"generation": "generation_config"}.get(name, name)
        setattr(bench, name, json.loads((model / f"{file}.json").read_text(encoding="utf-8")))
    (bench.model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    bench.set("training.max_length", 512)
    bench.set("serving.max_new_tokens", 192)


@fault("one-answer", "train.jsonl:3")
def _(bench: Bench) -> None:
    """A failed request left the same sentence in nearly all rows."""
    prose(bench)
    every(bench, lambda number, row: "The request could not be processed at this time.", first=2)


@fault("refusals", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Every third answer declines."""
    prose(bench)
    every(bench, lambda number, row: f"I'm sorry, but I cannot help with request {number}.", nth=3)


@fault("disclaimers", "train.jsonl:2")
def _(bench: Bench) -> None:
    """Answers of a chat model, with what it says of itself."""
    prose(bench)
    every(bench, lambda number, row: f"As an AI language model, I see: {sentence(number)}", first=1, nth=4)


@fault("mojibake", "train.jsonl:2")
def _(bench: Bench) -> None:
    """Every second answer is UTF-8 that was read as Windows-1252."""
    prose(bench)
    garbled = "Größe ändern: Gerät zurücksetzen".encode().decode("cp1252")
    every(bench, lambda number, row: f"{garbled}, {sentence(number)}", first=1, nth=2)


@fault("replacement-characters", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Bytes that no decoder knew."""
    prose(bench)
    every(bench, lambda number, row: f"Ger\ufffdt: {sentence(number)}", nth=10)


@fault("answer-in-prompt", "train.jsonl:1", "error")
def _(bench: Bench) -> None:
    """The prompts were made with their answers."""
    prose(bench)
    for row in (*bench.train, *bench.evaluation):
        row["messages"][1]["content"] += f"\n\nAnswer: {row['messages'][-1]['content']}"
    bench.set("training.packing", False)
    bench.drop("data.eval")


@fault("unfilled-placeholders", "train.jsonl:1", "error")
def _(bench: Bench) -> None:
    """A template that nobody filled in."""
    prose(bench)
    every(bench, lambda number, row: f"I am {{{{name}}}}, made by {{{{author}}}}. {sentence(number)}")


@fault("blanks", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Letters with blanks in brackets."""
    prose(bench)
    every(bench, lambda number, row: f"Dear [Customer Name], [INSERT GREETING] {sentence(number)}", nth=8)


@fault("another-models-markup", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Answers with the ends of turns of the model that wrote them."""
    prose(bench)
    every(bench, lambda number, row: f"{sentence(number)}<eoh>\n[/INST]", nth=4)


@fault("json-in-fences", "train.jsonl:1", "error")
def _(bench: Bench) -> None:
    """JSON as a chat model writes it, for a server that wants JSON alone."""
    every(bench, lambda number, row: f"```json\n{row['messages'][-1]['content']}\n```")
    bench.set("serving.max_new_tokens", 256)


@fault("labels-of-other-spelling", "golden.json:2")
def _(bench: Bench) -> None:
    """The gold answers are written with a capital."""
    labels(bench)
    bench.set("data.gold", {"path": "golden.json", "input": "input", "expected": "expected"})
    for number, item in enumerate(bench.gold):
        item["expected"] = ("Hardware", "Network", "Billing")[number % 3]


@fault("labels-of-two-spellings", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Two people labelled the rows."""
    labels(bench)
    every(bench, lambda number, row: "Hardware", nth=9)


@fault("answers-cut-at-a-limit", "train.jsonl")
def _(bench: Bench) -> None:
    """Long answers stop where the limit of the generation was."""
    prose(bench)

    def made(number: int, row: Row) -> str:
        if number % 3:
            return sentence(number)
        return " ".join(f"{sentence(number + one)}" for one in range(3)).removesuffix(".")

    every(bench, made)
    bench.set("serving.max_new_tokens", 512)


@fault("addresses", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Real people's addresses in the answers."""
    prose(bench)
    every(bench, lambda number, row: f"Write to ada{number}@uni-bonn.de: {sentence(number)}", nth=5)


@fault("keys", "train.jsonl:1")
def _(bench: Bench) -> None:
    """A key that was pasted into a ticket."""
    prose(bench)
    every(bench, lambda number, row: f"Log in as AKIA2OGYBAH6STMMNXNN. {sentence(number)}", nth=40)
