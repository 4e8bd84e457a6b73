"""The promise: ids and labels are TRL's own, row by row, for each layout, loss and truncation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck import templates
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.label_digest import LabelDigest
from ftcheck.packing.truncation import cutter
from ftcheck.settings import Data, Job, Model, Training
from tests.places import DATA
from tests.plugins.preparation.trl_side import (
    Fed,
    prepare,
    quiet,
    trainer_of,
)

pytest.importorskip("trl")

TOKENIZERS = (
    "Llama-3.1-8B-Instruct",
    "Mistral-7B-Instruct-v0.3",
    "Qwen2.5-Instruct",
    "Qwen3",
    "TinyLlama-1.1B-Chat-v1.0",
    "llama-3-instruct",
    "phi-3-mini-instruct",
    "phi-3-mini-without-config",
    "qwen2-instruct-vocab-merges",
)
LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}


def ours(model: Path, data: Path, folder: Path, **training: Any) -> tuple[Prepared, Any]:
    job = Job(
        name="job",
        model=Model(name=str(model)),
        data=Data(train=str(data)),
        training=Training(**training),
    )
    inputs = Inputs(LOADERS, {"run": Run(folder=folder)}, job)
    with quiet():
        prepared: Prepared = inputs.get("prepared")
        return prepared, inputs.get("tokenizer").original


def fed(prepared: Prepared, training: dict[str, Any]) -> list[Fed]:
    cut = cutter(Training(**training))
    rows = []
    for row, start, stop in prepared.sequences.tolist():
        ids = cut(prepared.tokens.ids(row)[start:stop])
        mask = cut(prepared.tokens.mask(row)[start:stop])
        rows.append((ids.tolist(), [i if m else -100 for i, m in zip(ids.tolist(), mask, strict=True)]))
    return rows


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def agree(model: Path, rows: Sequence[dict[str, Any]], folder: Path, **training: Any) -> None:
    prepared, backend = ours(model, write(folder / "rows.jsonl", rows), folder, **training)
    assert not prepared.row_errors
    theirs = prepare(backend, rows, folder, **training)
    mine = fed(prepared, training)
    if training.get("packing"):
        mine, theirs = sorted(mine), sorted(theirs)
    assert len(mine) == len(theirs)
    for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        assert one == other, f"row {number}"
    digest = LabelDigest()
    for ids, labels in fed(prepared, training):
        digest.add(ids, labels)
    assert prepared.digest == digest.text()


def sample_rows(samples: Path, job: str, count: int = 120) -> list[dict[str, Any]]:
    lines = (samples / job / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def as_layout(row: dict[str, Any], layout: str) -> dict[str, Any]:
    turns = row["messages"]
    texts = [turn["content"] for turn in turns]
    return {
        "messages": row,
        "prompt-completion": {"prompt": turns[:-1], "completion": turns[-1:]},
        "prompt-completion-text": {"prompt": "\n".join(texts[:-1]) + "\n", "completion": texts[-1]},
        "text": {"text": "\n".join(texts)},
        "sharegpt": {"conversations": [{"from": t["role"], "value": t["content"]} for t in turns]},
    }[layout]


LAYOUTS = ("messages", "prompt-completion", "prompt-completion-text", "text", "sharegpt")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_length": 64},
    {"max_length": None},
    {"max_length": 48, "truncation_mode": "keep_end"},
    {"max_length": 64, "packing": True},
)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("job", ["mapper", "analyst"])
def test_every_layout_gives_the_ids_and_labels_that_trl_gives(
    samples: Path, tmp_path: Path, job: str, layout: str, setting: dict[str, Any]
) -> None:
    rows = [as_layout(row, layout) for row in sample_rows(samples, job, 60)]
    agree(samples / "models" / f"{job}-tiny", rows, tmp_path, **setting)


@pytest.mark.parametrize("layout", ["messages", "prompt-completion"])
@pytest.mark.parametrize("completion_only_loss", [None, True, False])
def test_assistant_only_loss_masks_as_trl_masks(
    samples: Path, tmp_path: Path, layout: str, completion_only_loss: bool | None
) -> None:
    rows = [as_layout(row, layout) for row in sample_rows(samples, "mapper")]
    chosen = {"assistant_only_loss": True, "completion_only_loss": completion_only_loss, "max_length": 60}
    agree(samples / "models" / "mapper-tiny", rows, tmp_path, **chosen)


def test_alpaca_rows_are_prompt_and_completion_conversations(samples: Path, tmp_path: Path) -> None:
    model = samples / "models" / "mapper-tiny"
    alpaca = [{"instruction": "Map it.", "input": f"Laptop {n} is slow", "output": "{}"} for n in range(9)]
    chat = [
        {
            "prompt": [{"role": "user", "content": f"{row['instruction']}\n{row['input']}"}],
            "completion": [{"role": "assistant", "content": row["output"]}],
        }
        for row in alpaca
    ]
    prepared, backend = ours(model, write(tmp_path / "a.jsonl", alpaca), tmp_path, max_length=64)

    assert prepared.rows.format == "alpaca"
    assert fed(prepared, {"max_length": 64}) == prepare(backend, chat, tmp_path, max_length=64)


def real_rows(job: str) -> list[dict[str, Any]]:
    """200 rows spread over the job's data; 40 of `meetings`, whose rows are long."""
    lines = (DATA / "jobs" / job / "train.jsonl").read_text(encoding="utf-8").splitlines()
    count = 40 if job == "meetings" else 200
    step = max(1, len(lines) // count)
    return [json.loads(line) for line in lines[::step][:count]]


def all_real_jobs_agree(model: Path, jobs: Sequence[str], folder: Path, **training: Any) -> None:
    """One trainer for all jobs of a tokenizer: loading and building it is what takes time."""
    trl = None
    for job in jobs:
        rows = real_rows(job)
        prepared, backend = ours(model, write(folder / f"{job}.jsonl", rows), folder / job, **training)
        assert not prepared.row_errors
        trl = trl or trainer_of(backend, rows, folder, **training)
        theirs, mine = trl(rows), fed(prepared, training)
        assert len(mine) == len(theirs)
        differing = [n for n, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other]
        assert not differing, f"{job}: rows {differing[:5]} and {len(differing)} in all"


@pytest.mark.realdata
@pytest.mark.parametrize("name", TOKENIZERS)
def test_real_rows_with_real_tokenizers_give_trls_ids_and_labels(tmp_path: Path, name: str) -> None:
    all_real_jobs_agree(
        DATA / "tokenizers" / name, ("mapper", "analyst", "meetings"), tmp_path, max_length=96
    )


PATCHED = ("llama-3-instruct", "phi-3-mini-instruct", "Qwen2.5-Instruct", "Qwen3")


@pytest.mark.realdata
@pytest.mark.parametrize("name", PATCHED)
def test_real_rows_are_masked_with_the_template_that_trl_swaps_in(tmp_path: Path, name: str) -> None:
    folder = DATA / "tokenizers" / name
    template = templates.of_folder(folder)
    if template is None or templates.training_template(template) is None:
        pytest.skip("TRL knows no training version of this template")
    settings = {"max_length": 96, "assistant_only_loss": True}
    all_real_jobs_agree(folder, ("mapper", "analyst"), tmp_path, **settings)


def test_trls_own_table_of_training_templates_is_ours() -> None:
    from types import SimpleNamespace

    from trl.chat_template_utils import get_training_chat_template

    folder = templates.trl_templates()
    assert folder is not None
    pairs = templates._training_pairs(folder)

    assert len(pairs) > 20
    for original, patched in pairs.items():
        tokenizer = SimpleNamespace(chat_template=original, apply_chat_template=lambda *a, **k: "")
        assert get_training_chat_template(tokenizer) == patched
