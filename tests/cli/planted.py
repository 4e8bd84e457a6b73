"""A small job that was really trained on planted answers: base, adapter, run folder, gold rows, policies.

The base is a tiny Llama that was taught wrong answers, the adapter the right ones, to the gold rows
themselves: accuracy after training is 1 and the base's is 0, whatever a model of this size could learn.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("red", "blue", "green", "white", "black", "grey")
ROWS = 24
SYSTEM = "Name the colour."
NIGHT = """
ftcheck: 1
name: night
jobs:
  colour:
    model: {name: model}
    data:
      train: train.jsonl
      gold: {path: gold.json}
    training:
      max_length: 128
      assistant_only_loss: true
      output_dir: runs/colour
      lora: {r: 8, lora_alpha: 16, target_modules: all-linear}
    serving:
      system_prompt: Name the colour.
      max_new_tokens: 24
      output_schema: schema.json
      schema_retries: 1
    targets: {accuracy: 0.9}
  later:
    model: {name: model}
    data: {train: train.jsonl, gold: {path: gold.json}}
    training: {max_length: 128, output_dir: runs/later, lora: {r: 8}}
    targets: {accuracy: 0.9}
checks: {data-readable: {}}
"""
MORNING = """
ftcheck: 1
name: morning
stage: after
extends: [./night.yaml, recommended_after]
checks:
  accuracy: {params: {min_rows: 20}}
"""


def question(number: int) -> str:
    """The question of a gold row."""
    return f"Item {number}: the box is {COLOURS[number % len(COLOURS)]}."


def answer(number: int, shift: int = 0) -> dict[str, str]:
    """Its answer; another colour with a `shift`."""
    return {"colour": COLOURS[(number + shift) % len(COLOURS)]}


def plant(folder: Path, samples: Path) -> None:
    """Write the whole project into an empty folder."""
    gold = [{"input": question(n), "expected": answer(n)} for n in range(ROWS)]
    (folder / "gold.json").write_text(json.dumps(gold, indent=0), encoding="utf-8")
    lines = [_training_row(n) for n in range(12)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    schema = {
        "type": "object",
        "required": ["colour"],
        "properties": {"colour": {"enum": list(COLOURS)}},
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (folder / "night.yaml").write_text(NIGHT, encoding="utf-8")
    (folder / "morning.yaml").write_text(MORNING, encoding="utf-8")
    _train(folder, samples / "models" / "mapper-tiny")
    _write_run(folder)


def _training_row(number: int) -> dict[str, Any]:
    turns = [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": f"Crate {number} holds {number} lamps of {COLOURS[number % 6]} glass, sir.",
        },
        {"role": "assistant", "content": json.dumps(answer(number))},
    ]
    return {"messages": turns}


def _train(folder: Path, tokenizer_of: Path) -> None:
    """Teach a random base the wrong answers, and an adapter on it the right ones."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    base = LlamaForCausalLM(config)
    _fit(base, _sequences(tokenizer, shift=1), tokenizer.pad_token_id, rate=3e-3)
    base.save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_of / name, folder / "model" / name)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    base.config._name_or_path = str(folder / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base, lora)
    _fit(model, _sequences(tokenizer, shift=0), tokenizer.pad_token_id, rate=1e-2)
    run = folder / "runs" / "colour"
    model.save_pretrained(run)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_of / name, run / name)


def _sequences(tokenizer: Any, *, shift: int) -> list[tuple[list[int], list[int]]]:
    """Prompts as they are served, with their answers and the stop token."""
    made = []
    for number in range(ROWS):
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(number)}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        said = tokenizer.encode(json.dumps(answer(number, shift)), add_special_tokens=False)
        made.append((ids, [*said, tokenizer.eos_token_id]))
    return made


def _fit(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int, *, rate: float) -> None:
    import torch

    width = max(len(prompt) + len(said) for prompt, said in rows)
    ids = torch.tensor([[*p, *a] + [pad] * (width - len(p) - len(a)) for p, a in rows])
    labels = torch.tensor([[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in rows])
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate)
    for _ in range(300):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.05:
            return
    raise AssertionError(f"the planted answers were not learned: loss {loss.item():.2f}")


def _write_run(folder: Path) -> None:
    """run.json and metrics.jsonl, as ftcheck's trainer would have left them."""
    from ftcheck.gate.input_digests import gather
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.runner.load import load

    loaded = load(folder / "night.yaml")
    job = loaded.policy.jobs["colour"]
    work = folder / "work"
    work.mkdir()
    inputs = Inputs(loaded.host.loaders, {"run": Run(folder=work, offline=True), "jobs": (job,)}, job)
    found, ids = gather(job, ()), inputs.get("prepared").digest
    ticket = {
        "job": "colour",
        "job_digest": found.job.digest,
        "model": found.job.model,
        "template": found.job.template,
        "ids": ids,
        "inputs": {name: one.digest for name, one in found.inputs.items()},
    }
    values = {
        "schema": "ftcheck.run/1",
        "job": "colour",
        "trainer": "qlora",
        "status": "finished",
        "ids": ids,
        "ticket": ticket,
        "packages": {"torch": "2.13.0+cpu"},
        "planned": {"steps": 20},
        "steps": 20,
        "memory_peak_gib": 0.5,
    }
    run = folder / "runs" / "colour"
    (run / "run.json").write_text(json.dumps(values), encoding="utf-8")
    lines = [{"step": step, "loss": 2.0 / step, "grad_norm": 1.0} for step in range(1, 21)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    shutil.rmtree(work)
