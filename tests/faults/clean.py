"""Healthy jobs: the checks must find nothing above `info` in any of them.

`SMALL` is always run. `combinations` are real tokenizers and templates with real data (`realdata`); rows
that really are at fault (duplicates, a system message for a template that has none) are left out of it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults import answer_shapes
from tests.faults.bench import BASES, Bench, Row, chat, completion
from tests.faults.from_files import imported, llama_factory
from tests.places import DATA

ROWS = 240

Change = Callable[[Bench], None]

SMALL: dict[str, tuple[str, Change]] = {name: (name, lambda bench: None) for name in BASES}
"""Name, base, and what is changed in it."""
SMALL |= answer_shapes.CLEAN


def small(name: str, base: str = "chat") -> Callable[[Change], Change]:
    """List a healthy variant of a base."""

    def listed(change: Change) -> Change:
        SMALL[name] = (base, change)
        return change

    return listed


def _without_serving(bench: Bench) -> None:
    bench.drop("serving")


for _base in BASES:
    small(f"nothing said of serving: {_base}", _base)(_without_serving)


@small("HTML under a vocabulary whose tags are added tokens, but not special")
def _(bench: Bench) -> None:
    """Gemma's <h1> and <table>: here a piece of JSON that stands in every answer."""
    piece = '{"'
    number = bench.tokenizer["model"]["vocab"][piece]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    bench.tokenizer["added_tokens"].append({"id": number, "content": piece, **flags})


@small("generic prompts, each with many answers")
def _(bench: Bench) -> None:
    prompts = ("Write a request.", "Make up a ticket.", "Say what a user may say.")
    for rows in (bench.train, bench.evaluation):
        for number, row in enumerate(rows):
            system, asked, answer = row["messages"]
            words = asked["content"]
            row["messages"] = [
                system,
                {**asked, "content": prompts[number % 3]},
                {**answer, "content": words},
            ]
    bench.set("serving.max_new_tokens", 256)


@small("rows of tool calls, with the server's parser for them")
def _(bench: Bench) -> None:
    from tests.faults import kinds_parser

    kinds_parser.clean(bench)


@small("rows of tool calls for Mistral's parser, on a tokenizer with its token", "thinking")
def _(bench: Bench) -> None:
    from tests.faults import kinds_parser

    kinds_parser.clean_with_token(bench)


@small("padding is EOS, with TRL's collator")
def _(bench: Bench) -> None:
    bench.tokenizer_config["pad_token"] = "<|eot_id|>"


@small("no padding token: TRL takes EOS")
def _(bench: Bench) -> None:
    del bench.tokenizer_config["pad_token"]


@small("no packing, batches of one length")
def _(bench: Bench) -> None:
    bench.set("training.packing", False)
    bench.set("training.per_device_train_batch_size", 4)


@small("packing with eager attention")
def _(bench: Bench) -> None:
    bench.set("training.model_init_kwargs", {"attn_implementation": "eager"})


@small("a schedule with its argument, on a named GPU")
def _(bench: Bench) -> None:
    bench.set("training.lr_scheduler_type", "cosine_with_min_lr")
    bench.set("training.lr_scheduler_kwargs", {"min_lr_rate": 0.1})
    bench.set("hardware", {"gpu": "A100 80GB", "count": 1})


@small("a metric that TRL computes decides which checkpoint is kept")
def _(bench: Bench) -> None:
    bench.set("training.eval_strategy", "epoch")
    bench.set("training.save_strategy", "epoch")
    bench.set("training.load_best_model_at_end", True)
    bench.set("training.metric_for_best_model", "mean_token_accuracy")


@small("packing with sdpa")
def _(bench: Bench) -> None:
    bench.set("training.model_init_kwargs", {"attn_implementation": "sdpa"})


@small("an embedding table with more rows than tokens")
def _(bench: Bench) -> None:
    from tests.faults.catalogue import pad_table

    bench.config["vocab_size"] = 2176
    bench.then(lambda bench: pad_table(bench, 2176))


@small("a tokenizer that adds no BOS, and a template without one")
def _(bench: Bench) -> None:
    bench.template = (bench.template or "").replace("{{- bos_token -}}\n", "")
    bench.tokenizer["post_processor"] = None


@small("another padding token than the model's config says")
def _(bench: Bench) -> None:
    bench.config["pad_token_id"] = None


@small("prompts in the loss, because the policy says so")
def _(bench: Bench) -> None:
    bench.set("training.assistant_only_loss", False)
    bench.set("serving.max_new_tokens", 64)


@small("prompt and completion as messages", "chat")
def _(bench: Bench) -> None:
    bench.drop("training.assistant_only_loss")
    for rows in (bench.train, bench.evaluation):
        for row in rows:
            turns = row.pop("messages")
            row.update(prompt=turns[:-1], completion=turns[-1:])


@small("ShareGPT rows")
def _(bench: Bench) -> None:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    for rows in (bench.train, bench.evaluation):
        for row in rows:
            turns = row.pop("messages")
            row["conversations"] = [{"from": names[t["role"]], "value": t["content"]} for t in turns]


@small("all weights trained in bfloat16")
def _(bench: Bench) -> None:
    bench.drop("training.lora")
    bench.drop("training.quantization")
    bench.set("training.learning_rate", 2.0e-5)


@small("added tokens in a resized table that is trained")
def _(bench: Bench) -> None:
    from tests.faults.catalogue import asked, token

    token(bench, "<|ticket|>", 2048)
    bench.set("model.resize_embeddings_to", 2112)
    bench.set("training.lora.trainable_token_indices", [2048])
    for row in bench.train:
        asked(row)["content"] = "<|ticket|>" + asked(row)["content"]


@small("attention targets only")
def _(bench: Bench) -> None:
    bench.set("training.lora.target_modules", ["q_proj", "k_proj", "v_proj", "o_proj"])


@small("served merged, by vLLM")
def _(bench: Bench) -> None:
    bench.set("serving.engine", "vllm")
    bench.set("serving.adapter", "merged")


@small("evaluated as it is served")
def _(bench: Bench) -> None:
    bench.set("evaluation", {"max_new_tokens": 64, "batch_size": 8, "padding_side": "left"})


@small("four GPUs and the batch of the recipe")
def _(bench: Bench) -> None:
    bench.set("hardware.count", 4)
    bench.set("targets.effective_batch", 4)


@small("locked, and nothing changed")
def _(bench: Bench) -> None:
    from tests.faults.catalogue import lock

    bench.then(lock)


@small("the best checkpoint at the end")
def _(bench: Bench) -> None:
    bench.set("training.load_best_model_at_end", True)
    bench.set("training.eval_strategy", "epoch")
    bench.set("training.save_strategy", "epoch")


@small("wandb with a key")
def _(bench: Bench) -> None:
    bench.packages["wandb"] = "0.22.0"
    bench.environment = {"wandb": "key"}
    bench.set("training.report_to", "wandb")


@small("YAML of another trainer with numbers that are numbers")
def _(bench: Bench) -> None:
    bench.file("axolotl.yml", "base_model: model\nsequence_len: 320\nlearning_rate: 1.0e-5\nname: '08'\n")
    bench.set(
        "trainer", {"use": "command", "argv": ["axolotl", "train", "axolotl.yml"], "files": ["axolotl.yml"]}
    )


@small("a job whose settings stand in axolotl's file, trained by axolotl")
def _(bench: Bench) -> None:
    imported(bench)


@small("the same from LLaMA-Factory's file and dataset_info.json")
def _(bench: Bench) -> None:
    tags = {"role_tag": "role", "content_tag": "content"}
    entry = {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    llama_factory(bench, entry)


@small("settings beside axolotl's file that ftcheck's own trainer trains with")
def _(bench: Bench) -> None:
    imported(bench)
    bench.set("training.max_length", 288)
    bench.drop("trainer")


# --- real tokenizers, templates and data -----------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """A tokenizer's folder, the shape of a model that has it, and a template from elsewhere.

    `system`: the template takes system messages; `chat`: there is a template; `alone`: the tokenizer's
    files lie in a folder of their own, without config.json.
    """

    tokenizer: str
    config: str | Mapping[str, Any]
    template: str | None = None
    system: bool = True
    chat: bool = True
    alone: bool = False

    @property
    def name(self) -> str:
        """For the test's name."""
        return self.tokenizer + (f" + {self.template}" if self.template else "")


QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
PHI2 = {
    "architectures": ["PhiForCausalLM"],
    "model_type": "phi",
    "vocab_size": 51200,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
LLAMA2 = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
LLAMA31 = "Meta-Llama-3-8B-Instruct"
SIDES = (
    Side("Llama-3.1-8B-Instruct", LLAMA31),
    Side("llama-3-instruct", LLAMA31),
    Side("Mistral-7B-Instruct-v0.3", "Mistral-7B-Instruct-v0.3", system=False),
    Side("Qwen2.5-Instruct", "Qwen2.5-7B-Instruct"),
    Side("qwen2-instruct-vocab-merges", "Qwen2.5-7B-Instruct"),
    Side("Qwen3", QWEN3),
    Side("phi-3-mini-instruct", "Phi-3-mini-4k-instruct"),
    Side("phi-2", PHI2, chat=False),
    Side("llama-2-in-the-wild", LLAMA2, chat=False),
    Side("llama-3-instruct", LLAMA31, "templates/axolotl/llama3.jinja"),
    Side("Llama-3.1-8B-Instruct", LLAMA31, "templates/axolotl/llama3.jinja"),
    Side("Qwen2.5-Instruct", "Qwen2.5-7B-Instruct", "templates/axolotl/chatml.jinja"),
    Side("Qwen2.5-Instruct", "Qwen2.5-7B-Instruct", "templates/axolotl/qwen_25.jinja"),
    Side("Qwen2.5-Instruct", "Qwen2.5-7B-Instruct", "templates/llama.cpp/Qwen-Qwen2.5-7B-Instruct.jinja"),
    Side("Qwen3", QWEN3, "templates/axolotl/chatml.jinja"),
    Side("Qwen3", QWEN3, "templates/llama.cpp/Qwen-Qwen3-0.6B.jinja"),
    Side("phi-3-mini-instruct", "Phi-3-mini-4k-instruct", "templates/axolotl/phi_3.jinja"),
)
NOT_CLEAN: Mapping[Side, Sequence[str]] = {
    Side("phi-3-mini-without-config", "Phi-3-mini-4k-instruct", alone=True): ["tokenizer-parity"],
    Side("TinyLlama-1.1B-Chat-v1.0", "TinyLlama-1.1B"): ["tokenizer-parity", "special-tokens"],
}
"""Not clean, with the rules that warn, and rightly: transformers 5.23 gives other ids than tokenizer.json,
and TinyLlama's template writes no BOS where its tokenizer begins every other text with one."""


@dataclass(frozen=True)
class Data:
    """Real rows in one layout."""

    name: str
    rows: Callable[[], list[Row]]
    conversational: bool = True
    answers_apart: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)


def _jsonl(path: str) -> Iterator[Row]:
    with (DATA / path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


@cache
def _listed(path: str) -> tuple[Row, ...]:
    return tuple(json.loads((DATA / path).read_text(encoding="utf-8")))


def _distinct(rows: Iterator[Row] | Sequence[Row], key: Callable[[Row], str], count: int = ROWS) -> list[Row]:
    """The first rows whose questions differ in more than case and punctuation."""
    seen: set[str] = set()
    found = []
    for row in rows:
        words = re.sub(r"\W+", " ", key(row)).casefold().strip()
        if words and words not in seen:
            seen.add(words)
            found.append(row)
        if len(found) == count:
            break
    return found


def _question(row: Row) -> str:
    return str(next(t["content"] for t in row["messages"] if t["role"] == "user"))


def _job(name: str) -> list[Row]:
    return _distinct(_jsonl(f"jobs/{name}/train.jsonl"), _question)


def _meetings() -> list[Row]:
    """The beginnings of the documents: whole ones are longer than most of these models take."""
    rows = _distinct(_jsonl("jobs/meetings/train.jsonl"), lambda row: _question(row)[-200:], 60)
    for row in rows:
        asked = next(turn for turn in row["messages"] if turn["role"] == "user")
        asked["content"] = asked["content"][-2500:]
    return rows


def _alpaca() -> list[Row]:
    shard = next(
        p for p in sorted((DATA / "datasets/alpaca_en_52k_shards").iterdir()) if "-0-3252-" in p.name
    )
    rows = (row for row in json.loads(shard.read_text(encoding="utf-8")) if row["output"].strip())
    return _distinct(rows, lambda row: row["instruction"] + row["input"])


def _alpaca_text() -> list[Row]:
    asked = "### Instruction:\n{instruction}\n\n### Response:\n"
    return [{"prompt": asked.format(**row), "completion": row["output"]} for row in _alpaca()]


def _demo() -> list[Row]:
    rows = _listed("datasets/llama_factory/alpaca_en_demo.json")
    kept = [row for row in rows if row["output"].strip()]
    return [
        {
            "messages": [
                {"role": "user", "content": f"{row['instruction']}\n{row.get('input') or ''}".strip()},
                {"role": "assistant", "content": row["output"].strip()},
            ]
        }
        for row in _distinct(kept, lambda row: row["instruction"])
    ]


def _plain() -> list[Row]:
    rows = [{"text": row["text"][:4000]} for row in _jsonl("datasets/llama_factory/c4_demo.jsonl")]
    return _distinct(rows, lambda row: row["text"])


def _intents() -> list[Row]:
    found = json.loads((DATA / "datasets/clinc_oos/data_full.json").read_text(encoding="utf-8"))["train"]
    rows = [{"prompt": f"Request: {asked}\nIntent:\n", "completion": intent} for asked, intent in found[::60]]
    return _distinct(rows, lambda row: row["prompt"])


DATASETS = (
    Data("mapper", lambda: _job("mapper")),
    Data("analyst", lambda: _job("analyst")),
    Data("meetings", _meetings, training={"max_length": 4096}),
    Data("alpaca", _alpaca),
    Data("alpaca-demo", _demo),
    Data("alpaca-text", _alpaca_text, conversational=False),
    Data("c4", _plain, conversational=False, answers_apart=False),
    Data("clinc", _intents, conversational=False, training={"max_length": 256}),
)

STOPS = {
    "Llama-3": [128001, 128009],
    "llama-3": [128001, 128009],
    "Mistral": 2,
    "Qwen": [151645, 151643],
    "qwen": [151645, 151643],
    "TinyLlama": 2,
    "phi-3": [32000, 32001, 32007],
    "phi-2": 50256,
    "llama-2": 2,
}
"""eos_token_id of the models' published generation_config.json."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "packed": {"packing": True, "per_device_train_batch_size": 1},
    "padded": {
        "packing": False,
        "per_device_train_batch_size": 2,
        "train_sampling_strategy": "group_by_length",
    },
}


@dataclass(frozen=True)
class Combination:
    """A real tokenizer and template, real data, and how it is trained."""

    side: Side
    data: Data
    setting: str

    @property
    def name(self) -> str:
        """For the test's name."""
        return f"{self.side.name} · {self.data.name} · {self.setting}"

    def bench(self, folder: Path) -> Bench:
        """The job in a folder: links to the tokenizer's files, rows copied."""
        base = chat if self.data.conversational else completion
        bench = base(folder)
        bench.train = [_without_system(row) if not self.side.system else row for row in self.data.rows()]
        bench.evaluation, bench.gold = [], []
        for key in ("data.eval", "data.gold", "serving.output_schema", "serving.schema_retries"):
            _gone(bench, key)
        for key in ("serving.system_prompt", "training.assistant_only_loss", "training.completion_only_loss"):
            _gone(bench, key)
        if self.data.name in ("mapper", "analyst"):
            first = self.data.rows()[0]["messages"][0]
            if first["role"] == "system" and self.side.system:
                bench.set("serving.system_prompt", first["content"])
        if self.data.name in ("mapper", "analyst", "meetings", "alpaca-demo"):
            bench.set("training.assistant_only_loss", markers(self.side))
        bench.set("training.max_length", 2048)
        bench.set("serving.max_new_tokens", 768)
        bench.set("serving.max_input_tokens", 1280)
        for key, value in {**SETTINGS[self.setting], **self.data.training}.items():
            bench.set(f"training.{key}", value)
        _model_of(bench, self.side)
        return bench


def markers(side: Side) -> bool:
    """Whether the loss can be on the assistant's words: the template has markers, or TRL knows a version."""
    from ftcheck import templates

    folder = DATA / "tokenizers" / side.tokenizer
    found = (
        (DATA / side.template).read_text(encoding="utf-8") if side.template else templates.of_folder(folder)
    )
    return templates.has_markers(templates.applied(found, assistant_only_loss=True) or "")


def _gone(bench: Bench, key: str) -> None:
    try:
        bench.drop(key)
    except KeyError:
        return


def _without_system(row: Row) -> Row:
    if "messages" not in row:
        return row
    return {**row, "messages": [turn for turn in row["messages"] if turn["role"] != "system"]}


def _model_of(bench: Bench, side: Side) -> None:
    """The model's folder: the tokenizer's files, a config, no weights."""
    bench.tokenizer = bench.tokenizer_config = bench.config = {}
    bench.generation, bench.template = None, None

    def link(bench: Bench) -> None:
        for old in bench.model.iterdir():
            old.unlink()
        tokenizer = bench.folder / "tokenizer" if side.alone else bench.model
        tokenizer.mkdir(exist_ok=True)
        for path in (DATA / "tokenizers" / side.tokenizer).iterdir():
            if path.name not in ("config.json", "generation_config.json"):
                (tokenizer / path.name).symlink_to(path)
        config = side.config
        if isinstance(config, str):
            config = json.loads((DATA / "model-configs" / config / "config.json").read_text(encoding="utf-8"))
        bench.file("model/config.json", json.dumps(config))
        stops = next(ids for name, ids in STOPS.items() if side.tokenizer.startswith(name))
        bench.file("model/generation_config.json", json.dumps({"eos_token_id": stops}))

    bench.then(link)
    if side.alone:
        bench.set("model.tokenizer", "./tokenizer")
    if side.template is not None:
        bench.file("template.jinja", (DATA / side.template).read_text(encoding="utf-8"))
        bench.set("model.chat_template", "template.jinja")


def combinations() -> list[Combination]:
    """Every tokenizer with every data set; packed and padded in turn, both for the conversations."""
    found = []
    for number, side in enumerate(SIDES):
        for position, data in enumerate(DATASETS):
            if (side.template is not None) > data.conversational or data.conversational > side.chat:
                continue
            settings = (
                list(SETTINGS)
                if data.name in ("mapper", "analyst")
                else [list(SETTINGS)[(number + position) % 2]]
            )
            found += [Combination(side, data, setting) for setting in settings]
    return found
