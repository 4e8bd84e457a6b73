"""The trainer behind the gate: real QLoRA runs of a tiny model on a few rows."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers import (
    checkpoint,
    dataset,
    metrics,
    sft_build,
)
from ftcheck_trainers.failure_messages import plain_words
from ftcheck_trainers.qlora import TRAINER, describe
from ftcheck_trainers.quiet_libraries import quiet_libraries
from ftcheck_trainers.sft_build import build_trainer

from ftcheck.errors import TrainingError
from ftcheck.gate.ticket import Refused, Ticket
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.prepared import Prepared
from ftcheck.records import Progress
from ftcheck.settings import Job, Lora, Model
from tests.trainers.conftest import Kit, make_ticket

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

Fed = tuple[tuple[int, ...], tuple[int, ...]]


def trained(kit: Kit, job: Job, *, resume: bool = False, report: Any = None) -> Path:
    inputs = kit.inputs(job, report)
    return Path(TRAINER.train(kit.ticket(job, inputs), job, inputs, resume=resume))


def expected(prepared: Prepared, max_length: int) -> list[Fed]:
    rows = []
    for row, start, stop in prepared.sequences.tolist():
        ids = prepared.tokens.ids(row)[start:stop][:max_length].tolist()
        mask = prepared.tokens.mask(row)[start:stop][:max_length].tolist()
        rows.append((tuple(ids), tuple(i if m else -100 for i, m in zip(ids, mask, strict=True))))
    return rows


def adapter(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "adapter_model.safetensors")
    return found


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every batch that the trainer's data loader hands to a training step."""
    batches: list[Any] = []
    count = metrics.Metrics.count

    def spy(self: metrics.Metrics, inputs: Any) -> None:
        batches.append({name: value.clone() for name, value in inputs.items() if hasattr(value, "clone")})
        count(self, inputs)

    monkeypatch.setattr(metrics.Metrics, "count", spy)
    return batches


def test_a_run_trains_the_adapter_and_leaves_a_complete_folder(kit: Kit) -> None:
    job = kit.job(eval_strategy="steps", eval_steps=2, save_steps=2)

    folder = trained(kit, job)

    run, logged = kit.run_json(), kit.metrics()
    assert folder == kit.output
    assert (run["schema"], run["status"], run["reason"]) == ("ftcheck.run/1", "finished", None)
    assert (run["job"], run["trainer"], run["policy"]) == ("mapper", "qlora", "policies/night.yaml")
    assert run["ids"] == run["ticket"]["ids"]
    assert run["ticket"]["job_digest"] == "sha256:job"
    assert run["packages"]["trl"].startswith("1.")
    assert run["planned"]["rows"] == run["planned"]["blocks"] == 60
    assert (run["planned"]["steps"], run["steps"], run["checkpoint"]) == (4, 4, "checkpoint-4")
    assert run["tokens"] == run["planned"]["tokens"]
    assert run["started_at"] <= run["finished_at"]
    assert run["adapter"] == str(folder)
    lines = [line for line in logged if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert run["final_loss"] == lines[-1]["loss"] < lines[0]["loss"]
    assert run["final_eval_loss"] == [line["eval_loss"] for line in logged if "eval_loss" in line][-1]
    for line in lines:
        assert line["tokens"] > 0
        assert line["tokens_per_second"] > 0
        assert 0 < line["padding_share"] < 1
        assert 0 < line["trained_share"] < 1
        assert 0 < line["memory_gib"] <= line["memory_peak_gib"]
        assert line["grad_norm"] > 0
        assert line["learning_rate"] is not None
        assert line["epoch"] > 0
    assert [one.done for one in kit.reported if one.task == "training mapper"] == [1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_saved_adapter_loads_with_peft_and_has_learnt(kit: Kit) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained(kit, kit.job())

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(kit.model), folder)
    lora_b = [value for name, value in model.named_parameters() if "lora_B" in name]
    assert len(lora_b) == 14
    assert all(value.abs().sum() > 0 for value in lora_b)
    served = AutoTokenizer.from_pretrained(folder).chat_template
    assert served == AutoTokenizer.from_pretrained(kit.model).chat_template
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == served
    assert "{% generation %}" in (folder / "training_chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_the_embedding_table_is_resized_before_the_adapter_is_put_on(kit: Kit) -> None:
    job = kit.job(max_steps=1)
    rows = 448
    sized = replace(job, model=replace(job.model, resize_embeddings_to=rows))

    saved = adapter(trained(kit, sized))

    [table] = [name for name in saved if "embed_tokens" in name]
    assert saved[table].shape == (rows, 64)
    assert kit.run_json()["status"] == "finished"


def test_the_base_is_loaded_in_nf4_and_the_rest_in_bfloat16(kit: Kit) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit

    trainer = built(kit, kit.job())

    quantized = [one for one in trainer.model.modules() if isinstance(one, Linear4bit)]
    assert len(quantized) == 14
    assert {one.weight.quant_state.quant_type for one in quantized} == {"nf4"}
    assert not any(one.support_avx512bf16_for_cpu for one in quantized)
    others = {p.dtype for p in trainer.model.parameters() if p.dtype != torch.uint8}
    assert others == {torch.bfloat16}


def test_the_rows_that_reach_the_model_are_the_prepared_ones(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = spied(monkeypatch)
    job = kit.job(max_length=40, max_steps=-1, num_train_epochs=1.0)

    trained(kit, job)

    fed = [
        (tuple(ids[mask == 1].tolist()), tuple(labels[mask == 1].tolist()))
        for batch in batches
        for ids, labels, mask in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        )
    ]
    assert sorted(fed) == sorted(expected(kit.prepared(kit.inputs(job)), 40))


FLAT: dict[str, dict[str, Any]] = {
    "optimal": {"packing": True, "packing_planner": "optimal"},
    "trl": {"packing": True, "packing_planner": "trl"},
    "padding-free": {"padding_free": True},
}


@pytest.mark.parametrize("how", FLAT)
def test_flat_documents_reach_the_model_whole_and_apart(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    batches = spied(monkeypatch)
    job = kit.job(max_steps=-1, num_train_epochs=1.0, **FLAT[how])

    trained(kit, job)

    documents = []
    for batch in batches:
        assert "attention_mask" not in batch
        documents += apart(batch)
    rows = expected(kit.prepared(kit.inputs(job)), 96)
    assert sorted(documents) == sorted((ids, (-100, *labels[1:])) for ids, labels in rows)
    assert (kit.run_json()["planned"]["blocks"] < 60) == job.training.packing
    assert {line["padding_share"] for line in kit.metrics()} == {0.0}


def test_wrapped_blocks_are_trained_as_trl_trains_them(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = spied(monkeypatch)

    trained(kit, kit.job(packing=True, packing_strategy="wrapped", max_length=48, max_steps=1))

    assert all("position_ids" not in batch for batch in batches)
    planned = kit.run_json()["planned"]
    assert planned["blocks"] == -(-planned["tokens"] // 48)


def apart(batch: Any) -> list[Fed]:
    """The documents of a flat batch: positions start anew at each."""
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    starts = [n for n, position in enumerate(batch["position_ids"][0].tolist()) if position == 0]
    stops = [*starts[1:], len(ids)]
    return [(tuple(ids[a:b]), tuple(labels[a:b])) for a, b in zip(starts, stops, strict=True)]


def built(kit: Kit, job: Job, *, fed: bool = False) -> Any:
    """SFTTrainer as `train` builds it, on the job's rows or blocks."""
    inputs = kit.inputs(job)
    rows = dataset.fed_rows(kit.prepared(inputs), job.training, kit.folder / "fed")
    blocks = dataset.arranged(rows, job.training, kit.folder / "fed", pack=job.training.packing)
    tokenizer, written = inputs.get("tokenizer").original, metrics.Metrics(kit.folder)
    with quiet_libraries():
        trainer = build_trainer(job, inputs.get("run"), tokenizer, blocks, None, 4, written)
    return (trainer, blocks) if fed else trainer


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
@pytest.mark.parametrize("planner", ["optimal", "trl"])
def test_a_packed_document_has_the_loss_it_has_alone(kit: Kit, planner: str, strategy: str) -> None:
    import torch

    options: dict[str, Any] = {"packing_planner": planner, "packing_strategy": strategy}
    full: dict[str, Any] = {"quantization": None, "bf16": False}
    job = kit.job(rows=24, packing=True, per_device_train_batch_size=3, **options, **full)
    trainer = built(kit, job)
    model = trainer.model.eval()

    documents = 0
    for batch in trainer.get_train_dataloader():
        with torch.no_grad():
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            together = token_losses(model(**inputs, use_cache=False).logits[0], batch["input_ids"][0])
        start = 0
        for ids, _ in apart(batch):
            alone = torch.tensor([ids])
            with torch.no_grad():
                losses = token_losses(model(input_ids=alone, use_cache=False).logits[0], alone[0])
            packed = together[start : start + len(losses)]
            assert (packed - losses).abs().max() <= 1e-4
            start += len(ids)
            documents += 1
    assert documents >= 24


def token_losses(logits: Any, ids: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_the_trl_planner_makes_the_blocks_that_trl_makes(kit: Kit, strategy: str) -> None:
    from trl import pack_dataset

    job = kit.job(packing=True, packing_planner="trl", packing_strategy=strategy, max_length=48)
    inputs = kit.inputs(job)
    rows = dataset.fed_rows(kit.prepared(inputs), job.training, kit.folder / "fed")

    blocks = dataset.arranged(rows, job.training, kit.folder / "fed", pack=True)

    assert blocks.to_list() == pack_dataset(rows, 48, strategy=strategy).to_list()


def test_the_optimal_planner_splits_long_rows_as_trl_splits_them(kit: Kit) -> None:
    job = kit.job(packing=True, packing_strategy="bfd_split", max_length=32, max_steps=1)
    inputs = kit.inputs(job)
    rows = dataset.fed_rows(kit.prepared(inputs), job.training, kit.folder / "fed")

    ours = dataset.arranged(rows, job.training, kit.folder / "fed", pack=True)
    by_trl = replace(job.training, packing_planner="trl")
    theirs = dataset.arranged(rows, by_trl, kit.folder / "fed", pack=True)

    assert documents_of(ours) == documents_of(theirs)
    assert len(ours) == len(theirs)
    assert max(sum(block["seq_lengths"]) for block in ours) <= 32


def documents_of(blocks: Any) -> list[list[int]]:
    found = []
    for block in blocks:
        start = 0
        for length in block["seq_lengths"]:
            found.append(block["input_ids"][start : start + length])
            start += length
    return sorted(found)


def test_an_evaluation_in_the_middle_leaves_the_gradients_as_they_are(kit: Kit) -> None:
    job = kit.job(lora=Lora(r=4, lora_alpha=8, target_modules="all-linear"))
    trainer, blocks = built(kit, job, fed=True)
    batch = dict(next(iter(trainer.get_train_dataloader())))

    before = gradients(trainer.model, batch)
    trainer.evaluate(blocks)
    after = gradients(trainer.model, batch)

    assert len(before) == 28
    assert all((before[name] == after[name]).all() for name in before)


@pytest.fixture
def repacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes takes every CPU for one with AVX512-BF16, and repacks weights to evaluate if it may."""
    import bitsandbytes.nn.modules

    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)


@pytest.mark.usefixtures("repacking")
def test_losses_after_evaluations_are_those_of_a_run_without(kit: Kit, tmp_path: Path) -> None:
    trained(kit, kit.job(eval_strategy="steps", eval_steps=1, max_steps=6))
    trained(kit, kit.job(output_dir=str(tmp_path / "without"), max_steps=6))

    lines = (tmp_path / "without" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    without = [json.loads(line)["loss"] for line in lines]
    assert [line["loss"] for line in kit.metrics() if "loss" in line] == without
    assert len([line for line in kit.metrics() if "eval_loss" in line]) == 6
    assert without[-1] < without[0] - 0.3
    ours, theirs = adapter(kit.output), adapter(tmp_path / "without")
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.filterwarnings("ignore:bitsandbytes.*autograd kernel:UserWarning")
@pytest.mark.usefixtures("repacking")
def test_without_the_guard_an_evaluation_takes_gradients_away(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16: repacked weights could not be used")
    monkeypatch.setattr(sft_build, "keep_trainable_on_cpu", lambda model: None)
    trainer, blocks = built(kit, kit.job(lora=Lora(r=4, target_modules="all-linear")), fed=True)
    batch = dict(next(iter(trainer.get_train_dataloader())))

    before = gradients(trainer.model, batch)
    trainer.evaluate(blocks)
    after = gradients(trainer.model, batch)

    assert any((before[name] != after[name]).any() for name in before if "layers.0." in name)


def gradients(model: Any, batch: Any) -> dict[str, Any]:
    model.train()
    model.zero_grad()
    model(**batch, use_cache=False).loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def test_one_changed_label_is_refused_and_nothing_is_written(kit: Kit) -> None:
    import numpy as np

    job = kit.job()
    inputs = kit.inputs(job)
    ticket = kit.ticket(job, inputs)
    prepared = kit.prepared(inputs)

    class OneLabelOff:
        used_ids = prepared.tokens.used_ids
        rows_with = prepared.tokens.rows_with

        def ids(self, row: int) -> Any:
            return prepared.tokens.ids(row)

        def mask(self, row: int) -> Any:
            mask = np.array(prepared.tokens.mask(row))
            mask[-2] ^= row == 7
            return mask

    tampered = Inputs({}, base(inputs, replace(prepared, tokens=OneLabelOff())), job)
    with pytest.raises(Refused) as refused:
        TRAINER.train(ticket, job, tampered, resume=False)

    assert [reason.code for reason in refused.value.refusal.reasons] == ["ids-changed"]
    assert not kit.output.exists()


def base(inputs: Inputs, prepared: Prepared) -> dict[str, Any]:
    return {"run": inputs.get("run"), "tokenizer": inputs.get("tokenizer"), "prepared": prepared}


def test_a_row_in_trouble_is_refused(kit: Kit) -> None:
    job = kit.job()
    with Path(str(job.data.train)).open("a", encoding="utf-8") as file:
        file.write('{"messages": "hello"}\n')
    inputs = kit.inputs(job)

    with pytest.raises(Refused, match=r"ids-changed.*train\.jsonl:61"):
        TRAINER.train(make_ticket(job, None), job, inputs, resume=False)

    assert not kit.output.exists()


def test_the_ticket_of_another_job_is_refused(kit: Kit) -> None:
    job = kit.job()
    inputs = kit.inputs(job)

    with pytest.raises(Refused, match="the ticket is for job analyst"):
        TRAINER.train(replace(kit.ticket(job, inputs), job="analyst"), job, inputs, resume=False)

    assert not kit.output.exists()


def test_a_ticket_for_other_settings_of_the_job_is_refused(kit: Kit) -> None:
    job = replace(kit.job(), canonical={"training": {"max_length": 96}})
    inputs = kit.inputs(job)

    with pytest.raises(Refused, match=r"policy-changed.*jobs\.mapper"):
        TRAINER.train(kit.ticket(job, inputs), job, inputs, resume=False)


def test_a_ticket_cannot_be_made_without_the_gates_seal() -> None:
    fields: dict[str, Any] = {"job": "mapper", "policy": "p", "report": "r", "job_digest": "j", "plan": "p"}

    with pytest.raises(TypeError, match="handed out by the gate"):
        Ticket(**fields, model=None, template=None, ids=None)


def test_a_run_that_is_there_is_not_overwritten(kit: Kit) -> None:
    job = kit.job(max_steps=1)
    trained(kit, job)
    before = (kit.output / "run.json").read_bytes()

    with pytest.raises(
        TrainingError, match=r"contains a run with checkpoints; set another training\.output_dir"
    ):
        trained(kit, job)

    with pytest.raises(TrainingError, match="is finished; there is nothing to resume"):
        trained(kit, job, resume=True)
    assert (kit.output / "run.json").read_bytes() == before


def interrupt_after(step: int, how: Any) -> Any:
    def report(progress: Progress) -> None:
        if progress.task.startswith("training") and progress.done == step:
            how()

    return report


def ctrl_c() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_run_is_resumed_to_the_same_adapter(kit: Kit, tmp_path: Path) -> None:
    job = kit.job(save_steps=2, max_steps=5)
    whole = replace(job, training=replace(job.training, output_dir=str(tmp_path / "whole")))
    trained(kit, whole)

    with pytest.raises(KeyboardInterrupt):
        trained(kit, job, report=interrupt_after(3, ctrl_c))
    interrupted = kit.run_json()
    assert (interrupted["status"], interrupted["reason"]) == ("interrupted", "Ctrl-C")
    assert interrupted["checkpoint"] == "checkpoint-2"
    with pytest.raises(TrainingError, match="resume with --resume"):
        trained(kit, job)
    trained(kit, job, resume=True)

    run = kit.run_json()
    assert (run["status"], run["steps"], run["started_at"]) == ("finished", 5, interrupted["started_at"])
    assert [one["step"] for one in run["resumed"]] == [2]
    assert [line["step"] for line in kit.metrics()] == [1, 2, 3, 4, 5]
    uninterrupted = json.loads((tmp_path / "whole" / "run.json").read_text(encoding="utf-8"))
    assert run["tokens"] == uninterrupted["tokens"]
    assert run["final_loss"] == pytest.approx(uninterrupted["final_loss"], rel=1e-3)
    ours, theirs = adapter(kit.output), adapter(tmp_path / "whole")
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_the_best_checkpoint_is_named_by_the_place_where_it_lies(kit: Kit) -> None:
    best: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    steps: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2}

    trained(kit, kit.job(max_steps=4, save_total_limit=1, extra=best, **steps))

    last = kit.output / "checkpoint-4"
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["best_model_checkpoint"] == str(last)
    assert sorted(path.name for path in kit.output.glob("checkpoint-*")) == ["checkpoint-4"]
    ours, theirs = adapter(kit.output), adapter(last)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_sigterm_interrupts_a_run_and_is_written_down(kit: Kit) -> None:
    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        trained(kit, kit.job(), report=interrupt_after(2, terminate))

    assert (kit.run_json()["status"], kit.run_json()["reason"]) == ("interrupted", "SIGTERM after step 3")


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"ids": "sha256:other"}, ["ids-changed"]),
        ({"inputs": {"mapper.train": "sha256:other"}, "model": None}, ["data-changed", "model-changed"]),
    ],
)
def test_only_the_same_tickets_run_is_resumed(
    kit: Kit, changes: dict[str, Any], codes: Sequence[str]
) -> None:
    job = kit.job(save_steps=1, max_steps=3)
    with pytest.raises(KeyboardInterrupt):
        trained(kit, job, report=interrupt_after(2, ctrl_c))
    inputs = kit.inputs(job)
    before = (kit.output / "run.json").read_bytes()

    with pytest.raises(Refused) as refused:
        TRAINER.train(replace(kit.ticket(job, inputs), **changes), job, inputs, resume=True)

    assert [reason.code for reason in refused.value.refusal.reasons] == codes
    assert (kit.output / "run.json").read_bytes() == before


def test_a_checkpoint_that_was_not_written_whole_is_passed_over(kit: Kit) -> None:
    job = kit.job(save_steps=1, max_steps=4)
    with pytest.raises(KeyboardInterrupt):
        trained(kit, job, report=interrupt_after(3, ctrl_c))
    (kit.output / "checkpoint-2" / "trainer_state.json").write_text('{"global_', encoding="utf-8")

    assert checkpoint.last(kit.output).path == kit.output / "checkpoint-1"


def test_there_must_be_something_to_resume(kit: Kit) -> None:
    with pytest.raises(TrainingError, match="contains no run to resume"):
        trained(kit, kit.job(), resume=True)


def test_a_run_whose_numbers_explode_is_stopped(kit: Kit) -> None:
    job = kit.job(learning_rate=1e30, max_steps=4, save_steps=1, save_strategy="no")

    with pytest.raises(TrainingError, match=r"is (nan|inf) at step 2; lower training\.learning_rate"):
        trained(kit, job)

    run = kit.run_json()
    assert run["status"] == "failed"
    assert "at step 2" in run["reason"]
    assert run["finished_at"] is not None
    assert not (kit.output / "adapter_model.safetensors").exists()
    trained(kit, kit.job())
    assert kit.run_json()["status"] == "finished"


def test_a_run_that_does_worse_than_guessing_is_stopped(kit: Kit, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(kit.model)
    model.lm_head.weight.data *= 200
    model.save_pretrained(tmp_path / "wild")
    job = kit.job()

    with pytest.raises(TrainingError, match="worse than guessing"):
        trained(kit, replace(job, model=Model(name=str(tmp_path / "wild"), tokenizer=str(kit.model))))

    assert (kit.run_json()["status"], len(kit.metrics())) == ("failed", 2)


def test_what_a_library_raises_is_one_line(kit: Kit) -> None:
    with pytest.raises(TrainingError, match=r"^training of mapper failed: \w+: .*nosuch") as failed:
        trained(kit, kit.job(lora=Lora(target_modules=("nosuch",))))

    assert len(str(failed.value).splitlines()) == 1
    assert kit.run_json()["reason"] == str(failed.value)


def test_running_out_of_memory_says_what_to_lower() -> None:
    job = Job(name="mapper", model=Model(name="model"))

    lower = r"lower per_device_train_batch_size \(8 -> 4\) and raise gradient_accumulation_steps \(1 -> 2\)"
    with pytest.raises(TrainingError, match=lower), plain_words(job):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")


def test_evaluation_without_data_is_named(kit: Kit) -> None:
    job = kit.job(eval_strategy="epoch")

    with pytest.raises(TrainingError, match=r"data\.eval is not set"):
        trained(kit, replace(job, data=replace(job.data, eval=None)))


def test_a_job_without_output_dir_is_refused(kit: Kit) -> None:
    with pytest.raises(TrainingError, match=r"training\.output_dir, the folder of the run, is not set"):
        trained(kit, kit.job(output_dir=None))


def test_the_description_says_what_will_run(kit: Kit) -> None:
    said = describe(kit.job(packing=True))

    assert "in 4-bit nf4, LoRA r 4 on all-linear, blocks of 96 tokens" in said


def test_evaluation_rows_that_changed_after_the_gate_are_refused(kit: Kit) -> None:
    job = kit.job(eval_strategy="epoch")
    ticket = kit.ticket(job, kit.inputs(job))
    path = Path(str(job.data.eval))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[1:]), encoding="utf-8")

    with pytest.raises(Refused, match=r"ids-changed.*evaluation rows"):
        TRAINER.train(ticket, job, kit.inputs(job), resume=False)

    assert not list(kit.output.glob("*.safetensors"))


@pytest.mark.parametrize(("fast", "computed"), [(True, "bfloat16"), (False, "float32")])
def test_run_json_says_what_was_computed_in_and_the_ids_do_not_change(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fast: bool, computed: str
) -> None:
    from ftcheck_trainers import arguments

    monkeypatch.setattr(arguments, "_cpu_has_bf16", lambda: fast)
    job = kit.job(max_steps=2)

    trained(kit, job)

    run = kit.run_json()
    assert (run["status"], run["computed_in"]) == ("finished", computed)
    assert run["ids"] == kit.prepared(kit.inputs(job)).digest
    assert f"training on the CPU, computed in {computed}" in capsys.readouterr().err
