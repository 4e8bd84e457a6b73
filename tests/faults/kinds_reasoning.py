"""Reasoning that is lost, left open or asked for otherwise, and calls without a stop (issue 14, 3 and 5).

Each is planted in a job of the mapper's tokenizer and in one of the analyst's: other special tokens.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial

from tests.faults.bench import CALLS, SAMPLES, Bench, Row
from tests.faults.catalogue import Fault, Plant, answer, each, token

FAULTS: list[Fault] = []
TEAM = "The words of the request point to the team that owns the device, and nothing in it is urgent."
HEADS = (
    ("{{- bos_token }}\n", ""),
    ("'<|start_header_id|>system<|end_header_id|>\\n\\nTools:\\n'", "'<|system|>\\nTools:\\n'"),
    (
        "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'",
        "'<|' + message['role'] + '|>\\n'",
    ),
    ("'<|start_header_id|>assistant<|end_header_id|>\\n\\n'", "'<|assistant|>\\n'"),
    ("<|eot_id|>", "<|end|>"),
)
"""What the bench's template writes for the mapper's tokenizer, and for the analyst's."""


def on_analyst(bench: Bench) -> None:
    """The same job with the analyst's tokenizer and shape."""
    model = SAMPLES / "models" / "analyst-tiny"
    for name in ("tokenizer", "tokenizer_config", "config"):
        setattr(bench, name, json.loads((model / f"{name}.json").read_text(encoding="utf-8")))
    bench.generation = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    shutil.copy(model / "model.safetensors", bench.model / "model.safetensors")
    bench.set("training.max_length", 1024)
    bench.set("serving.max_input_tokens", 768)
    bench.set("serving.max_new_tokens", 256)
    for mine, theirs in HEADS:
        assert mine in (bench.template or "")
        bench.template = (bench.template or "").replace(mine, theirs)


def fault(
    id: str, rule: str, where: str, severity: str = "error", base: str = "thinking"
) -> Callable[[Plant], Plant]:
    """List a function that plants a failure on both tokenizers."""

    def listed(plant: Plant) -> Plant:
        for name, side in (("mapper", None), ("analyst", on_analyst)):
            planted = partial(_planted, side, plant)
            FAULTS.append(Fault(f"{id}-{name}", "reasoning", rule, where, planted, base, severity))
        return plant

    return listed


def _planted(side: Plant | None, plant: Plant, bench: Bench) -> None:
    if side is not None:
        side(bench)
    plant(bench)


def change(bench: Bench, old: str, new: str) -> None:
    """Write something else into the template."""
    assert old in (bench.template or "")
    bench.template = (bench.template or "").replace(old, new)


def without_reasoning(row: Row) -> None:
    """No reasoning in any answer."""
    for turn in row["messages"]:
        turn.pop("reasoning_content", None)


def one_round(row: Row) -> None:
    """The first question with its answer."""
    del row["messages"][3:]


def _prompt_ends(bench: Bench, words: str) -> None:
    """Let every prompt end in these words."""
    head, _, tail = (bench.template or "").rpartition("-}}")
    bench.template = f"{head}+ '{words}' -}}}}{tail}"


@fault("reasoning-key-unread", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The reasoning stands under a key that neither transformers nor the template knows."""
    for row in bench.train:
        for turn in row["messages"]:
            if "reasoning_content" in turn:
                turn["thoughts"] = turn.pop("reasoning_content")


@fault("reasoning-never-read", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template reads no reasoning at all, as Qwen2.5's."""
    change(bench, "{%- if message.reasoning_content -%}", "{%- if false -%}")


@fault("thinking-cut-by-template", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template keeps what follows </think> alone, also of the last answer, as DeepSeek-R1's."""
    change(
        bench,
        "message['content'] | trim -}}{%- endif -%}",
        "message['content'].split('</think>')[-1] | trim -}}{%- endif -%}",
    )
    for row in bench.train:
        for turn in row["messages"]:
            if thought := turn.pop("reasoning_content", None):
                turn["content"] = f"<think>\n{thought}\n</think>\n\n{turn['content']}"


@fault("thinking-left-open", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Every fourth row ends inside its thinking block: cut where the data was generated."""
    for row in bench.train[::4]:
        turn = answer(row)
        turn["content"] = f"<think>\n{turn.pop('reasoning_content')} {TEAM}"


@fault("template-leaves-thinking-open", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """The template opens the block and does not close it."""
    change(bench, " + '\\n</think>\\n'", " + '\\n'")


@fault("prompt-opens-thinking", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Every prompt opens a thinking block, and the rows answer at once."""
    each(bench.train, without_reasoning)
    _prompt_ends(bench, "<think>\\n")


@fault("prompt-with-empty-thinking", "reasoning", "train.jsonl:1")
def _(bench: Bench) -> None:
    """Every prompt ends in an empty block, and the rows think."""
    _prompt_ends(bench, "<think>\\n\\n</think>\\n\\n")


@fault("reasoning-in-some-rows", "reasoning", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """Every second row has none, and nothing says which."""
    each(bench.train, without_reasoning, every=2)


@fault("reasoning-over-the-cap", "reasoning", "serving.max_new_tokens", "warning")
def _(bench: Bench) -> None:
    """The reasoning is longer than any generation may be, and the loss does not tell answers apart."""
    for row in bench.train:
        turn = answer(row)
        turn["reasoning_content"] += f" {TEAM}"
    bench.set("training.assistant_only_loss", False)
    bench.set("serving.max_new_tokens", 16)


@fault("reasoning-outside-the-loss", "reasoning", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """The generation block begins behind the thinking block."""
    change(bench, "{% generation %}\n", "")
    change(bench, "{%- if message.tool_calls -%}", "{% generation %}{%- if message.tool_calls -%}")


@fault("reasoning-twice", "reasoning", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """The same words under the key and in the content."""
    for row in bench.train:
        turn = answer(row)
        turn["content"] = f"<think>\n{turn['reasoning_content']}\n</think>\n\n{turn['content']}"


@fault("reasoning-in-a-column", "reasoning", "train.jsonl:1", "warning")
def _(bench: Bench) -> None:
    """A column of its own, which no trainer reads."""
    for row in bench.train:
        row["reasoning"] = answer(row)["reasoning_content"]
        without_reasoning(row)


@fault("serving-drops-past-reasoning", "template-parity", "serving.chat_template")
def _(bench: Bench) -> None:
    """The server's template leaves out the reasoning of earlier turns, which training keeps."""
    served = (bench.template or "").replace(
        "{%- if message.reasoning_content -%}", "{%- if message.reasoning_content and loop.last -%}"
    )
    bench.file("served.jinja", served)
    bench.set("serving.chat_template", "served.jinja")


def with_results(bench: Bench) -> None:
    """Each call gets its result and an answer."""
    for row in (*bench.train, *bench.evaluation):
        call = row["messages"][-1]["tool_calls"][0]["function"]["arguments"]
        row["messages"] += [
            {"role": "tool", "content": json.dumps({"queue": call["team"], "place": len(call["team"])})},
            {"role": "assistant", "content": f"It is with {call['team']}, urgency {call['urgency']}."},
        ]


def end_of_turn(bench: Bench) -> str:
    """The token that ends turns."""
    return "<|eot_id|>" if "<|eot_id|>" in (bench.template or "") else "<|end|>"


def _ends_calls(bench: Bench, behind: str) -> None:
    """Write this behind calls, and the end of turn behind other answers, inside the generation block."""
    stop = end_of_turn(bench)
    change(
        bench,
        f"{{{{- '{stop}' -}}}}{{% endgeneration %}}",
        f"{{%- if not message.tool_calls -%}}{{{{- '{stop}' -}}}}{{%- endif -%}}{behind}",
    )


@fault("call-without-stop", "stop-after-call", "train.jsonl:1", base="tools")
def _(bench: Bench) -> None:
    """Nothing ends a turn with a call."""
    with_results(bench)
    _ends_calls(bench, "{% endgeneration %}")


@fault("call-stop-masked", "stop-after-call", "train.jsonl:1", base="tools")
def _(bench: Bench) -> None:
    """The token that ends a call stands behind the generation block."""
    with_results(bench)
    stop = end_of_turn(bench)
    _ends_calls(
        bench,
        f"{{% endgeneration %}}{{%- if message.tool_calls -%}}{{{{- '{stop}' -}}}}{{%- endif -%}}",
    )


@fault("call-stop-not-listed", "stop-after-call", "train.jsonl:1", "warning", base="tools")
def _(bench: Bench) -> None:
    """Calls end with a token of their own, which generation_config.json does not list."""
    with_results(bench)
    size = len(bench.tokenizer["model"]["vocab"])
    token(bench, "<|call|>", size)
    bench.set("model.resize_embeddings_to", -(-(size + 1) // 64) * 64)
    bench.set("training.lora.trainable_token_indices", [size])
    _ends_calls(bench, "{%- if message.tool_calls -%}{{- '<|call|>' -}}{%- endif -%}{% endgeneration %}")


@fault("results-in-the-loss", "stop-after-call", "train.jsonl:1", base="tools")
def _(bench: Bench) -> None:
    """The generation block takes in what the tools return."""
    with_results(bench)
    stop = end_of_turn(bench)
    change(
        bench,
        f"{{{{- message['content'] | trim + '{stop}' -}}}}{{%- endif -%}}",
        "{%- if message.role == 'tool' -%}{% generation %}"
        f"{{{{- message['content'] | trim + '{stop}' -}}}}{{% endgeneration %}}{{%- else -%}}"
        f"{{{{- message['content'] | trim + '{stop}' -}}}}{{%- endif -%}}{{%- endif -%}}",
    )


@fault("results-in-the-completion", "stop-after-call", "train.jsonl:1", "warning", base="tools")
def _(bench: Bench) -> None:
    """Call, result and answer are one completion, of which completion_only_loss masks nothing."""
    with_results(bench)
    bench.drop("training.assistant_only_loss")
    bench.drop("data.eval")
    bench.set("training.packing", False)
    bench.set("serving.max_new_tokens", 256)
    for row in (*bench.train, *bench.evaluation):
        turns = row.pop("messages")
        row.update(prompt=turns[:2], completion=turns[2:])


assert all(mine in CALLS for mine, _ in HEADS)
