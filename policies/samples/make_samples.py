"""Make the sample jobs that ship with ftcheck: data, tokenizers and two tiny base models.

Run ``python policies/samples/make_samples.py`` for everything (about ten minutes on two cores) or
``python policies/samples/make_samples.py --data-only`` for the data alone (seconds). Same seed,
same bytes for the data and the tokenizers; the models are trained with a fixed seed on the CPU.

The text comes from the grammars in ``sources/``. The base models never see an input with its
answer, so that tuning has something to teach: see ``mapper_documents`` and ``analyst_documents``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEED = 20240607
HERE = Path(__file__).resolve().parent
WINDOW = 2048
VOCABULARY = 2048
BLOCK = 256
DOCUMENTS = 16_000

Words = Mapping[str, Sequence[str]]
Chat = list[dict[str, str]]


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
    """One sample job: its grammar, its sizes and how its rows and its model are made."""

    name: str
    grammar: Mapping[str, Any]
    topics: tuple[str, ...]
    sizes: Mapping[str, int]
    write: Callable[[Mapping[str, Any], str, Random], Example]
    expected: Callable[[Example], object]
    documents: Callable[[Job, list[Example], Random], Iterator[Chat | str]]
    tokens: Tokens


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


def mistype(word: str, rng: Random) -> str:
    """The word with two inner letters swapped, or one of them dropped or doubled."""
    at = rng.randrange(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return rng.choice([swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]])


def sloppy(text: str, rng: Random) -> str:
    """The text as a hurried person types it: some in lower case, some with typos."""
    if rng.random() < 0.2:
        text = text.lower().replace("'", rng.choice(["'", ""]))
    if rng.random() < 0.15:
        places = [m.span() for m in re.finditer(r"\b[a-z]{5,}\b", text)]
        for start, end in sorted(rng.sample(places, min(2, len(places))), reverse=True):
            text = text[:start] + mistype(text[start:end], rng) + text[end:]
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
    background = rng.sample(words["context"], rng.choice([0, 0, 0, 0, 0, 1, 1, 1, 2, 4]))
    some = ["{greeting},"] * (rng.random() < 0.45) + background[:1]
    some += [rng.choice(intent["requests"])]
    some += rng.sample(intent["details"], rng.choice([0, 0, 1, 1, 2])) + background[1:]
    parts = [expand(part, words, rng) for part in some]
    cue = expand(rng.choice(grammar["urgency"][facts["cue"]]), words, rng)
    parts.insert(rng.randint(parts[0].endswith(","), len(parts)), cue)
    text = " ".join(sentence(part) for part in parts if part)
    ending = rng.choice([" ", "\n", "\n\n"]) + expand("{signoff}", words, rng)
    return sloppy(text + (ending if rng.random() < 0.35 else ""), rng)


def mapper_facts(grammar: Mapping[str, Any], intent: str, rng: Random) -> dict[str, str]:
    """The labels of a request with this intent; a cue overrules how urgent the intent itself is."""
    spec = grammar["intents"][intent]
    device, usual = rng.choice(spec["devices"]), spec.get("urgency", "normal")
    cue = rng.choice(["normal", "normal", "high", "low" if usual == "normal" else "high"])
    team = spec.get("team_of", {}).get(device, spec["team"])
    urgency = usual if cue == "normal" else cue
    return {"intent": intent, "team": team, "urgency": urgency, "device": device, "cue": cue}


def write_mapping(grammar: Mapping[str, Any], intent: str, rng: Random) -> Example:
    """One request and the JSON it maps to."""
    facts = mapper_facts(grammar, intent, rng)
    answer = json.dumps({name: facts[name] for name in grammar["keys"]})
    return Example(mapper_request(grammar, facts, rng), answer, facts)


def mapper_values(grammar: Mapping[str, Any]) -> dict[str, list[str]]:
    """The closed list of values of each key."""
    intents = grammar["intents"]
    teams = {t for s in intents.values() for t in [s["team"], *s.get("team_of", {}).values()]}
    values = {"intent": list(intents), "team": sorted(teams)}
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


def random_object(grammar: Mapping[str, Any], rng: Random) -> str:
    """One to three keys in any order with values from anywhere: the shape, never an answer."""
    values = mapper_values(grammar)
    names = rng.sample(list(values), rng.randint(1, 3))
    return json.dumps({name: rng.choice(values[name]) for name in names})


def mapper_documents(job: Job, rows: list[Example], rng: Random) -> Iterator[Chat | str]:
    """What the mapper's base reads: requests, their rewording, JSON shapes, looking up a value.

    A request never stands with any of its labels. Rewording keeps intent, device and urgency, so
    the base learns what a request says without learning what the job calls it.
    """
    for row in rows:
        shape = random_object(job.grammar, rng)
        name, value = rng.choice(list(json.loads(shape).items()))
        again = mapper_request(job.grammar, row.facts, rng)
        reworded = chat("Say the request in other words.", row.prompt, again)
        kinds: list[Chat | str] = [
            row.prompt,
            shape,
            chat("Repeat the request.", row.prompt, row.prompt),
            chat("Give the value.", f"{shape}\n\n{name}?", value),
            reworded,
            reworded,
        ]
        yield rng.choice(kinds)


# --- analyst ------------------------------------------------------------------------------------


def money(value: int, rng: Random) -> str:
    """An amount in euros, some with cents."""
    return f"{value}.{rng.randrange(5, 100, 5):02} EUR" if rng.random() < 0.3 else f"{value} EUR"


def expense_facts(words: Words, rng: Random) -> dict[str, str]:
    """The fields of an expense claim."""
    limit = rng.choice([50, 80, 100, 150, 200, 250, 300, 500, 800])
    share = rng.uniform(1.0, 2.2) if rng.random() < 0.45 else rng.uniform(0.15, 1.0)
    days = rng.randint(31, 95) if rng.random() < 0.15 else rng.choice([0, *range(2, 31)])
    receipt = rng.choice(words["receipt_missing" if rng.random() < 0.16 else "receipt_ok"])
    return {
        "category": rng.choice(words["category"]),
        "amount": money(int(limit * share), rng),
        "limit": f"{limit} EUR",
        "receipt": receipt,
        "days": str(days),
        "approver": rng.choice(words["approver"]),
    }


def change_facts(words: Words, rng: Random) -> dict[str, str]:
    """The fields of a change request."""
    return {
        "system": rng.choice(words["system"]),
        "risk": rng.choice(["low", "medium", "medium", "high"]),
        "tested": rng.choice(words["tested_no" if rng.random() < 0.3 else "tested_ok"]),
        "rollback": rng.choice(words["rollback_none" if rng.random() < 0.18 else "rollback_ok"]),
        "window": rng.choice(words["window_freeze" if rng.random() < 0.35 else "window_ok"]),
        "approver": rng.choice(words["approver"]),
    }


def judge_expense(facts: Mapping[str, str], words: Words) -> tuple[list[str], str]:
    """The findings on a claim, in the order they are made, and the verdict of the last one."""
    if facts["receipt"] in words["receipt_missing"]:
        return ["expense_opening", "receipt_missing"], "reject"
    if int(facts["days"]) > 30:
        return ["receipt_ok", "late"], "reject"
    if facts["category"] == "gift":
        return ["receipt_ok", "in_time", "gift"], "escalate"
    if float(facts["amount"].split()[0]) <= float(facts["limit"].split()[0]):
        return ["receipt_ok", "in_time", "within_limit", "no_gift"], "approve"
    if facts["approver"] == "director":
        return ["receipt_ok", "in_time", "over_limit", "director"], "approve"
    return ["receipt_ok", "in_time", "over_limit", "no_director"], "escalate"


def judge_change(facts: Mapping[str, str], words: Words) -> tuple[list[str], str]:
    """The findings on a change, in the order they are made, and the verdict of the last one."""
    if facts["rollback"] in words["rollback_none"]:
        return ["change_opening", "rollback_none"], "reject"
    untested, board = facts["tested"] in words["tested_no"], facts["approver"] == "change board"
    if untested and facts["risk"] != "low":
        return ["rollback_ok", "untested"], "reject"
    found = ["rollback_ok", "untested_low" if untested else "tested"]
    freeze, high = facts["window"] in words["window_freeze"], facts["risk"] == "high"
    if not board and (freeze or high):
        return [*found, "freeze" if freeze else "high"], "escalate"
    found += ["freeze_board"] * freeze + ["high_board"] * high
    return found + ["no_obstacle"] * (not freeze and not high), "approve"


def record(title: str, facts: Mapping[str, str], extra: Mapping[str, str], rng: Random) -> str:
    """The record as the analyst gets it: a title, then the fields in any order."""
    names = {"days": "Days late"}
    lines = [f"{names.get(k, k.capitalize())}: {v}" for k, v in {**facts, **extra}.items()]
    return "\n".join([title, *rng.sample(lines, len(lines))])


def write_analysis(grammar: Mapping[str, Any], topic: str, rng: Random) -> Example:
    """One record and its reasoning with the verdict line."""
    words, expense = grammar[topic], topic == "expense"
    facts = (expense_facts if expense else change_facts)(words, rng)
    findings, verdict = (judge_expense if expense else judge_change)(facts, words)
    fields = {**grammar["words"], **{name: [value] for name, value in facts.items()}}
    reasons = [expand(rng.choice(grammar["sentences"][name]), fields, rng) for name in findings]
    note = {"Note": expand("{" + topic + "_note}", fields, rng)} if rng.random() < 0.7 else {}
    person = {"Employee" if expense else "Owner": rng.choice(fields["name"])}
    title = (
        f"Expense claim EX-{rng.randint(1000, 9999)}"
        if expense
        else f"Change request CR-{rng.randint(1000, 9999)}"
    )
    answer = " ".join(map(sentence, reasons)) + f"\nVerdict: {verdict}"
    return Example(record(title, facts, note | person, rng), answer, facts)


def comparison(rng: Random) -> str:
    """A true sentence about two numbers."""
    one, other = rng.randint(2, 999), rng.choice([30, 50, 80, 100, 150, 200, 250, 300, 500, 800])
    return f"{one} is {'more' if one > other else 'not more'} than {other}."


def analyst_documents(job: Job, rows: list[Example], rng: Random) -> Iterator[Chat | str]:
    """What the analyst's base reads: records, looking up fields, comparisons, loose reasoning.

    A record never stands with its own reasoning or verdict: the reasoning it reads is on its own.
    """
    for row in rows:
        name, value = rng.choice(list(row.facts.items()))
        fields = {name: [value] for name, value in row.facts.items()}
        topic = "expense" if "amount" in fields else "change"
        about = rng.choice(job.grammar["sentences"][f"{topic}_opening"])
        kinds: list[Chat | str] = [
            row.prompt,
            row.answer,
            "\n".join(comparison(rng) for _ in range(6)),
            chat("Repeat the record.", row.prompt, row.prompt),
            chat("Give the field.", f"{row.prompt}\n\n{name}?", value),
            chat("Say what the record is about.", row.prompt, sentence(expand(about, fields, rng))),
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
        sizes={"golden": 240, "eval": 100, "train": 1000},
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


def make_splits(job: Job) -> dict[str, list[Example]]:
    """The rows of each split, shuffled; no two share an input."""
    rng = Random(f"{SEED}-{job.name}")
    source = examples(job, rng, set())
    splits = {split: list(islice(source, size)) for split, size in job.sizes.items()}
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

# Llama 3's own pattern; Phi-3's stand-in reads numbers digit by digit, which helps it to compare.
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(job: Job, folder: Path) -> None:
    """Train a byte-level BPE on the training rows; write it with its configuration and template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokens, llama = job.tokens, job.name == "mapper"
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            split if llama else pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not llama),
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
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=stop, **ends)
    return model


def unseen(job: Job, count: int) -> list[Example]:
    """Fresh examples for the base model; none has an input of any split."""
    seen = {key(e.prompt) for rows in make_splits(job).values() for e in rows}
    return list(islice(examples(job, Random(f"{SEED}-{job.name}-base"), seen), count))


def reading(job: Job, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """What the base is trained on, ``[blocks, BLOCK]`` token ids."""
    import torch

    documents = job.documents(job, unseen(job, DOCUMENTS), Random(f"{SEED}-{job.name}-documents"))
    texts = [as_text(job, document, tokenizer) for document in documents]
    ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False)]
    return torch.tensor(ids[: len(ids) // BLOCK * BLOCK]).view(-1, BLOCK)


def as_text(job: Job, document: Chat | str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A conversation as its template renders it, a plain text between begin and end."""
    if isinstance(document, str):
        return (job.tokens.bos if job.name == "mapper" else "") + document + job.tokens.end_of_text
    return str(tokenizer.apply_chat_template(document, tokenize=False))


def pretrain(model: PreTrainedModel, blocks: Tensor, steps: int, batch: int = 16) -> None:
    """Plain next-token training over shuffled blocks, with warm-up and a linear way down."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98))
    ramp = [min((n + 1) / 50, (steps - n) / steps) for n in range(steps + 1)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: ramp[n])
    model.train()
    for step in range(1, steps + 1):
        ids = blocks[torch.randint(len(blocks), (batch,))]
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"  step {step}/{steps}  loss {loss.item():.3f}", flush=True)


def write_model(job: Job, folder: Path, steps: int) -> None:
    """Write tokenizer, template and the briefly trained base model of a job."""
    # Threads that spin while they wait make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(job, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = new_model(job, tokenizer)
    blocks = reading(job, tokenizer)
    print(f"{folder.name}: {model.num_parameters():,} parameters, {blocks.numel():,} tokens to read")
    pretrain(model, blocks, steps)
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
    parser.add_argument(
        "--data-only",
        action="store_true",
        help="write the data and the schema, no tokenizers and no models",
    )
    parser.add_argument(
        "--pretrain-steps",
        type=int,
        default=700,
        metavar="N",
        help="training steps of each base model (default: %(default)s, 16 x 256 tokens each)",
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Write both jobs."""
    options = parse()
    for job in (mapper_job(), analyst_job()):
        write_data(job, options.out / job.name)
        if not options.data_only:
            write_model(job, options.out / "models" / f"{job.name}-tiny", options.pretrain_steps)


if __name__ == "__main__":
    main()
