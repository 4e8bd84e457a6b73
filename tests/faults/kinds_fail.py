"""Jobs that are green and will fail (issue 13, section B): planted for the bench."""

import json
from collections.abc import Callable
from typing import Any

from ftcheck.inputs.packed_batch import TINY_MODEL, PackedBatch
from tests.faults.bench import GIB, JOB, Bench
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two tokenizers: each kind is planted in both."""


def fault(id: str, rule: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(Fault(f"{id}-{base}", "fail", rule, where, plant, base, severity) for base in BASES)
        return plant

    return listed


@fault("hybrid-packing-refused", "packing-isolation", "training.packing")
def _(bench: Bench) -> None:
    """The base has linear attention, whose code refuses packed rows without a kernel library."""
    bench.opened["packed_batch"] = PackedBatch("refused", TINY_MODEL, "ValueError: install causal_conv1d")


@fault("hybrid-packing-leaks", "packing-isolation", "training.packing")
def _(bench: Bench) -> None:
    """The base has state-space layers that ignore the boundaries of packed rows."""
    bench.opened["packed_batch"] = PackedBatch("leaks", TINY_MODEL, difference=0.01)


@fault("mxfp4-base-under-bitsandbytes", "base-model", "training.quantization.load_in_4bit")
def _(bench: Bench) -> None:
    """The base is published in MXFP4, and is loaded in 4-bit by bitsandbytes."""
    bench.config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}


@fault("lora-on-untrainable-quantization", "base-model", "model.name")
def _(bench: Bench) -> None:
    """The base is published in NVFP4, which transformers cannot train."""
    bench.config["quantization_config"] = {"quant_method": "nvfp4"}
    bench.drop("training.quantization")


@fault("adapter-in-base-folder", "base-model", "model.name")
def _(bench: Bench) -> None:
    """The base's folder holds an adapter, which transformers loads onto the base."""
    bench.file("model/adapter_config.json", json.dumps({"peft_type": "LORA", "r": 8}))


@fault("experts-stay-16-bit", "memory-fit", "model.name")
def _(bench: Bench) -> None:
    """The base's fused experts are not quantised by bitsandbytes, and do not fit the GPU."""
    bench.config |= {"model_type": "qwen3_moe", "num_experts": 128, "moe_intermediate_size": 768}
    bench.config |= {"hidden_size": 2048, "num_hidden_layers": 48, "architectures": ["Qwen3MoeForCausalLM"]}
    bench.opened["modules"] = None
    bench.set("hardware", {"gpu": "RTX 4090", "count": 1})


@fault("scheduler-without-argument", "schedule", "training.lr_scheduler_type")
def _(bench: Bench) -> None:
    """The schedule needs the lowest learning rate, which is not stated."""
    bench.set("training.lr_scheduler_type", "cosine_with_min_lr")


@fault("metric-that-nothing-computes", "training-arguments", "training.metric_for_best_model")
def _(bench: Bench) -> None:
    """The best checkpoint is chosen by an accuracy that no code computes."""
    bench.set("training.eval_strategy", "epoch")
    bench.set("training.metric_for_best_model", "accuracy")


@fault("bf16-on-named-t4", "precision", "training.bf16")
def _(bench: Bench) -> None:
    """The job computes in bfloat16, and will run on a T4."""
    bench.set("hardware", {"gpu": "T4", "count": 1})


@fault("every-step-is-a-checkpoint", "schedule", "training.save_total_limit")
def _(bench: Bench) -> None:
    """Every step is saved, none is deleted, and the disk is small."""
    from types import SimpleNamespace

    bench.set("training.save_steps", 1)
    bench.drop("training.save_total_limit")
    bench.policy["checks"] = {"disk-space": {"params": {"min_free_gib": 0.0}}}
    bench.patch("shutil.disk_usage", lambda path: SimpleNamespace(total=GIB, used=0, free=8 << 20))


@fault("metrics-on-whole-logits", "logits-memory", "training.per_device_eval_batch_size")
def _(bench: Bench) -> None:
    """Evaluations compute metrics on the logits of a large batch."""
    bench.set("training.eval_strategy", "epoch")
    bench.set("training.packing", False)
    bench.set("training.per_device_eval_batch_size", 64)
    bench.set("evaluation", {"compute_metrics": True})
    bench.set("hardware", {"memory_gib": 0.02, "count": 1})


def _checkpoint(bench: Bench, **state: Any) -> None:
    adapter = {"r": 16, "lora_alpha": 32, "base_model_name_or_path": str(bench.model)}
    bench.file("out/checkpoint-30/adapter_config.json", json.dumps(adapter))
    bench.file("out/checkpoint-30/trainer_state.json", json.dumps({"global_step": 30, **state}))
    bench.file("out/checkpoint-30/optimizer.pt", b"")


@fault("resume-at-the-end", "resume", "training.output_dir")
def _(bench: Bench) -> None:
    """The checkpoint in the run folder is at the last step: a resumed run trains nothing."""
    _checkpoint(bench, max_steps=30, num_train_epochs=2)


def _interrupted(bench: Bench) -> None:
    """run.json of a run of the same job section, on rows with other ids."""
    from ftcheck.digest import of_json
    from ftcheck.runner.load import load

    digest = of_json(load(bench.path).policy.jobs[JOB].canonical)
    values = {"status": "running", "ids": "sha256:" + "1" * 64, "ticket": {"job_digest": digest}}
    bench.file("out/run.json", json.dumps(values))


@fault("resume-of-other-data", "schedule", "training.output_dir")
def _(bench: Bench) -> None:
    """The checkpoint of an interrupted run of this job was made from other rows."""
    _checkpoint(bench, max_steps=9_000, num_train_epochs=2)
    bench.then(_interrupted)
