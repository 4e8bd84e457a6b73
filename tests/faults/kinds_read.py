"""Failures of the kind that the trainer reads something else than stands in the files (issue 13, A)."""

from collections.abc import Callable
from typing import Any

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two tokenizers: each kind is planted in both."""


def fault(id: str, rule: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(Fault(f"{id}-{base}", "read", rule, where, plant, base, severity) for base in BASES)
        return plant

    return listed


def _command(bench: Bench) -> None:
    bench.set("trainer.use", "command")
    bench.set("trainer.argv", ["python", "train.py"])


def _calling(number: float) -> list[dict[str, Any]]:
    call = {"type": "function", "function": {"name": "f", "arguments": {"p": number}}}
    return [
        {"role": "user", "content": "How much?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]


@fault("other-columns-in-one-file", "data-readable", "data.train")
def _(bench: Bench) -> None:
    """A second file has a column that the first has not, and a command loads both."""
    _command(bench)

    def write(bench: Bench) -> None:
        lines = (bench.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        bench.file("more.jsonl", "".join('{"source": "wiki", ' + one[1:] + "\n" for one in lines[40:]))
        bench.file("train.jsonl", "".join(one + "\n" for one in lines[:40]))

    bench.then(write)
    bench.set("data.train", ["train.jsonl", "more.jsonl"])


@fault("switches-in-some-rows", "data-schema", "train.jsonl:2", "warning")
def _(bench: Bench) -> None:
    """chat_template_kwargs in every second row: null in the others."""
    for row in bench.train[::2]:
        row["chat_template_kwargs"] = {"other": True}


@fault("prompt-beside-messages", "data-schema", "data.format", "warning")
def _(bench: Bench) -> None:
    """The columns of UltraChat: TRL reads `prompt`, and finds no completion."""
    for number, row in enumerate(bench.train):
        row.update(prompt=row["messages"][0]["content"], prompt_id=f"p{number}")


@fault("answers-of-weight-0", "trained-tokens", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Answers that are marked as not to be learned."""
    for row in bench.train:
        row["messages"][-1]["weight"] = 0


@fault("completion-only-on-conversations", "trained-tokens", "training.completion_only_loss")
def _(bench: Bench) -> None:
    """The setting that masks prompts elsewhere does nothing here."""
    bench.drop("training.assistant_only_loss")
    bench.set("training.completion_only_loss", True)


@fault("evaluation-rows-without-labels", "truncation", "eval.jsonl:1")
def _(bench: Bench) -> None:
    """The answers of the evaluation rows stand behind max_length."""
    bench.set("training.eval_strategy", "epoch")
    bench.set("training.packing", False)
    for number, row in enumerate(bench.evaluation):
        asked = next(turn for turn in row["messages"] if turn["role"] == "user")
        asked["content"] += "".join(f" item{number}x{n}" for n in range(400))
