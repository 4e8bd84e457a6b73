"""Make the sample jobs that ship with ftcheck: data, tokenizers and two tiny base models.

Run ``python policies/samples/make_samples.py`` for everything (about twenty minutes on two idle cores) or
``python policies/samples/make_samples.py --data-only`` for the data alone (seconds). Same seed, same
bytes for the data and the tokenizers; the models are trained with a fixed seed on the CPU. The analyst's
base that is shipped was made with ``--job analyst --pretrain-steps 2400``.

The text comes from the grammars in ``sources/``. The base models never see an input with its
answer, so that tuning has something to teach: see ``mapper_documents`` and ``analyst_documents``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEED = 20240607
HERE = Path(__file__).resolve().parent
WINDOW = 2048
VOCABULARY = 2048
BATCH = 32
DOCUMENTS = 64_000
INNER_RATE = 0.02
OUTER_RATE = 4e-3
MASKED = -100
HELD = 200
THREADS = 2
"""Always as many, so that sums are made in one order: the same weights on the same kind of CPU."""

Words = Mapping[str, Sequence[str]]
Chat = list[dict[str, str]]
Document = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its answer, and the record or labels it was written from."""

    prompt: str
    answer: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The special tokens of one chat format."""

    bos: str
    end_of_text: str
    end_of_turn: str
    pad: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One sample job: its grammar, its sizes and how its rows and its model are made.

    With a `gold_seed` the gold set is drawn on its own, after all that is trained and chosen on.
    """

    name: str
    grammar: Mapping[str, Any]
    topics: tuple[str, ...]
    sizes: Mapping[str, int]
    write: Callable[[Mapping[str, Any], str, Random], Example]
    expected: Callable[[Example], object]
    documents: Callable[[Job, list[Example], Random], Iterator[Chat | str]]
    tokens: Tokens
    gold_seed: int | None = None


# --- text ---------------------------------------------------------------------------------------


def expand(text: str, words: Words, rng: Random) -> str:
    """Replace every ``[a|b]`` and ``{slot}`` by one of its choices, until none is left."""
    while match := re.search(r"\[([^\[\]]*)\]|\{(\w+)\}", text):
        choices = words[match[2]] if match[1] is None else match[1].split("|")
        text = text[: match.start()] + rng.choice(choices) + text[match.end() :]
    return text


def sentence(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def key(text: str) -> str:
    """What two inputs may not share: the text without case and spacing."""
    return " ".join(text.lower().split())


def hurried(text: str, rng: Random) -> str:
    """The text as it is, or without its last stop."""
    return text.rstrip(".") if rng.random() < 0.15 else text


# --- mapper -------------------------------------------------------------------------------------


def device_words(grammar: Mapping[str, Any], device: str) -> Words:
    """The words of a request about this device, or about none."""
    tied = {slot: [""] if device == "none" else v for slot, v in grammar["with_device"].items()}
    own = {"device": grammar["devices"][device], "fault": grammar["faults"][device]}
    return {**grammar["words"], **tied, **own}


def mapper_request(grammar: Mapping[str, Any], facts: Mapping[str, str], rng: Random) -> str:
    """A help-desk request that says what the facts say, in one of many ways."""
    words, intent = device_words(grammar, facts["device"]), grammar["intents"][facts["intent"]]
    some = ["{greeting},"] * (rng.random() < 0.4)
    some += rng.sample(words["context"], rng.choice([0, 0, 0, 1]))
    some += [rng.choice(intent["requests"])]
    some += rng.sample(intent["details"], rng.choice([0, 1, 1, 2]))
    parts = [expand(part, words, rng) for part in some]
    cue = expand(rng.choice(grammar["urgency"][facts["urgency"]]), words, rng)
    parts.insert(rng.randint(parts[0].endswith(","), len(parts)), cue)
    text = " ".join(sentence(part) for part in parts if part)
    ending = rng.choice([" ", "\n", "\n\n"]) + expand("{signoff}", words, rng)
    return hurried(text + (ending if rng.random() < 0.35 else ""), rng)


def mapper_facts(grammar: Mapping[str, Any], intent: str, rng: Random) -> dict[str, str]:
    """The labels of a request with this intent."""
    spec = grammar["intents"][intent]
    urgency = rng.choice(["normal", "normal", "high", "low"])
    device = rng.choice(spec["devices"])
    return {"intent": intent, "team": spec["team"], "urgency": urgency, "device": device}


def write_mapping(grammar: Mapping[str, Any], intent: str, rng: Random) -> Example:
    """One request and the JSON it maps to."""
    facts = mapper_facts(grammar, intent, rng)
    answer = json.dumps({name: facts[name] for name in grammar["keys"]})
    return Example(mapper_request(grammar, facts, rng), answer, facts)


def mapper_values(grammar: Mapping[str, Any]) -> dict[str, list[str]]:
    """The closed list of values of each key."""
    intents = grammar["intents"]
    values = {"intent": list(intents), "team": sorted({spec["team"] for spec in intents.values()})}
    return values | {"urgency": list(grammar["urgency"]), "device": list(grammar["devices"])}


def output_schema(grammar: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a mapper answer."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mapped help-desk request",
        "type": "object",
        "properties": {k: {"enum": v} for k, v in mapper_values(grammar).items()},
        "required": list(grammar["keys"]),
        "additionalProperties": False,
    }


def handbook(grammar: Mapping[str, Any], rng: Random) -> str:
    """Which team does what: some lines in any order."""
    intents = rng.sample(list(grammar["intents"]), 4)
    return "\n".join(
        json.dumps({"intent": name, "team": grammar["intents"][name]["team"]}) for name in intents
    )


def mapper_documents(job: Job, rows: list[Example], rng: Random) -> Iterator[Chat | str]:
    """What the mapper's base reads: requests, notes on them, and a handbook of which team does what.

    A request never stands with JSON, nor with its team. The notes say what anybody would see in the request,
    those names that are asked for, in any order; the handbook knows no requests. To put it together in one
    line of JSON is left to tuning.
    """
    for row in rows:
        names = rng.sample(["intent", "urgency", "device"], rng.choice([1, 2, 3, 3]))
        asked = f"Map the help-desk request to a note: {', '.join(names)}."
        note = "- " + ", ".join(f'"{name}": "{row.facts[name]}"' for name in names)
        kinds: list[Chat | str] = [
            row.prompt,
            handbook(job.grammar, rng),
            *[chat(asked, row.prompt, note)] * 18,
        ]
        yield rng.choice(kinds)


# --- analyst ------------------------------------------------------------------------------------


def one_of(words: Words, field: str, share: float, rng: Random) -> str:
    """A value of the field, with this probability one of those that speak against the request."""
    return rng.choice(words[f"{field}_bad" if rng.random() < share else f"{field}_good"])


def expense_facts(words: Words, rng: Random) -> dict[str, str]:
    """The fields of an expense claim."""
    return {
        "receipt": one_of(words, "receipt", 0.33, rng),
        "filed": one_of(words, "filed", 0.28, rng),
        "amount": one_of(words, "amount", 0.32, rng),
        "category": rng.choice(words["category"]),
    }


def change_facts(words: Words, rng: Random) -> dict[str, str]:
    """The fields of a change request."""
    return {
        "rollback": one_of(words, "rollback", 0.33, rng),
        "tested": one_of(words, "tested", 0.28, rng),
        "risk": one_of(words, "risk", 0.32, rng),
        "system": rng.choice(words["system"]),
    }


FINDINGS: Mapping[str, tuple[str, ...]] = {
    "expense": ("receipt", "filed", "amount"),
    "change": ("rollback", "tested", "risk"),
}
"""The fields that a verdict rests on, in the order in which an answer goes through them."""


def finding(field: str, facts: Mapping[str, str], words: Words) -> str:
    """What a record shows in this field: the name of the finding."""
    return f"{field}_bad" if facts[field] in words[f"{field}_bad"] else f"{field}_good"


def judge(topic: str, facts: Mapping[str, str], words: Words) -> tuple[list[str], str]:
    """The findings on a record, and the verdict: the first one bad rejects, another one escalates."""
    findings = [finding(field, facts, words) for field in FINDINGS[topic]]
    bad = [one.endswith("_bad") for one in findings]
    return findings, "reject" if bad[0] else "escalate" if any(bad) else "approve"


def record(title: str, fields: Mapping[str, str], rng: Random) -> str:
    """The record as the analyst gets it: a title, then the fields in any order."""
    lines = [f"{name.capitalize()}: {value}" for name, value in fields.items()]
    return "\n".join([title, *rng.sample(lines, len(lines))])


def write_analysis(grammar: Mapping[str, Any], topic: str, rng: Random) -> Example:
    """One record and its reasoning with the verdict line."""
    words, expense = grammar[topic], topic == "expense"
    facts = (expense_facts if expense else change_facts)(words, rng)
    findings, verdict = judge(topic, facts, words)
    more = {"employee" if expense else "owner": "{name}", "note": "{" + topic + "_note}"}
    fields = {name: expand(value, grammar["words"], rng) for name, value in {**facts, **more}.items()}
    answer = " ".join(grammar["sentences"][topic][name] for name in findings) + f"\nVerdict: {verdict}"
    return Example(record(grammar["titles"][topic], fields, rng), answer, {**facts, "topic": topic})


def analyst_note(grammar: Mapping[str, Any], facts: Mapping[str, str], rng: Random) -> tuple[str, str]:
    """What anybody would see in some fields of a record and what of it is wrong, and the question for it."""
    topic = facts["topic"]
    words, sentences = grammar[topic], grammar["sentences"][topic]
    fields = [field for field in facts if f"{field}_good" in sentences]
    names = rng.sample(fields, rng.randint(1, len(fields)))
    found = {name: finding(name, facts, words) for name in names}
    wrong = [name for name in names if found[name].endswith("_bad")]
    noted = " ".join(sentences[one] for one in found.values()) + f"\nWrong: {', '.join(wrong) or 'nothing'}"
    return f"You check expense claims and change requests. Note what you see: {', '.join(names)}.", noted


def loose_analysis(grammar: Mapping[str, Any], topic: str, rng: Random) -> str:
    """Sentences and a verdict in the form of an answer, drawn at random: they are about nothing."""
    reasons = rng.sample(list(grammar["sentences"][topic].values()), 3)
    return " ".join(reasons) + f"\nVerdict: {rng.choice(['approve', 'reject', 'escalate'])}"


def analyst_documents(job: Job, rows: list[Example], rng: Random) -> Iterator[Chat | str]:
    """What the analyst's base reads: records, notes on them, and loose sentences with verdicts.

    A record never stands with a verdict. The notes say what anybody would see in the fields that are asked
    for, and which of it is wrong; in which order to go through them, and what verdict follows, is left to
    tuning. The verdicts that it reads follow from nothing.
    """
    for row in rows:
        asked, note = analyst_note(job.grammar, row.facts, rng)
        kinds: list[Chat | str] = [
            row.prompt,
            loose_analysis(job.grammar, row.facts["topic"], rng),
            *[chat(asked, row.prompt, note)] * 18,
        ]
        yield rng.choice(kinds)


# --- jobs ---------------------------------------------------------------------------------------


def read_grammar(name: str) -> dict[str, Any]:
    """The grammar of a job from its file in ``sources/``."""
    return tomllib.loads((HERE / "sources" / f"{name}.toml").read_text(encoding="utf-8"))


def mapper_job() -> Job:
    """Help-desk requests to JSON, in Llama 3's chat format."""
    grammar = read_grammar("mapper")
    return Job(
        name="mapper",
        grammar=grammar,
        topics=tuple(grammar["intents"]),
        sizes={"golden": 240, "eval": 120, "train": 1500},
        write=write_mapping,
        expected=lambda example: json.loads(example.answer),
        documents=mapper_documents,
        tokens=Tokens(
            bos="<|begin_of_text|>",
            end_of_text="<|end_of_text|>",
            end_of_turn="<|eot_id|>",
            pad="<|pad|>",
            others=("<|start_header_id|>", "<|end_header_id|>"),
        ),
    )


def analyst_job() -> Job:
    """Records to reasoning and a verdict, in Phi-3's chat format."""
    return Job(
        name="analyst",
        grammar=read_grammar("analyst"),
        topics=("expense", "change"),
        sizes={"eval": 100, "train": 1000, "golden": 240},
        gold_seed=20261128,
        write=write_analysis,
        expected=lambda example: example.answer.splitlines()[-1],
        documents=analyst_documents,
        tokens=Tokens(
            bos="<s>",
            end_of_text="<|endoftext|>",
            end_of_turn="<|end|>",
            pad="<|pad|>",
            others=("<|system|>", "<|user|>", "<|assistant|>"),
        ),
    )


def examples(job: Job, rng: Random, seen: set[str]) -> Iterator[Example]:
    """Endless examples over all topics in turn, whose input is not among those seen."""
    for topic in cycle(job.topics):
        example = job.write(job.grammar, topic, rng)
        while key(example.prompt) in seen:
            example = job.write(job.grammar, topic, rng)
        seen.add(key(example.prompt))
        yield example


def unlike(source: Iterator[Example], known: set[tuple[str, ...]]) -> Iterator[Example]:
    """Examples that are not, but for a name, an earlier one: most runs of eight words are not yet `known`."""
    for example in source:
        words = key(example.prompt).split()
        runs = {tuple(words[at : at + 8]) for at in range(len(words) - 7)}
        if len(runs & known) <= len(runs) / 2:
            known |= runs
            yield example


def make_splits(job: Job) -> dict[str, list[Example]]:
    """The rows of each split, shuffled; no two share an input, or most of it."""
    rng = Random(f"{SEED}-{job.name}")
    seen: set[str] = set()
    known: set[tuple[str, ...]] = set()
    splits = {}
    for split, size in job.sizes.items():
        own = split == "golden" and job.gold_seed is not None
        drawn = Random(f"{job.gold_seed}-{job.name}") if own else rng
        splits[split] = list(islice(unlike(examples(job, drawn, seen), known), size))
    return {split: rng.sample(rows, len(rows)) for split, rows in splits.items()}


def chat(system: str, prompt: str, answer: str) -> Chat:
    """A conversation of one exchange."""
    turns = {"system": system, "user": prompt, "assistant": answer}
    return [{"role": role, "content": content} for role, content in turns.items()]


def write_lines(path: Path, records: Sequence[object], *, array: bool = False) -> None:
    """One record a line, as JSON Lines or as one JSON array."""
    lines = [json.dumps(entry, ensure_ascii=False) for entry in records]
    text = "[\n" + ",\n".join(lines) + "\n]" if array else "\n".join(lines)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_data(job: Job, folder: Path) -> None:
    """Write ``train.jsonl``, ``eval.jsonl``, ``golden.json`` and, for JSON answers, the schema."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = make_splits(job)
    for split in ("train", "eval"):
        chats = [chat(job.grammar["system"], e.prompt, e.answer) for e in splits[split]]
        write_lines(folder / f"{split}.jsonl", [{"messages": messages} for messages in chats])
    golden = [
        {"id": f"{job.name}-{n:03}", "input": e.prompt, "expected": job.expected(e)}
        for n, e in enumerate(splits["golden"], start=1)
    ]
    write_lines(folder / "golden.json", golden, array=True)
    if job.name == "mapper":
        write_json(folder / "output_schema.json", output_schema(job.grammar))


def write_json(path: Path, content: object) -> None:
    """Write one indented JSON document."""
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


# --- models -------------------------------------------------------------------------------------

# Llama 3's own pattern, for both: a number of up to three digits can be one token.
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(job: Job, folder: Path) -> None:
    """Train a byte-level BPE on the training rows; write it with its configuration and template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokens, llama = job.tokens, job.name == "mapper"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[
            tokens.bos,
            tokens.end_of_text,
            tokens.pad,
            *tokens.others,
            tokens.end_of_turn,
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rows = make_splits(job)["train"]
    text = [part for e in rows for part in (job.grammar["system"], e.prompt, e.answer)]
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokens.bos} $A" if llama else "$A",
        special_tokens=[(tokens.bos, tokenizer.token_to_id(tokens.bos))] if llama else [],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_settings(tokens))
    shutil.copyfile(HERE / "sources" / f"{job.name}.jinja", folder / "chat_template.jinja")


def tokenizer_settings(tokens: Tokens) -> dict[str, Any]:
    """The tokenizer's configuration: a class that takes tokenizer.json as it is."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens.bos,
        "eos_token": tokens.end_of_turn,
        "pad_token": tokens.pad,
        "model_max_length": WINDOW,
        "clean_up_tokenization_spaces": False,
    }


def new_model(job: Job, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """An untrained model of about a million parameters, of the kind its real counterpart is."""
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, Phi3Config

    stop = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(job.tokens.end_of_text)]
    ends = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": WINDOW,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        **ends,
    }
    phi3 = {"original_max_position_embeddings": WINDOW}
    config = LlamaConfig(**shape) if job.name == "mapper" else Phi3Config(**shape, **phi3)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.generation_config = GenerationConfig(eos_token_id=stop, **ends)
    return model


def unseen(job: Job, count: int) -> list[Example]:
    """Fresh examples for the base model; none has an input of any split."""
    seen = {key(e.prompt) for rows in make_splits(job).values() for e in rows}
    return list(islice(examples(job, Random(f"{SEED}-{job.name}-base"), seen), count))


def reading(job: Job, tokenizer: PreTrainedTokenizerBase, count: int) -> list[Document]:
    """The documents the base is trained on: token ids, and labels of those that are in the loss."""
    documents = job.documents(job, unseen(job, count), Random(f"{SEED}-{job.name}-documents"))
    return [encoded(job, document, tokenizer) for document in documents]


def encoded(job: Job, document: Chat | str, tokenizer: PreTrainedTokenizerBase) -> Document:
    """Ids and labels: all of a plain text, of a conversation what the assistant says."""
    if isinstance(document, str):
        begin = job.tokens.bos if job.name == "mapper" else ""
        text = begin + document + job.tokens.end_of_text
        ids = tokenizer.encode(text, add_special_tokens=False)
        return ids, ids
    made = tokenizer.apply_chat_template(document, return_dict=True, return_assistant_tokens_mask=True)
    ids = made["input_ids"]
    spoken = zip(ids, made["assistant_masks"], strict=True)
    return ids, [token if said else MASKED for token, said in spoken]


def batches(documents: list[Document], pad: int, rng: Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of documents of about the same length, padded at their end."""
    import torch

    def filled(rows: Sequence[list[int]], value: int) -> Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    size = 32 * BATCH
    while True:
        order = rng.sample(documents, len(documents))
        for start in range(0, len(order) - size + 1, size):
            near = sorted(order[start : start + size], key=lambda document: len(document[0]))
            for at in rng.sample(range(0, size, BATCH), size // BATCH):
                ids, labels = zip(*near[at : at + BATCH], strict=True)
                yield filled(ids, pad), filled(labels, MASKED)


def probe(model: PreTrainedModel, documents: list[Document]) -> float:
    """The share of conversations whose answer the model would write word by word, given its beginning."""
    import torch

    right = asked = 0
    for ids, labels in documents:
        if labels[0] != MASKED:
            continue
        with torch.no_grad():
            said = model(input_ids=torch.tensor([ids])).logits[0, :-1].argmax(-1).tolist()
        pairs = zip(said, labels[1:], strict=True)
        right += all(label in (MASKED, token) for token, label in pairs)
        asked += 1
    return right / asked


def split_fused(model: PreTrainedModel) -> None:
    """Give each part of Phi-3's fused projections a weight of its own while it is trained.

    Muon makes the steps of a matrix equally large in all directions. On queries, keys and values in one
    matrix those of the values crowd out the others, and the model hardly learns where to look.
    """
    import torch
    from torch.nn.utils.parametrize import register_parametrization

    class Parts(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, sizes: list[int]) -> None:
            super().__init__()
            self.sizes = sizes

        def forward(self, *parts: Tensor) -> Tensor:
            return torch.cat(parts)

        def right_inverse(self, whole: Tensor) -> tuple[Tensor, ...]:
            parts: tuple[Tensor, ...] = whole.split(self.sizes)
            return parts

    config = model.config
    head = config.hidden_size // config.num_attention_heads
    keys = config.num_key_value_heads * head
    sizes = {
        "qkv_proj": [config.hidden_size, keys, keys],
        "gate_up_proj": [config.intermediate_size, config.intermediate_size],
    }
    for name, module in list(model.named_modules()):
        parts = sizes.get(name.rpartition(".")[2])
        if parts is not None:
            register_parametrization(module, "weight", Parts(parts))


def join_fused(model: PreTrainedModel) -> None:
    """Make one weight again of the parts of each fused projection."""
    from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

    for module in list(model.modules()):
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")


def pretrain(
    model: PreTrainedModel, fed: Iterator[tuple[Tensor, Tensor]], held: list[Document], steps: int
) -> None:
    """Next-token training, with warm-up and a linear way down."""
    import torch

    split_fused(model)
    inner = [p for n, p in model.named_parameters() if "_proj." in n]
    outer = [p for n, p in model.named_parameters() if "_proj." not in n]
    optimizers = [
        torch.optim.Muon(inner, lr=INNER_RATE, weight_decay=0.0),
        torch.optim.AdamW(outer, lr=OUTER_RATE, betas=(0.9, 0.98)),
    ]
    ramp = [min((n + 1) / 50, 1.0, 2.5 * (steps - n) / steps) for n in range(steps + 1)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda n: ramp[n]) for one in optimizers]
    losses: list[float] = []
    model.train()
    for step, (ids, labels) in enumerate(islice(fed, steps), start=1):
        # Documents end before their padding begins, so that nothing needs to be masked from attention.
        targets = labels[:, 1:] != MASKED
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.base_model(input_ids=ids).last_hidden_state[:, :-1][targets]
            logits = model.get_output_embeddings()(hidden)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][targets])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            print(f"  step {step}/{steps}  loss {fmean(losses[-100:]):.3f}", flush=True)
        if step % 500 == 0 or step == steps:
            print(f"  notes right on unseen text: {probe(model, held):.1%}", flush=True)
    join_fused(model)


def write_model(job: Job, folder: Path, steps: int) -> None:
    """Write tokenizer, template and the briefly trained base model of a job."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(job, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = new_model(job, tokenizer)
    documents = reading(job, tokenizer, min(steps * BATCH, DOCUMENTS) + HELD)
    documents, held = documents[:-HELD], documents[-HELD:]
    tokens = sum(len(ids) for ids, _ in documents)
    print(f"{folder.name}: {model.num_parameters():,} parameters, {tokens:,} tokens to read")
    pretrain(model, batches(documents, tokenizer.pad_token_id, Random(SEED)), held, steps)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the sample jobs that ship with ftcheck.")
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE,
        metavar="FOLDER",
        help="where to write (default: beside this script)",
    )
    parser.add_argument("--job", choices=("mapper", "analyst"), help="make this one alone (default: both)")
    parser.add_argument(
        "--data-only",
        action="store_true",
        help="write the data and the schema, no tokenizers and no models",
    )
    parser.add_argument(
        "--pretrain-steps",
        type=int,
        default=1800,
        metavar="N",
        help=f"training steps of each base model (default: %(default)s, of {BATCH} documents each)",
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Write both jobs."""
    options = parse()
    jobs = [job for job in (mapper_job(), analyst_job()) if options.job in (None, job.name)]
    for job in jobs:
        write_data(job, options.out / job.name)
        if not options.data_only:
            write_model(job, options.out / "models" / f"{job.name}-tiny", options.pretrain_steps)


if __name__ == "__main__":
    main()
