"""What the installed SFTConfig, LoraConfig and BitsAndBytesConfig are given."""

from importlib import metadata
from typing import Any

import pytest

from ftcheck.errors import TrainingError
from ftcheck.records import Location
from ftcheck.settings import Job, Lora, Model, Quantization, Training

pytest.importorskip("trl")

from ftcheck_trainers import arguments
from ftcheck_trainers.arguments import (
    Machine,
    computed_in,
    lora_arguments,
    quantization_arguments,
    sft_arguments,
)

CPU = Machine(cuda=False, bf16=True)
GPU = Machine(cuda=True, bf16=True)
OLD_GPU = Machine(cuda=True, bf16=False)
OLD_CPU = Machine(cuda=False, bf16=False)
"""AVX2 alone."""


def job(places: dict[str, Location] | None = None, trust: bool = False, **training: Any) -> Job:
    return Job(
        name="mapper",
        model=Model(name="base", revision="main", trust_remote_code=trust),
        training=Training(**{"output_dir": "run"} | training),
        places=places or {},
    )


def built(one: Job, machine: Machine = CPU) -> Any:
    import warnings

    from trl import SFTConfig

    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        return SFTConfig(**sft_arguments(one, machine, steps=100))


def test_the_installed_class_takes_them_without_a_warning() -> None:
    config = built(job(report_to=("tensorboard",), seed=7, optim="adamw_torch", weight_decay=0.1))

    assert config.logging_nan_inf_filter is False
    assert config.dataset_kwargs == {"skip_prepare_dataset": True}
    assert (config.report_to, config.seed, config.optim) == (["tensorboard"], 7, "adamw_torch")
    assert (config.use_cpu, config.bf16, config.fp16) == (True, True, False)
    assert config.trust_remote_code is False
    assert config.model_init_kwargs == {"dtype": "bfloat16", "revision": "main"}
    assert config.gradient_checkpointing is True
    assert config.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert config.disable_tqdm is True


def test_checkpointing_stays_off_where_the_job_says_so() -> None:
    assert built(job(gradient_checkpointing=False)).gradient_checkpointing is False


def test_rows_that_are_cut_already_are_not_cut_again() -> None:
    prepared: dict[str, Any] = {
        "truncation_mode": "keep_end",
        "assistant_only_loss": True,
        "completion_only_loss": True,
    }

    config = built(job(max_length=64, padding_free=True, **prepared))

    assert (config.max_length, config.padding_free) == (None, True)
    assert (config.assistant_only_loss, config.truncation_mode) == (False, "keep_start")


def test_a_block_keeps_its_length() -> None:
    config = built(job(max_length=64, packing=True, packing_strategy="bfd_split"))

    assert (config.packing, config.packing_strategy, config.max_length) == (True, "bfd_split", 64)


def test_other_keys_of_the_installed_class_go_through() -> None:
    config = built(job(extra={"neftune_noise_alpha": 5.0, "adam_beta2": 0.95, "logging_first_step": False}))

    assert (config.neftune_noise_alpha, config.adam_beta2, config.logging_first_step) == (5.0, 0.95, False)


def test_an_unknown_key_is_named_with_its_place_and_the_version() -> None:
    places = {"training.evaluation_strategy": Location(path="night.yaml", line=31, column=7)}
    one = job(places=places, extra={"evaluation_strategy": "epoch", "lerning_rate": 1.0})

    with pytest.raises(TrainingError) as failed:
        sft_arguments(one, CPU, steps=10)

    first, second = failed.value.problems
    version = metadata.version("trl")
    assert str(first).startswith(
        "night.yaml:31:7: jobs.mapper.training.evaluation_strategy: trl.SFTConfig (trl "
    )
    assert f"(trl {version}, " in first.message
    assert first.message.endswith("has no argument 'evaluation_strategy'; write 'eval_strategy'")
    assert second.message.endswith("has no argument 'lerning_rate'; did you mean 'learning_rate'?")


@pytest.mark.parametrize(
    "key", ["logging_nan_inf_filter", "dataset_kwargs", "trust_remote_code", "hub_token"]
)
def test_what_the_trainer_sets_itself_cannot_be_set(key: str) -> None:
    with pytest.raises(TrainingError, match=rf"training\.{key}: the trainer sets '{key}' itself"):
        sft_arguments(job(extra={key: True}), CPU, steps=10)


def test_trust_comes_from_the_model_section_alone() -> None:
    assert built(job(trust=True)).trust_remote_code is True
    with pytest.raises(TrainingError, match=r"write 'model\.trust_remote_code'"):
        sft_arguments(job(extra={"model_init_kwargs": {"trust_remote_code": True}}), CPU, steps=10)


@pytest.mark.parametrize(
    ("training", "dtype", "bf16"),
    [
        ({}, "bfloat16", True),
        ({"bf16": True}, "bfloat16", True),
        ({"bf16": False}, "float32", False),
        ({"fp16": True}, "float16", False),
        ({"extra": {"model_init_kwargs": {"dtype": "float32"}}}, "float32", True),
    ],
)
def test_precision_is_always_stated(training: dict[str, Any], dtype: str, bf16: bool) -> None:
    given = sft_arguments(job(**training), GPU, steps=10)

    assert (given["model_init_kwargs"]["dtype"], given["bf16"]) == (dtype, bf16)


@pytest.mark.parametrize(
    ("training", "computed"),
    [
        ({}, "float32"),
        ({"bf16": True}, "bfloat16"),
        ({"bf16": False}, "float32"),
        ({"fp16": True}, "float16"),
    ],
)
def test_a_cpu_without_bfloat16_instructions_computes_in_float32_unless_the_policy_insists(
    training: dict[str, Any], computed: str
) -> None:
    nf4 = Quantization(load_in_4bit=True, bnb_4bit_compute_dtype="bfloat16")
    one = job(quantization=nf4, **training)

    given = sft_arguments(one, OLD_CPU, steps=10)

    assert (computed_in(one, OLD_CPU), given["model_init_kwargs"]["dtype"]) == (computed, computed)
    assert given["bf16"] is (computed == "bfloat16")
    in_4bit = (quantization_arguments(one, OLD_CPU) or {})["bnb_4bit_compute_dtype"]
    assert in_4bit == ("float32" if computed == "float32" else "bfloat16")


def test_a_cpu_with_bfloat16_instructions_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert arguments.this_machine(1).bf16 is has


def test_a_gpu_without_bfloat16_is_named() -> None:
    with pytest.raises(TrainingError, match=r"does not compute in bfloat16; set training\.fp16: true"):
        sft_arguments(job(), OLD_GPU, steps=10)
    assert sft_arguments(job(fp16=True), OLD_GPU, steps=10)["bf16"] is False


def test_one_process_puts_the_model_on_one_gpu_and_several_leave_it_to_accelerate() -> None:
    alone = sft_arguments(job(), GPU, steps=10)
    several = sft_arguments(job(), Machine(cuda=True, bf16=True, processes=2), steps=10)

    assert alone["use_cpu"] is False
    assert alone["model_init_kwargs"]["device_map"] == {"": 0}
    assert "device_map" not in several["model_init_kwargs"]


def test_a_short_run_is_logged_often_enough_unless_the_policy_says_how_often() -> None:
    stated = {"training.logging_steps": Location(path="night.yaml", line=9)}

    assert sft_arguments(job(), CPU, steps=60)["logging_steps"] == 3
    assert sft_arguments(job(), CPU, steps=10)["logging_steps"] == 1
    assert sft_arguments(job(), CPU, steps=9000)["logging_steps"] == 10
    assert sft_arguments(job(places=stated), CPU, steps=60)["logging_steps"] == 10
    assert sft_arguments(job(logging_steps=0.05), CPU, steps=60)["logging_steps"] == 0.05


def test_lora_takes_what_peft_takes() -> None:
    from peft import LoraConfig

    lora = Lora(r=4, target_modules=("q_proj", "v_proj"), extra={"init_lora_weights": "gaussian"})

    config = LoraConfig(**lora_arguments(job(lora=lora)) or {})

    assert (config.r, config.target_modules, config.task_type) == (4, {"q_proj", "v_proj"}, "CAUSAL_LM")
    assert config.init_lora_weights == "gaussian"
    assert lora_arguments(job()) is None


def test_an_unknown_lora_key_is_named() -> None:
    message = (
        rf"training\.lora\.lora_alfa: peft\.LoraConfig \(peft {metadata.version('peft')}\).*'lora_alpha'"
    )
    with pytest.raises(TrainingError, match=message):
        lora_arguments(job(lora=Lora(extra={"lora_alfa": 8})))


def test_quantization_takes_what_transformers_takes_and_names_the_rest() -> None:
    import torch
    from transformers import BitsAndBytesConfig

    nf4 = Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    config = BitsAndBytesConfig(**quantization_arguments(job(quantization=nf4), CPU) or {})

    assert (config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert quantization_arguments(job(quantization=Quantization()), CPU) is None
    with pytest.raises(TrainingError, match=r"training\.quantization\.bnb_4bit_quant: .*'bnb_4bit_quant_"):
        quantization_arguments(
            job(quantization=Quantization(load_in_4bit=True, extra={"bnb_4bit_quant": 1})), CPU
        )
