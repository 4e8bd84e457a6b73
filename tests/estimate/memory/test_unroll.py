"""A step unrolled from three and four layers against the step of all layers: event by event."""

from dataclasses import replace
from typing import Any

import pytest

from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, Method
from tests.estimate.memory.kit import SMALL

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
pytest.importorskip("torch")
pytest.importorskip("transformers")

PROGRAMS = {
    "checkpointing": Program(Method()),
    "all kept": Program(Method(checkpointing=False)),
    "eager, dropout": Program(Method(attention="eager", dropout=0.1)),
    "logits held": Program(Method(checkpointing=False), loss="model", holds_outputs=True),
    "older loss": Program(Method(), plain="float32", adapter="float32", loss="shifted"),
    "head trained whole": Program(Method(saved=("lm_head",))),
    "16-bit, T4": Program(Method(bits=16, adapter_bytes=4), adapter="float32", capability=(7, 5)),
}


def in_order(made: Any) -> list[tuple[int, int]]:
    """The events with blocks numbered by their births."""
    numbers: dict[int, int] = {}
    found = []
    for number, size in (*made.forward, *made.backward, *made.after):
        if number:
            numbers.setdefault(number, len(numbers) + 1)
        found.append((numbers.get(number, 0), size))
    return found


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["llama", "phi3"])
def test_an_unrolled_step_is_the_traced_one(program: Program, masked: bool, kind: str) -> None:
    from ftcheck.estimate.memory.trace import trace
    from ftcheck.estimate.memory.unroll import unrolled

    config = {**SMALL, "model_type": kind, "num_hidden_layers": 9, "pad_token_id": 0}
    feed = Feed(2, 64, masked)
    whole = trace(config, program, feed)
    made = unrolled(trace(config, program, feed, 3), trace(config, program, feed, 4), 9)
    assert made is not None
    assert in_order(made) == in_order(whole)
    assert [len(one) for one in (made.forward, made.backward)] == [
        len(one) for one in (whole.forward, whole.backward)
    ]
    assert made.weights == whole.weights
    assert made.trained == whole.trained
    assert made.saved == whole.saved
    assert len(made.gradients) == len(whole.gradients) == len(whole.trained) + len(whole.saved)


def test_norms_of_every_layer_that_are_trained_whole_are_not_unrolled() -> None:
    from ftcheck.estimate.memory.trace import trace
    from ftcheck.estimate.memory.unroll import unrolled

    program, config = Program(Method(saved=("norm",))), {**SMALL, "num_hidden_layers": 9}
    shorter, longer = (trace(config, program, Feed(1, 64), few) for few in (3, 4))
    assert len(longer.saved) - len(shorter.saved) == 2
    assert unrolled(shorter, longer, 9) is None


def test_layers_that_differ_are_traced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.estimate.memory import unroll
    from ftcheck.estimate.memory.trace import trace as real

    asked: list[int | None] = []

    def noted(config: Any, program: Any, feed: Any, layers: int | None = None) -> Any:
        asked.append(layers)
        return real(config, program, feed, layers)

    monkeypatch.setattr(unroll, "trace", noted)
    config = {**SMALL, "num_hidden_layers": 9}
    half = {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 5}
    unroll.whole_step({**config, "model_type": "qwen2", **half}, Program(Method()), Feed(1, 64))
    unroll.whole_step(config, replace(Program(Method()), loss="smoothed"), Feed(1, 64))
    unroll.whole_step({**config, "model_type": "granite"}, Program(Method()), Feed(1, 64))
    unroll.whole_step(config, Program(Method()), Feed(1, 64))
    assert asked == [None, None, None, 3, 4]
