"""TRL's SFTTrainer with the base model loaded and the adapter attached."""

import importlib.util
from typing import Any

from ftcheck import ranks
from ftcheck.errors import MissingDependency, TrainingError
from ftcheck.inputs.container import Run
from ftcheck.settings import Job
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.sft_trainer import watched_trainer

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def need_libraries(job: Job) -> None:
    """Raise `MissingDependency` where a library is not installed that this job needs."""
    quantized = job.training.quantization is not None
    wanted = (*LIBRARIES, "bitsandbytes") if quantized else LIBRARIES
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"the trainer qlora needs {', '.join(missing)}", "train")
    if job.training.extra.get("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise MissingDependency("training.deepspeed needs deepspeed", "deepspeed")


def build_trainer(
    job: Job,
    run: Run,
    tokenizer: Any,
    blocks: Any,
    eval_blocks: Any,
    steps: int,
    metrics: metrics_file.Metrics,
) -> Any:
    """TRL's SFTTrainer with the base model loaded and the adapter attached.

    Packed blocks carry `seq_lengths`; with `packing` (or `padding_free`) TRL's collator makes of them
    positions that start anew at each document and no attention mask, so that documents stay apart.
    """
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PrinterCallback
    from trl import SFTConfig

    from ftcheck_trainers import arguments, sharded_models

    machine = arguments.this_machine(ranks.count())
    sharded_models.refuse_on_cpu(job, machine)
    config = SFTConfig(**arguments.sft_arguments(job, machine, steps=steps, offline=run.offline))
    _refuse_data_parallel(config, job)
    lora, quantization = arguments.lora_arguments(job), arguments.quantization_arguments(job, machine)
    loaded_in = None if quantization is None else BitsAndBytesConfig(**quantization)
    resized = resized_base(job, config, loaded_in)
    trainer = watched_trainer(job, metrics)(
        model=job.model.name if resized is None else resized,
        args=config,
        train_dataset=blocks,
        eval_dataset=eval_blocks,
        processing_class=tokenizer,
        peft_config=None if lora is None else LoraConfig(**lora),
        quantization_config=None if resized is not None else loaded_in,
    )
    sharded_models.refuse_ignored(trainer, job)
    trainer.remove_callback(PrinterCallback)
    keep_trainable_on_cpu(trainer.model)
    return trainer


def resized_base(job: Job, config: Any, loaded_in: Any) -> Any | None:
    """The base with as many embedding rows as `model.resize_embeddings_to` says; None where it is not set.

    TRL loads a base by its name and resizes none, so it is loaded here, as TRL would. The values of new
    rows come from the job's seed.
    """
    if job.model.resize_embeddings_to is None:
        return None
    from transformers import set_seed
    from trl.trainer.utils import create_model_from_path

    arguments = {**config.model_init_kwargs, "trust_remote_code": config.trust_remote_code}
    if loaded_in is not None:
        arguments["quantization_config"] = loaded_in
    if ranks.count() > 1:
        arguments["device_map"] = None
    set_seed(config.seed)
    model = create_model_from_path(job.model.name, **arguments)
    model.resize_token_embeddings(job.model.resize_embeddings_to)
    config.model_init_kwargs = None
    return model


def _refuse_data_parallel(config: Any, job: Job) -> None:
    if config.n_gpu > 1 and "device_map" not in (job.training.extra.get("model_init_kwargs") or {}):
        remedy = "make one visible with CUDA_VISIBLE_DEVICES=0, or start ftcheck with 'accelerate launch'"
        raise TrainingError(f"one process sees {config.n_gpu} GPUs; {remedy}")


def keep_trainable_on_cpu(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation.

    On CPUs with AVX512-BF16, version 0.50 repacks them in the first forward in eval mode, and the way
    back through repacked weights is not implemented: from then on the gradient stops at each base
    layer. Training goes on with a warning, with gradients that are off by up to 100 %.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
