"""Checked ids as the folder that each trainer reads: what TRL, axolotl and LLaMA-Factory make of it."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ftcheck.cli import run_command
from ftcheck.label_digest import LabelDigest
from tests.trainers.small import make_project, sets

IDS = ("input_ids", "labels")


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project; commands run in it."""
    make_project(tmp_path, model_folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def export(to: str, *words: str, code: int = 0) -> Path:
    """Export the small job's ids into `out`."""
    assert run_command(["export", "ids", "policy.yaml", "--to", to, "out", *words]) == code
    return Path("out").resolve()


def lines_of(out: Path) -> dict[str, Any]:
    """The configuration that stands in the folder, as YAML 1.1 readers read it."""
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    loaded: dict[str, Any] = reader.load(io.StringIO((out / "config.yml").read_text(encoding="utf-8")))
    return loaded


def manifest_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "ftcheck.json").read_text(encoding="utf-8"))
    return found


def stored(out: Path, split: str = "train") -> Any:
    """A split as all three trainers open it: as a DatasetDict that was saved to disk."""
    from datasets import load_from_disk

    return load_from_disk(str(out))[split]


def digest(rows: Any) -> str:
    """The digest over ids and labels, row by row, as reports state it."""
    made = LabelDigest()
    for row in rows:
        made.add(row["input_ids"], row["labels"])
    return made.text()


def reported(*words: str) -> dict[str, Any]:
    """What a report says of the job."""
    run_command(["run", "policy.yaml", "-q", "-o", "json=r.json", *words])
    found: dict[str, Any] = json.loads(Path("r.json").read_text(encoding="utf-8"))["jobs"]["small"]
    return found


def trl(rows: Any, **arguments: Any) -> Any:
    """TRL's SFTTrainer on the small model, in float32, on the CPU."""
    from trl import SFTConfig, SFTTrainer

    fixed: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
    fixed["activation_checkpointing"] = False
    sizes: dict[str, Any] = {"per_device_train_batch_size": 8, "learning_rate": 5e-3, "max_steps": 2}
    config = SFTConfig("trl", **fixed, **sizes, logging_steps=1, save_strategy="no", **arguments)
    return SFTTrainer("model", config, train_dataset=rows)


def trl_of(out: Path, **arguments: Any) -> Any:
    """TRL on the exported folder, with the lines that came with it: as TrlParser reads them for `trl sft`."""
    from datasets import load_dataset

    lines = lines_of(out)
    lines.pop("dataset_test_split", None)
    rows = load_dataset(lines.pop("dataset_name"), cache_dir="hf")[lines.pop("dataset_train_split")]
    assert rows.to_list() == stored(out).to_list()
    return trl(stored(out), **lines, **arguments)


def own(**arguments: Any) -> Any:
    """TRL on the rows as they are written, which it prepares itself."""
    from datasets import load_dataset

    rows = load_dataset("json", data_files="train.jsonl", split="train", cache_dir="hf")
    return trl(rows, assistant_only_loss=True, **arguments)


def batches(trainer: Any) -> list[dict[str, Any]]:
    """All batches of the first epoch, in the order in which they are trained."""
    return [
        {name: getattr(value, "tolist", lambda v=value: v)() for name, value in batch.items()}
        for batch in trainer.get_train_dataloader()
    ]


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_trl_trains_the_batches_that_it_would_have_made_itself(folder: Path) -> None:
    out = export("trl")

    assert digest(stored(out)) == manifest_of(out)["ids"] == reported()["ids"]
    theirs, ours = own(max_length=96), trl_of(out)
    assert batches(ours) == batches(theirs)
    assert losses(ours) == losses(theirs)


@pytest.mark.filterwarnings("ignore:.*keep_end:FutureWarning")
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_rows_are_cut_as_trl_cuts_them_and_those_without_labels_are_gone(folder: Path, mode: str) -> None:
    # 30 tokens keep the prompt alone of most rows where the start is kept: TRL drops those
    out = export("trl", *sets(max_length=30, truncation_mode=mode))

    theirs = own(max_length=30, truncation_mode=mode)
    rows = stored(out)
    assert [[row[name] for name in IDS] for row in rows] == [
        [row[name] for name in IDS] for row in theirs.train_dataset
    ]
    assert all(any(label != -100 for label in row["labels"]) for row in rows)
    assert max(map(len, rows["input_ids"])) == 30
    assert (len(rows) < 60) == (mode == "keep_start")
    assert batches(trl_of(out)) == batches(theirs)


def test_what_datasets_cached_of_an_earlier_export_is_not_taken_for_this_one(folder: Path) -> None:
    # datasets' cache of a folder with a card knows neither its path nor its bytes
    assert len(trl_of(export("trl")).train_dataset) == 60
    assert len(trl_of(export("trl", "--force", *sets(max_length=30))).train_dataset) < 60


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_blocks_that_trl_packs_are_packed_by_trl(folder: Path, strategy: str) -> None:
    packed = {"packing": True, "packing_strategy": strategy, "max_length": 64}
    out = export("trl", *sets(**packed, packing_planner="trl"))

    assert digest(stored(out)) == manifest_of(out)["ids"]
    assert batches(trl_of(out)) == batches(own(**packed))


def test_planned_blocks_are_trained_as_they_were_planned(folder: Path) -> None:
    out = export("trl", *sets(packing=True, max_length=96))

    facts = manifest_of(out)
    blocks = stored(out)
    ours, theirs = trl_of(out), own(packing=True, max_length=96)
    assert facts["ids"] == reported(*sets(packing=True, max_length=96))["ids"]
    assert digest(blocks) == facts["splits"]["train"]["digest"]
    assert sorted(documents(blocks)) == sorted(documents(theirs.train_dataset))
    assert len(blocks) <= len(theirs.train_dataset)
    assert ours.padding_free
    starts = sum(sum(1 for one in batch["position_ids"][0] if one == 0) for batch in batches(ours))
    assert starts == 60  # each of the sixty rows begins at position 0


def documents(blocks: Any) -> list[tuple[list[int], list[int]]]:
    """The rows in packed blocks."""
    found = []
    for block in blocks:
        stop = 0
        for length in block["seq_lengths"]:
            start, stop = stop, stop + length
            found.append((block["input_ids"][start:stop], block["labels"][start:stop]))
    return found


def test_shuffling_before_training_is_left_to_trl(folder: Path) -> None:
    out = export("trl", *sets(shuffle_dataset=True))

    assert batches(trl_of(out)) == batches(own(max_length=96, shuffle_dataset=True))


def test_evaluation_rows_come_along_where_the_job_evaluates(folder: Path) -> None:
    out = export("trl")

    facts = manifest_of(out)
    assert len(stored(out, "validation")) == 12
    assert digest(stored(out, "validation")) == facts["eval_ids"] == reported()["eval_ids"]
    assert lines_of(out)["dataset_test_split"] == "validation"


def test_no_evaluation_rows_where_it_does_not(folder: Path) -> None:
    out = export("trl", *sets(eval_strategy="no"))

    assert manifest_of(out)["eval_ids"] is None
    assert sorted(manifest_of(out)["splits"]) == ["train"]
    assert not (out / "validation").exists()


# --- axolotl: load_from_disk(path)[split], taken as it is where these three columns are there -----------


def as_axolotl_reads(entries: Sequence[dict[str, Any]], length: int) -> Any:
    """Rows of a `datasets` section: src/axolotl/utils/data/{sft,shared,wrappers,utils}.py of 0.18.0."""
    from datasets import load_from_disk

    [entry] = entries
    assert os.path.isdir(entry["path"])
    assert entry["type"] is None
    rows = load_from_disk(entry["path"])[entry["split"]]
    assert {"input_ids", "attention_mask", "labels"} == set(rows.column_names)
    assert all(1 <= len(row) <= length for row in rows["input_ids"])  # else it drops or refuses them
    return rows


@pytest.mark.parametrize("packing", [False, True])
def test_axolotl_reads_the_checked_rows_and_packs_them_itself(folder: Path, packing: bool) -> None:
    out = export("axolotl", *sets(packing=packing))

    lines = lines_of(out)
    rows = as_axolotl_reads(lines["datasets"], lines["sequence_len"])
    assert digest(rows) == manifest_of(out)["ids"]
    assert all(row["attention_mask"] == [1] * len(row["input_ids"]) for row in rows)
    assert lines["sample_packing"] is packing
    assert digest(as_axolotl_reads(lines["test_datasets"], 96)) == manifest_of(out)["eval_ids"]
    # the hash of its own cache leaves out the bytes of the data: the cache must not outlive the folder
    assert Path(lines["dataset_prepared_path"]).parent == out
    assert (lines["val_set_size"], lines["shuffle_merged_datasets"]) == (0, False)
    assert lines["excess_length_strategy"] == "raise"


# --- LLaMA-Factory: load_from_disk(tokenized_path), its splits train and validation as they are ----------


def test_llama_factory_reads_the_checked_rows(folder: Path) -> None:
    out = export("llama-factory")

    lines = lines_of(out)
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(lines["tokenized_path"])
    assert isinstance(data, DatasetDict)
    assert sorted(data) == ["train", "validation"]
    assert set(data["train"].column_names) == {"input_ids", "attention_mask", "labels"}
    assert digest(data["train"]) == manifest_of(out)["ids"]
    assert digest(data["validation"]) == manifest_of(out)["eval_ids"]
    assert (lines["packing"], lines["neat_packing"]) == (False, False)


@pytest.mark.parametrize("planner", ["optimal", "trl"])
def test_blocks_for_llama_factory_are_whole_and_keep_rows_apart(folder: Path, planner: str) -> None:
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    out = export("llama-factory", *sets(packing=True, max_length=96, packing_planner=planner))

    blocks = stored(out)
    assert set(blocks.column_names) == {"input_ids", "attention_mask", "position_ids", "labels"}
    found = []
    for block in blocks:
        assert all(len(block[name]) == 96 for name in blocks.column_names)
        numbers = block["attention_mask"]
        for number in range(1, max(numbers) + 1):
            own = [n for n, one in enumerate(numbers) if one == number]
            assert own == list(range(own[0], own[-1] + 1))
            assert [block["position_ids"][n] for n in own] == list(range(len(own)))
            found.append(tuple([block[name][n] for n in own] for name in IDS))
        padding = [n for n, one in enumerate(numbers) if one == 0]
        assert all(block["labels"][n] == -100 for n in padding)
    rows = stored(export("llama-factory", "--force"))
    assert sorted(found) == sorted((row["input_ids"], row["labels"]) for row in rows)
    # its collator, which leaves position_ids as long as they are
    collated = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained("model"), pad_to_multiple_of=8)(
        [dict(block) for block in blocks.select(range(2))]
    )
    assert {tuple(one.shape) for one in collated.values()} == {(2, 96)}
