"""The failures of the catalogue (`failures.md`) that can be caught without a GPU: each planted as the
smallest change to a clean job, and which rule must find it where.

Written before the rules: a fault is not bent to fit its rule. `where` is a row (`train.jsonl:3`), a
setting (`training.max_length`), or a file; `~words` is a finding about the machine, which says so itself.
"""

import contextlib
import copy
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from tests.faults.bench import GIB, Bench, Row, rows_of

Plant = Callable[[Bench], None]


@dataclass(frozen=True)
class Fault:
    """One catalogued failure: the clean job it is planted in, the rule that must find it, and where.

    `severity` is the least that the finding must have.
    """

    id: str
    area: str
    rule: str
    where: str
    plant: Plant
    base: str = "chat"
    severity: str = "warning"


FAULTS: list[Fault] = []


def fault(
    area: str, id: str, rule: str, where: str, base: str = "chat", severity: str = "warning"
) -> Callable[[Plant], Plant]:
    """List a function that plants a failure."""

    def listed(plant: Plant) -> Plant:
        FAULTS.append(Fault(id, area, rule, where, plant, base, severity))
        return plant

    return listed


def each(rows: Sequence[Row], change: Callable[[Row], None], every: int = 1) -> None:
    """Change every nth row in place."""
    for row in rows[::every]:
        change(row)


def answer(row: Row) -> dict[str, Any]:
    """The last answer of a conversation."""
    turn: dict[str, Any] = next(t for t in reversed(row["messages"]) if t["role"] == "assistant")
    return turn


def asked(row: Row) -> dict[str, Any]:
    """The first question of a conversation."""
    turn: dict[str, Any] = next(t for t in row["messages"] if t["role"] == "user")
    return turn


def token(bench: Bench, content: str, number: int) -> None:
    """Add a special token with this id to the tokenizer."""
    bench.tokenizer["added_tokens"].append(
        {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )


def long(words: int, seed: int = 0) -> str:
    """A text of so many different words."""
    return " ".join(f"item{seed}x{n}" for n in range(words))


# --- A. BOS, EOS, PAD ------------------------------------------------------------------------------------


@fault("A", "double-bos", "special-tokens", "train.jsonl:1", "completion")
def _(bench: Bench) -> None:
    """The prompts hold the BOS text, and the tokenizer adds one of its own."""
    each(bench.train, lambda row: row.update(prompt="<|begin_of_text|>" + row["prompt"]))


@fault("A", "missing-bos", "special-tokens", "model.chat_template")
def _(bench: Bench) -> None:
    """The template lost its BOS; the tokenizer begins every other text with one."""
    bench.template = (bench.template or "").replace("{{- bos_token -}}\n", "")


@fault("A", "eos-never-in-rows", "trained-tokens", "train.jsonl:1", severity="error")
def _(bench: Bench) -> None:
    """The template does not close the assistant's turn."""
    bench.template = (bench.template or "").replace(
        "{% generation %}{{- message['content'] | trim ~ '<|eot_id|>' -}}{% endgeneration %}",
        "{% generation %}{{- message['content'] | trim -}}{% endgeneration %}",
    )


@fault("A", "eos-label-masked-pad-eos", "collator", "trainer.collator", severity="error")
def _(bench: Bench) -> None:
    """Padding is the EOS token, and transformers' collator masks every padding id."""
    bench.tokenizer_config["pad_token"] = "<|eot_id|>"
    bench.set("trainer.collator", "transformers")
    bench.set("trainer.use", "command")
    bench.set("trainer.argv", ["python", "train.py"])


@fault("A", "turn-end-masked", "trained-tokens", "train.jsonl:1", severity="error")
def _(bench: Bench) -> None:
    """The generation block ends before the token that ends the turn."""
    bench.template = (bench.template or "").replace(
        "~ '<|eot_id|>' -}}{% endgeneration %}", "-}}{% endgeneration %}{{- '<|eot_id|>' -}}"
    )


@fault("A", "generation-eos-mismatch", "evaluation-parity", "model.name", severity="error")
def _(bench: Bench) -> None:
    """Generation stops at the base model's token, training ends turns with another."""
    bench.generation = {"eos_token_id": 1}
    bench.tokenizer_config["eos_token"] = "<|end_of_text|>"
    bench.config["eos_token_id"] = 1


@fault("A", "no-pad-token", "special-tokens", "model.name")
def _(bench: Bench) -> None:
    """No padding token but a hand-made one, beyond the embedding table."""
    token(bench, "[PAD]", 2048)
    bench.tokenizer_config["pad_token"] = "[PAD]"


@fault("A", "padding-side", "evaluation-parity", "evaluation.padding_side")
def _(bench: Bench) -> None:
    """Batched generation with padding on the right."""
    bench.set("evaluation", {"batch_size": 8, "padding_side": "right"})


# --- B. Chat template, train/serve/eval parity -----------------------------------------------------------


@fault("B", "template-missing", "chat-template", "model.chat_template", severity="error")
def _(bench: Bench) -> None:
    """A base model: no template."""
    bench.template = None


@fault("B", "template-not-saved", "server-limits", "serving.engine")
def _(bench: Bench) -> None:
    """transformers 5 saves chat_template.jinja, which this server does not read."""
    bench.set("serving.engine", "tgi")
    bench.set("serving.engine_version", "2.4.0")


@fault("B", "train-serve-template", "template-parity", "serving.chat_template", severity="error")
def _(bench: Bench) -> None:
    """The server renders ChatML."""
    bench.file(
        "serve.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    )
    bench.set("serving.chat_template", "serve.jinja")


@fault("B", "system-dropped", "chat-template", "train.jsonl:1", severity="error")
def _(bench: Bench) -> None:
    """The template skips system messages."""
    bench.template = (bench.template or "").replace(
        "{%- for message in messages -%}", "{%- for message in messages if message['role'] != 'system' -%}"
    )


@fault("B", "roles-alternate", "chat-template", "train.jsonl:5", severity="error")
def _(bench: Bench) -> None:
    """One row asks twice in a row, and the template raises."""
    bench.template = "{%- set ns = namespace(last='') -%}" + (bench.template or "").replace(
        "{%- for message in messages -%}",
        "{%- for message in messages -%}{%- if message['role'] == ns.last -%}"
        "{{- raise_exception('Conversation roles must alternate') -}}{%- endif -%}"
        "{%- set ns.last = message['role'] -%}",
    )
    bench.train[4]["messages"].insert(1, {"role": "user", "content": "Hello?"})


@fault("B", "thinking-stripped", "reasoning", "train.jsonl:1", "thinking")
def _(bench: Bench) -> None:
    """Reasoning of past turns is left out, as Qwen3's template does."""
    bench.template = (bench.template or "").replace(
        "{%- if message.reasoning_content -%}", "{%- if message.reasoning_content and loop.last -%}"
    )


@fault("B", "empty-think-mismatch", "template-parity", "serving.chat_template_kwargs", severity="error")
def _(bench: Bench) -> None:
    """Requests switch thinking on: the prompt opens a block that no training row has."""
    bench.template = (bench.template or "").replace(
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}",
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}"
        "{%- if enable_thinking is defined and enable_thinking -%}{{- '<think>\\n' -}}{%- endif -%}",
    )
    bench.set("serving.chat_template_kwargs", {"enable_thinking": True})


@fault("B", "prompt-not-prefix", "prompt-boundary", "train.jsonl:1", "completion")
def _(bench: Bench) -> None:
    """The boundary lies inside a word: the tokenizer merges over it."""

    def moved(row: Row) -> None:
        row["prompt"] = row["prompt"].removesuffix("\nJSON:\n") + "\nReq"
        row["completion"] = "uest: " + row["completion"]

    each(bench.train, moved)


@fault("B", "date-in-template", "template-parity", "model.chat_template")
def _(bench: Bench) -> None:
    """The template writes today's date into every prompt."""
    bench.template = (bench.template or "").replace(
        "{{- message['content'] | trim ~ '<|eot_id|>' -}}\n{%- endif -%}",
        "{%- if message['role'] == 'system' -%}"
        "{{- 'Today: ' ~ strftime_now('%d %b %Y') ~ '\\n' -}}{%- endif -%}"
        "{{- message['content'] | trim ~ '<|eot_id|>' -}}\n{%- endif -%}",
    )


@fault("B", "tool-args-double-json", "tool-calls", "train.jsonl:1", "tools", severity="error")
def _(bench: Bench) -> None:
    """Arguments are JSON texts, as OpenAI's format has them, and the template encodes them again."""

    def encoded(row: Row) -> None:
        function = answer(row)["tool_calls"][0]["function"]
        function["arguments"] = json.dumps(function["arguments"])

    each(bench.train, encoded)


@fault("B", "null-content", "data-schema", "train.jsonl:7", severity="error")
def _(bench: Bench) -> None:
    """An answer is null, and the template writes None."""
    bench.template = (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|eot_id|>{% endgeneration %}"
        "{% else %}{{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    answer(bench.train[6])["content"] = None


@fault("B", "special-token-in-text", "special-tokens-in-text", "train.jsonl:9")
def _(bench: Bench) -> None:
    """A user quotes a control token."""
    asked(bench.train[8])["content"] += " The log ends in <|eot_id|> and nothing else."


# --- C. Loss masks ---------------------------------------------------------------------------------------


@fault("C", "response-template-not-found", "response-markers", "trainer.response_part", severity="error")
def _(bench: Bench) -> None:
    """The marker is in no row: another template's."""
    bench.set("trainer.use", "command")
    bench.set("trainer.argv", ["python", "train.py"])
    bench.set("trainer.instruction_part", "<|start_header_id|>user<|end_header_id|>\n\n")
    bench.set("trainer.response_part", "### Response:\n")


@fault("C", "assistant-mask-no-generation", "chat-template", "training.assistant_only_loss", severity="error")
def _(bench: Bench) -> None:
    """The template has no generation markers."""
    bench.template = (bench.template or "").replace("{% generation %}", "").replace("{% endgeneration %}", "")


@fault("C", "tokenization-mismatch-zero", "trained-tokens", "train.jsonl:4", "completion", severity="error")
def _(bench: Bench) -> None:
    """The mask of a row covers all of it: nothing behind the prompt is left."""
    row = bench.train[3]
    row["prompt"], row["completion"] = row["prompt"] + row["completion"], ""


@fault("C", "train-on-responses-markers", "response-markers", "trainer.instruction_part", severity="error")
def _(bench: Bench) -> None:
    """The marker of the instruction is another template's: later questions are in the loss."""
    bench.set("trainer.use", "command")
    bench.set("trainer.argv", ["python", "train.py"])
    bench.set("trainer.instruction_part", "<|im_start|>user\n")
    bench.set("trainer.response_part", "<|start_header_id|>assistant<|end_header_id|>\n\n")


@fault("C", "truncation-removes-completion", "truncation", "training.max_length", severity="error")
def _(bench: Bench) -> None:
    """A few long prompts: nothing of these answers is left."""
    each(bench.train, lambda row: asked(row).update(content=long(200)), every=25)
    bench.set("serving.max_input_tokens", 1900)


@fault("C", "truncation-removes-eos", "truncation", "training.max_length", "completion", severity="error")
def _(bench: Bench) -> None:
    """A few long answers lose their end."""
    for number, row in enumerate(bench.train[::25]):
        row["completion"] = long(200, number)
    bench.set("serving.max_new_tokens", 1400)


@fault("C", "mask-lost-in-kernel-or-packing", "known-bugs", "training.use_liger_kernel")
def _(bench: Bench) -> None:
    """TRL before 0.20 with Liger ignores the assistant mask."""
    bench.packages["trl"] = "0.19.0"
    bench.set("training.use_liger_kernel", True)


@fault("C", "prompt-in-loss", "trained-tokens", "training.assistant_only_loss")
def _(bench: Bench) -> None:
    """Nobody said whether prompts are in the loss, and TRL's default is that they are."""
    bench.drop("training.assistant_only_loss")


# --- D. Length, truncation, packing ----------------------------------------------------------------------


@fault("D", "default-max-length", "percentile-seq-len", "training.max_length", severity="error")
def _(bench: Bench) -> None:
    """max_length is not set, TRL's is 1,024, and the rows are longer."""
    bench.drop("training.max_length")
    for number, row in enumerate(bench.train[::4]):
        answer(row)["content"] = long(180, number)
    bench.set("serving.max_new_tokens", 1500)
    bench.drop("serving.output_schema")
    bench.drop("serving.schema_retries")


@fault("D", "over-model-max", "context-window", "training.max_length", severity="error")
def _(bench: Bench) -> None:
    """Rows longer than the model's positions."""
    bench.config["max_position_embeddings"] = 96
    bench.tokenizer_config["model_max_length"] = 96
    bench.set("serving.max_input_tokens", 32)
    bench.set("serving.over_limit", "rules")


@fault("D", "sliding-window", "context-window", "training.model_init_kwargs")
def _(bench: Bench) -> None:
    """The model attends 64 tokens back, and this attention is not known to."""
    bench.config.update(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=64)
    bench.set("training.model_init_kwargs", {"attn_implementation": "xformers"})


@fault("D", "packing-contamination", "packing-isolation", "training.packing_strategy", severity="error")
def _(bench: Bench) -> None:
    """Wrapped packing: rows see each other, and are cut anywhere."""
    bench.set("training.packing_strategy", "wrapped")


@fault("D", "packing-too-few-rows", "schedule", "training.gradient_accumulation_steps")
def _(bench: Bench) -> None:
    """Packing leaves three steps an epoch."""
    bench.set("training.gradient_accumulation_steps", 16)


@fault("D", "packing-waste", "packing-efficiency", "training.packing")
def _(bench: Bench) -> None:
    """No packing, and rows of very different lengths in one batch: most of it is padding."""
    bench.set("training.packing", False)
    bench.set("training.per_device_train_batch_size", 16)
    for number, row in enumerate(bench.train[::10]):
        asked(row)["content"] = long(36, number)


@fault("D", "padding-free-limits", "training-arguments", "training.padding_free", severity="error")
def _(bench: Bench) -> None:
    """padding_free without packing, with a max_length: TRL refuses to start (qlora feeds it cut rows)."""
    bench.set("training.packing", False)
    bench.set("training.padding_free", True)
    bench.file("sft.py", "")
    bench.set("trainer", {"use": "command", "argv": ["python", "sft.py"], "files": ["sft.py"]})


# --- E. Tokenizer and vocabulary -------------------------------------------------------------------------


@fault("E", "id-ge-embedding", "vocabulary", "train.jsonl:1", severity="error")
def _(bench: Bench) -> None:
    """Tokens were added, the embedding table was not resized, and the rows use them."""
    token(bench, "<|ticket|>", 2048)
    each(bench.train, lambda row: asked(row).update(content="<|ticket|>" + asked(row)["content"]))


@fault("E", "added-tokens-untrained", "added-tokens", "training.lora", severity="error")
def _(bench: Bench) -> None:
    """New tokens in a table that was resized for them, and LoRA leaves the table as it is."""
    token(bench, "<|ticket|>", 2048)
    bench.set("model.resize_embeddings_to", 2112)
    each(bench.train, lambda row: asked(row).update(content="<|ticket|>" + asked(row)["content"]))


@fault("E", "untrained-reserved-tokens", "added-tokens", "model.name", severity="error")
def _(bench: Bench) -> None:
    """The base model never trained the token that ends turns: its row is zero."""
    bench.then(lambda bench: zero_rows(bench, [5]))


@fault("E", "adapter-size-mismatch", "vocabulary", "model.resize_embeddings_to", severity="error")
def _(bench: Bench) -> None:
    """The table is resized and saved with the adapter; the server's base has the old one."""
    token(bench, "<|ticket|>", 2048)
    bench.set("model.resize_embeddings_to", 2112)
    bench.set("training.lora.modules_to_save", ["embed_tokens"])
    bench.set("training.lora.ensure_weight_tying", True)
    bench.set("serving.adapter", "separate")
    bench.set("serving.engine", "transformers")


@fault("E", "embedding-shrunk", "vocabulary", "model.resize_embeddings_to", severity="error")
def _(bench: Bench) -> None:
    """The script resizes to len(tokenizer), and the table was padded beyond it."""
    bench.config["vocab_size"] = 2176
    bench.then(lambda bench: pad_table(bench, 2176))
    bench.set("model.resize_embeddings_to", 2048)


@fault("E", "tokenizer-golden-ids", "tokenizer-parity", "model.name", severity="error")
def _(bench: Bench) -> None:
    """The lock was written with other ids than this installation gives."""
    bench.then(lock)
    bench.then(resplit)


@fault("E", "fix-mistral-regex", "tokenizer-parity", "model.name")
def _(bench: Bench) -> None:
    """A tokenizer of the Mistral family with the regex that splits digits and capitals wrongly."""
    bench.config.update(
        model_type="mistral", architectures=["MistralForCausalLM"], transformers_version="4.57.1"
    )
    bench.tokenizer["pre_tokenizer"] = BROKEN_MISTRAL


@fault("E", "gguf-pretokenizer", "server-limits", "serving.engine")
def _(bench: Bench) -> None:
    """llama.cpp's converter does not know this pre-tokenizer."""
    bench.set("serving.engine", "llama.cpp")


@fault("E", "fast-slow", "tokenizer-parity", "model.name")
def _(bench: Bench) -> None:
    """transformers makes another tokenizer of the files than tokenizer.json says: GPT-2's own splitting."""
    bench.tokenizer_config["tokenizer_class"] = "GPT2Tokenizer"


# --- F. LoRA ---------------------------------------------------------------------------------------------


@fault("F", "target-modules-none", "lora-targets", "training.lora.target_modules", severity="error")
def _(bench: Bench) -> None:
    """The names of another architecture."""
    bench.set("training.lora.target_modules", ["query_key_value"])


@fault("F", "target-modules-partial", "lora-targets", "training.lora.target_modules", severity="error")
def _(bench: Bench) -> None:
    """One name matches, the other does not, and PEFT says nothing."""
    bench.set("training.lora.target_modules", ["q_proj", "Wqkv"])


@fault("F", "fused-experts-oom", "lora-targets", "training.lora.target_parameters")
def _(bench: Bench) -> None:
    """LoRA on fused experts: more weights are trained than a fifth of the model."""
    bench.config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 2048,
        "vocab_size": 2048,
        "bos_token_id": 0,
        "eos_token_id": 5,
    }
    bench.then(lambda bench: (bench.model / "model.safetensors").unlink())
    bench.set("training.lora.target_modules", ["q_proj", "k_proj", "v_proj", "o_proj"])
    bench.set("training.lora.target_parameters", ["experts.gate_up_proj", "experts.down_proj"])


@fault("F", "lora-rank-server", "server-limits", "training.lora.r", severity="error")
def _(bench: Bench) -> None:
    """vLLM takes adapters up to rank 16 unless told otherwise."""
    bench.set("training.lora.r", 64)
    bench.set("training.lora.lora_alpha", 64)
    bench.set("serving.engine", "vllm")
    bench.set("serving.adapter", "separate")


@fault("F", "modules-to-save-server", "server-limits", "training.lora.modules_to_save", severity="error")
def _(bench: Bench) -> None:
    """vLLM takes LoRA matrices only."""
    bench.set("training.lora.modules_to_save", ["embed_tokens"])
    bench.set("training.lora.ensure_weight_tying", True)
    bench.set("serving.engine", "vllm")
    bench.set("serving.adapter", "separate")


@fault("F", "tied-embeddings-merge", "merge", "training.lora.modules_to_save", severity="error")
def _(bench: Bench) -> None:
    """The head is trained, the embedding is tied to it, and the merged model ties them again."""
    bench.set("training.lora.modules_to_save", ["lm_head"])
    bench.set("serving.adapter", "merged")


@fault("F", "lora-lr", "learning-rate", "training.learning_rate")
def _(bench: Bench) -> None:
    """The learning rate of a full fine-tuning: TRL's default."""
    bench.drop("training.learning_rate")


@fault("F", "gc-inputs-require-grad", "training-arguments", "training.gradient_checkpointing_kwargs")
def _(bench: Bench) -> None:
    """Reentrant checkpointing over a frozen base: one GPU trains the same, two fail at the first step."""
    bench.set("training.gradient_checkpointing_kwargs", {"use_reentrant": True})
    bench.set("hardware.count", 2)


# --- G. Precision, quantisation, attention ---------------------------------------------------------------


@fault("G", "fp16-gemma-nan", "precision", "training.fp16")
def _(bench: Bench) -> None:
    """Float16 for a model that was trained in bfloat16 and overflows."""
    bench.config.update(model_type="gemma2", architectures=["Gemma2ForCausalLM"])
    bench.set("training.fp16", True)
    bench.set("training.quantization.bnb_4bit_compute_dtype", "float16")


@fault("G", "fp16-trainable-params", "precision", "training.fp16", severity="error")
def _(bench: Bench) -> None:
    """All weights are trained, loaded in float16, with a gradient scaler."""
    bench.drop("training.lora")
    bench.drop("training.quantization")
    bench.set("training.fp16", True)
    bench.set("training.learning_rate", 2.0e-5)
    bench.set("training.model_init_kwargs", {"dtype": "float16"})


@fault("G", "fa-dtype", "precision", "training.model_init_kwargs", severity="error")
def _(bench: Bench) -> None:
    """FlashAttention with float32 weights, and no mixed precision under which transformers would cast."""
    bench.set("training.model_init_kwargs", {"attn_implementation": "flash_attention_2", "dtype": "float32"})
    bench.set("training.bf16", False)


@fault(
    "G", "fsdp-qlora-storage", "distributed", "training.quantization.bnb_4bit_quant_storage", severity="error"
)
def _(bench: Bench) -> None:
    """FSDP flattens weights of one dtype only; 4-bit weights are stored as uint8."""
    bench.set("hardware.count", 2)
    bench.set("training.fsdp", "full_shard auto_wrap")


@fault("G", "quant-device-map-ddp", "distributed", "training.model_init_kwargs", severity="error")
def _(bench: Bench) -> None:
    """device_map auto under several processes."""
    bench.set("hardware.count", 2)
    bench.set("training.model_init_kwargs", {"device_map": "auto"})


@fault("G", "compute-dtype-default", "precision", "training.quantization.bnb_4bit_compute_dtype")
def _(bench: Bench) -> None:
    """4-bit weights are computed in float32 unless told otherwise."""
    bench.drop("training.quantization.bnb_4bit_compute_dtype")


@fault("G", "qlora-merge", "merge", "serving.adapter")
def _(bench: Bench) -> None:
    """The adapter is merged into 4-bit weights."""
    bench.set("serving.adapter", "merged-4bit")


# --- H. Memory -------------------------------------------------------------------------------------------


@fault("H", "logits-memory", "logits-memory", "training.per_device_train_batch_size", severity="error")
def _(bench: Bench) -> None:
    """A batch whose logits alone are more than the GPU has: label smoothing makes TRL hold all of them."""
    bench.config["vocab_size"] = 256_000
    bench.then(lambda bench: (bench.model / "model.safetensors").unlink())
    bench.set("hardware", {"gpu": "RTX 4090", "memory_gib": 24})
    bench.train = rows_of("mapper/train.jsonl")
    bench.set("training.label_smoothing_factor", 0.1)
    bench.set("training.per_device_train_batch_size", 64)


@fault("H", "eval-oom", "logits-memory", "training.per_device_eval_batch_size", severity="error")
def _(bench: Bench) -> None:
    """Evaluation takes 128 rows at once, training one; label smoothing makes TRL hold all logits."""
    bench.config["vocab_size"] = 256_000
    bench.then(lambda bench: (bench.model / "model.safetensors").unlink())
    bench.set("hardware", {"gpu": "RTX 4090", "memory_gib": 24})
    bench.set("training.eval_strategy", "steps")
    bench.set("training.eval_steps", 5)
    bench.set("training.label_smoothing_factor", 0.1)
    bench.evaluation = rows_of("mapper/train.jsonl", 80, 480)
    bench.set("training.per_device_eval_batch_size", 128)


@fault("H", "merge-oom", "merge", "serving.adapter", severity="error")
def _(bench: Bench) -> None:
    """Merging loads the whole model in bfloat16, and this machine has less memory."""
    bench.config.update(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=128,
    )
    bench.then(lambda bench: (bench.model / "model.safetensors").unlink())
    bench.set("serving.adapter", "merged")
    bench.machine = replace(bench.machine, memory=32 * GIB)


@fault("H", "host-ram-map", "data-loading", "training.dataset_num_proc")
def _(bench: Bench) -> None:
    """More processes that tokenise than there are processors."""
    bench.set("training.dataset_num_proc", 128)


# --- I. Disk, checkpoints --------------------------------------------------------------------------------


@fault("I", "disk-full", "disk-space", "training.output_dir", severity="error")
def _(bench: Bench) -> None:
    """Two checkpoints of this adapter are more than the disk has left."""
    bench.patch("shutil.disk_usage", lambda path: Usage(10 * GIB, 10 * GIB - 1_000_000, 1_000_000))
    bench.policy["checks"] = {"disk-space": {"params": {"min_free_gib": 0.0}}, "hub-access": False}


@fault("I", "generation-config-save", "dry-save", "generation_config.json", severity="error")
def _(bench: Bench) -> None:
    """Greedy decoding with a temperature, and a padding token that TRL sets in it: no checkpoint is saved."""
    bench.generation = {"eos_token_id": [5, 1], "do_sample": False, "temperature": 0.6, "top_p": 0.9}
    bench.drop("training.lora")
    bench.drop("training.quantization")
    bench.set("training.learning_rate", 2.0e-5)


@fault("I", "output-dir-unwritable", "output-dir", "training.output_dir", severity="error")
def _(bench: Bench) -> None:
    """A file lies where the folder should be."""
    bench.file("out", "not a folder\n")


@fault("I", "cache-location", "hub-access", "model.name", severity="error")
def _(bench: Bench) -> None:
    """The model will be downloaded into a cache on a disk that is too small for it."""
    bench.environment = {"cache_free": 2 * GIB}
    bench.repository = {"name": "big/model", "size": 16 * GIB}
    bench.set("model.name", "big/model")
    keep_only(bench, "hub-access")


@fault("I", "shm", "data-loading", "training.dataloader_num_workers")
def _(bench: Bench) -> None:
    """Docker's 64 MiB of shared memory, and four workers."""
    bench.environment = {"shm": 64 << 20}
    bench.set("training.dataloader_num_workers", 4)


@fault("I", "stale-cache", "gate", "template-changed", severity="error")
def _(bench: Bench) -> None:
    """The template changed after the checks: what they prepared is not what would be trained."""
    bench.template = (bench.template or "").replace("'<|start_header_id|>'", "'\\n<|start_header_id|>'")


@fault("I", "save-strategy-vs-best", "training-arguments", "training.save_steps", severity="error")
def _(bench: Bench) -> None:
    """The best model is wanted at the end, and checkpoints do not fall on evaluations."""
    bench.set("training.load_best_model_at_end", True)
    bench.set("training.eval_strategy", "steps")
    bench.set("training.eval_steps", 7)
    bench.set("training.save_steps", 10)


@fault("I", "resume-mismatch", "resume", "training.lora.r", severity="error")
def _(bench: Bench) -> None:
    """The checkpoint in the output folder, which `--resume` would take, has another rank."""
    bench.file(
        "out/checkpoint-10/adapter_config.json",
        json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 32, "base_model_name_or_path": "model"}),
    )
    bench.file("out/checkpoint-10/trainer_state.json", json.dumps({"global_step": 10}))
    bench.file("out/checkpoint-10/optimizer.pt", b"")


@fault("I", "base-path", "server-limits", "model.name")
def _(bench: Bench) -> None:
    """The adapter will name a folder under /tmp as its base."""
    bench.set("serving.adapter", "separate")
    bench.set("serving.engine", "vllm")
    bench.set("serving.max_lora_rank", 16)


# --- J. Hub, credentials, logging ------------------------------------------------------------------------


@fault("J", "gated-or-offline", "hub-access", "model.name", severity="error")
def _(bench: Bench) -> None:
    """Offline, and the model is not in the cache."""
    bench.environment = {"offline": True}
    bench.set("model.name", "meta-llama/Meta-Llama-3-8B-Instruct")
    keep_only(bench, "hub-access")


@fault("J", "wandb-prompt", "trackers", "training.report_to", severity="error")
def _(bench: Bench) -> None:
    """wandb waits for a login that nobody types in."""
    bench.packages["wandb"] = "0.22.0"
    bench.set("training.report_to", "wandb")


# --- K. Data ---------------------------------------------------------------------------------------------


@fault("K", "mixed-types", "data-schema", "train.jsonl:12", severity="error")
def _(bench: Bench) -> None:
    """A number where texts are."""
    answer(bench.train[11])["content"] = 42


@fault("K", "schema-keys", "data-schema", "train.jsonl:3", severity="error")
def _(bench: Bench) -> None:
    """A row in ShareGPT's layout among chat messages."""
    turns = bench.train[2].pop("messages")
    bench.train[2]["conversations"] = [{"from": t["role"], "value": t["content"]} for t in turns]


@fault("K", "empty-assistant", "data-schema", "train.jsonl:6")
def _(bench: Bench) -> None:
    """An empty answer."""
    answer(bench.train[5])["content"] = "  "


@fault("K", "encoding", "data-readable", "train.jsonl:81", severity="error")
def _(bench: Bench) -> None:
    """A line in Latin-1."""
    line = json.dumps({"messages": [{"role": "user", "content": "Größe?"}]}, ensure_ascii=False)

    def append(bench: Bench) -> None:
        with (bench.folder / "train.jsonl").open("ab") as file:
            file.write(line.encode("latin-1") + b"\n")

    bench.then(append)


@fault("K", "duplicates", "duplicates", "train.jsonl:81")
def _(bench: Bench) -> None:
    """A part of the data was concatenated twice."""
    bench.train += copy.deepcopy(bench.train[:30])


@fault("K", "leakage", "leakage", "golden.json", severity="error")
def _(bench: Bench) -> None:
    """Gold questions are in the training data."""
    for item in bench.gold[:10]:
        turns = copy.deepcopy(bench.train[0]["messages"])
        turns[1]["content"] = item["input"].upper()
        turns[2]["content"] = json.dumps(item["expected"])
        bench.train.append({"messages": turns})


@fault("K", "column-removed", "data-schema", "train.jsonl:1", severity="error")
def _(bench: Bench) -> None:
    """A column that no trainer knows."""
    bench.train = [{"dialogue": row["messages"]} for row in bench.train]


@fault("K", "api-file", "hosted-file", "data.train", severity="error")
def _(bench: Bench) -> None:
    """A hosted service takes ten rows at least."""
    bench.train = bench.train[:8]
    bench.policy["checks"] = {"hosted-file": {"params": {"provider": "openai"}}}
    keep_only(bench, "hosted-file")


# --- L. Schedule -----------------------------------------------------------------------------------------


@fault("L", "steps-vs-epochs", "schedule", "training.max_steps", severity="error")
def _(bench: Bench) -> None:
    """max_steps was left in from a trial: it overrides the epochs."""
    bench.set("training.max_steps", 12)


@fault("L", "warmup-vs-steps", "schedule", "training.warmup_steps", severity="error")
def _(bench: Bench) -> None:
    """The warm-up is longer than the run."""
    bench.set("training.warmup_steps", 500)


@fault("L", "yaml-number-string", "training-arguments", "axolotl.yml:3", severity="error")
def _(bench: Bench) -> None:
    """The trainer's own YAML: PyYAML reads 1e-5 as a text."""
    bench.file("axolotl.yml", "base_model: model\nsequence_len: 320\nlearning_rate: 1e-5\n")
    bench.set(
        "trainer", {"use": "command", "argv": ["axolotl", "train", "axolotl.yml"], "files": ["axolotl.yml"]}
    )


@fault("L", "effective-batch", "schedule", "targets.effective_batch", severity="error")
def _(bench: Bench) -> None:
    """The recipe's batch is 8; four GPUs make it something else."""
    bench.set("targets.effective_batch", 8)
    bench.set("hardware.count", 4)


@fault("L", "deepspeed-mismatch", "distributed", "ds.json", severity="error")
def _(bench: Bench) -> None:
    """DeepSpeed's file states another batch."""
    bench.file(
        "ds.json", json.dumps({"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 2}})
    )
    bench.set("training.deepspeed", "ds.json")


@fault("L", "ga-loss-norm", "known-bugs", "training.gradient_accumulation_steps")
def _(bench: Bench) -> None:
    """transformers before 4.46 averages averages."""
    bench.packages["transformers"] = "4.45.2"
    bench.set("training.gradient_accumulation_steps", 2)


@fault("L", "too-many-epochs", "schedule", "training.num_train_epochs")
def _(bench: Bench) -> None:
    """Forty passes over eighty rows."""
    bench.set("training.num_train_epochs", 40)


# --- M. Environment, distributed -------------------------------------------------------------------------


@fault("M", "lib-removed-kwargs", "policy", "policy.yaml", severity="error")
def _(bench: Bench) -> None:
    """An argument that transformers 5 removed: the policy is refused, with its successor."""
    bench.set("training.evaluation_strategy", "steps")


@fault("M", "lib-matrix", "environment", "~peft 0.12.0", severity="error")
def _(bench: Bench) -> None:
    """peft of a year ago beside today's transformers."""
    bench.packages["peft"] = "0.12.0"


@fault("M", "silent-renamed-default", "training-arguments", "policy.yaml.lock")
def _(bench: Bench) -> None:
    """A default is another one than when the policy was locked."""
    bench.then(lock)

    def older(bench: Bench) -> None:
        path = bench.path.with_name("policy.yaml.lock")
        found = json.loads(path.read_text(encoding="utf-8"))
        found["defaults"]["training"]["weight_decay"] = 0.1
        path.write_text(json.dumps(found), encoding="utf-8")

    bench.then(older)


@fault("M", "nccl-timeout", "data-loading", "training.ddp_timeout")
def _(bench: Bench) -> None:
    """Rank 0 tokenises for longer than the others wait."""
    bench.set("hardware.count", 4)
    bench.set("training.ddp_timeout", 1)
    bench.set("training.gradient_accumulation_steps", 1)
    bench.train = bench.train * 40


# --- N. Evaluation ---------------------------------------------------------------------------------------


@fault("N", "eval-format-differs", "evaluation-parity", "evaluation.apply_chat_template", severity="error")
def _(bench: Bench) -> None:
    """The benchmark sends plain prompts to a model tuned on conversations."""
    bench.set("evaluation", {"apply_chat_template": False})


@fault("N", "eval-tokenizer", "evaluation-parity", "evaluation.tokenizer", severity="error")
def _(bench: Bench) -> None:
    """Evaluation loads the base model's tokenizer and template."""
    bench.set("evaluation", {"tokenizer": "base"})

    def base(bench: Bench) -> None:
        bench.file("base/tokenizer.json", json.dumps(bench.tokenizer))
        bench.file("base/tokenizer_config.json", json.dumps(bench.tokenizer_config))
        bench.file("base/chat_template.jinja", (bench.template or "").replace("\\n\\n", "\\n"))

    bench.then(base)


@fault("N", "eval-stop-length", "output-cap", "evaluation.max_new_tokens", severity="error")
def _(bench: Bench) -> None:
    """Evaluation stops after 16 tokens, the answers have 40."""
    bench.set("evaluation", {"max_new_tokens": 16})


@fault("N", "eval-set-too-small", "gold-set", "data.gold")
def _(bench: Bench) -> None:
    """Five questions tell nothing about 95 %."""
    bench.gold = bench.gold[:5]
    bench.set("targets.accuracy", 0.95)


# --- O. Serving ------------------------------------------------------------------------------------------


@fault("O", "max-tokens-unset", "output-cap", "serving.max_new_tokens", severity="error")
def _(bench: Bench) -> None:
    """No output cap: the server's own holds."""
    bench.drop("serving.max_new_tokens")


@fault("O", "prompt-over-context", "guardrail", "serving.max_input_tokens", severity="error")
def _(bench: Bench) -> None:
    """Input and output together do not fit what the server was started with."""
    bench.set("serving.max_model_len", 512)


@fault("O", "json-cut", "output-schema", "train.jsonl:14", severity="warning")
def _(bench: Bench) -> None:
    """A training answer is JSON that was cut."""
    answer(bench.train[13])["content"] = answer(bench.train[13])["content"][:-12]


@fault("O", "tokenizer-class-server", "server-limits", "serving.transformers", severity="error")
def _(bench: Bench) -> None:
    """The server has transformers 4, which does not know the class that transformers 5 saves."""
    bench.set("serving.engine", "vllm")
    bench.set("serving.transformers", "4.55.0")


# --- means -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


BROKEN_MISTRAL = {
    "type": "Sequence",
    "pretokenizers": [
        {
            "type": "Split",
            "pattern": {
                "Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            },
            "behavior": "Isolated",
            "invert": False,
        },
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}


def keep_only(bench: Bench, rule: str) -> None:
    """Run this check alone: the model is on no disk, or the file is for nobody's own machine."""
    stated = bench.policy.get("checks", {})
    bench.policy["checks"] = {rule: stated.get(rule, {})}
    bench.policy["extends"] = []
    bench.policy["gate"] = {"require": []}


def zero_rows(bench: Bench, ids: Sequence[int]) -> None:
    """Set rows of the embedding table to zero."""
    change_table(bench, lambda table: table.__setitem__(list(ids), 0))


def pad_table(bench: Bench, rows: int) -> None:
    """Give the embedding table more rows than the tokenizer has tokens."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    path = bench.model / "model.safetensors"
    tensors = {name: np.array(one, dtype=np.float32) for name, one in _floats(load_file, path).items()}
    name = next(one for one in tensors if one.endswith("embed_tokens.weight"))
    extra = np.full((rows - len(tensors[name]), tensors[name].shape[1]), 0.01, dtype=np.float32)
    tensors[name] = np.concatenate([tensors[name], extra])
    save_file(tensors, path)


def change_table(bench: Bench, change: Callable[[Any], None]) -> None:
    """Change the embedding table's values in the safetensors file."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    path = bench.model / "model.safetensors"
    tensors = {name: np.array(one, dtype=np.float32) for name, one in _floats(load_file, path).items()}
    change(tensors[next(one for one in tensors if one.endswith("embed_tokens.weight"))])
    save_file(tensors, path)


def _floats(load_file: Any, path: Any) -> dict[str, Any]:
    """Tensors of a safetensors file as float32; numpy knows no bfloat16."""
    import struct

    import numpy as np

    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        start, stop = (8 + size + one for one in about["data_offsets"])
        if about["dtype"] == "BF16":
            bits = np.frombuffer(raw[start:stop], dtype=np.uint16).astype(np.uint32) << 16
            found[name] = bits.view(np.float32).reshape(about["shape"]).copy()
        else:
            kind = {"F32": np.float32, "F16": np.float16}[about["dtype"]]
            found[name] = np.frombuffer(raw[start:stop], dtype=kind).reshape(about["shape"]).copy()
    return found


def lock(bench: Bench) -> None:
    """`ftcheck lock` on the policy."""
    from ftcheck.cli import run_command

    with contextlib.redirect_stdout(io.StringIO()):
        code = run_command(["lock", str(bench.path)])
    assert code == 0, code


def resplit(bench: Bench) -> None:
    """The same files give other ids: digits are split one by one, as another library version may."""
    path = bench.model / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    split = found["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].replace("\\p{N}{1,3}", "\\p{N}")
    path.write_text(json.dumps(found), encoding="utf-8")


for _name in ("read", "fail", "serve", "hostile", "tools", "answers", "reasoning", "parser", "from"):
    FAULTS += import_module(f"tests.faults.kinds_{_name}").FAULTS  # they take `Fault` from here
