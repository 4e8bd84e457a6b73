"""Failures of serving and data, and wrong causes (issue 13, item 16 and section C)."""

from collections.abc import Callable

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two templates: each kind is planted in both."""


def fault(id: str, rule: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(Fault(f"{id}-{base}", "serve", rule, where, plant, base, severity) for base in BASES)
        return plant

    return listed


@fault("generation-config-of-another-model", "evaluation-parity", "model.name")
def _(bench: Bench) -> None:
    """generation_config.json lists an ordinary token as a stop."""
    stops = (bench.generation or {}).get("eos_token_id", [])
    listed = stops if isinstance(stops, list) else [stops]
    bench.generation = {**(bench.generation or {}), "eos_token_id": [300, *listed]}


@fault("stop-inside-answers", "evaluation-parity", "serving.stop")
def _(bench: Bench) -> None:
    """A stop text that stands in the middle of every answer."""
    bench.set("serving.stop", ['"'])


@fault("exploded-conversations", "leakage", "eval.jsonl:1")
def _(bench: Bench) -> None:
    """Evaluation rows are the first rounds of conversations in the training rows."""
    pairs = list(zip(bench.train[::2], bench.train[1::2], strict=True))
    bench.evaluation = [{"messages": list(one["messages"])} for one, _ in pairs[:20]]
    for one, other in pairs:
        one["messages"] = [*one["messages"], *other["messages"][1:]]
    bench.train = [one for one, _ in pairs]
    bench.set("training.max_length", 1024)
    bench.set("training.packing", False)


@fault("preference-rows", "data-schema", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Pairs of chosen and rejected answers."""
    bench.drop("data.eval")
    bench.train = [
        {"prompt": row["messages"][1]["content"], "chosen": row["messages"][2]["content"], "rejected": "No."}
        for row in bench.train
    ]


@fault("contents-as-parts", "chat-template", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Contents are lists of parts, and the template takes texts."""
    bench.drop("data.eval")
    bench.set("training.packing", False)
    for row in bench.train:
        for turn in row["messages"]:
            turn["content"] = [{"type": "text", "text": turn["content"]}]
