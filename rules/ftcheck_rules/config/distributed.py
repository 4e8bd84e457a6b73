"""Rules for several processes: device map, FSDP, DeepSpeed, and data loading."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import (
    Change,
    Finding,
    Job,
    Machine,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.errors import FtcheckError
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.environment import Environment
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.config.fsdp_settings import fsdp_findings
from ftcheck_rules.config.precision import computes_in, loaded_in, model_arguments
from ftcheck_rules.config.stated_json import StatedJson, read

GIB = 1 << 30
SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")
"""Device maps of transformers that spread one model over all GPUs."""
AUTO = "auto"
STORAGE = "training.quantization.bnb_4bit_quant_storage"


def processes_of(job: Job, environment: Environment) -> int:
    """Training processes: one per GPU of the policy, or those that a launcher started."""
    return max(job.hardware.count, environment.world_size or 1)


@rule("distributed", family="config", cases="ftcheck_rules.config.cases.distributed")
def distributed(job: Job, environment: Environment) -> Iterator[Yield]:
    """Device map, FSDP and DeepSpeed work with several processes and agree with the training arguments.

    A model that its device map spreads over the GPUs cannot be trained by several processes. FSDP flattens
    weights of a single dtype and fails on 4-bit weights stored as bytes. A DeepSpeed file with another batch
    than the policy's stops the start, or trains with settings that nobody chose.

    The number of processes is hardware.count, or WORLD_SIZE if that is larger. The DeepSpeed keys are those
    that transformers compares with its arguments (integrations/deepspeed.py): each must be "auto" or agree.
    """
    processes = processes_of(job, environment)
    fsdp, deepspeed = bool(job.training.extra.get("fsdp")), job.training.extra.get("deepspeed")
    yield Measurement("processes", processes)
    configured = bool(job.training.extra.get("fsdp_config"))
    if processes == 1 and not fsdp and not deepspeed and not configured:
        yield Summary("one process")
        return
    used = [name for name, on in (("FSDP", fsdp), ("DeepSpeed", deepspeed)) if on] or ["DDP"]
    yield Summary(f"{counted(processes, 'process', 'processes')}, {' and '.join(used)}")
    if processes > 1:
        yield from _spread(job, processes)
    if fsdp and deepspeed:
        yield Finding(
            "fsdp and deepspeed are both set: transformers refuses to start",
            at=job.at("training.fsdp"),
            fix="remove one of them",
        )
    if fsdp:
        yield from _alone(job, processes, environment)
        yield from fsdp_findings(job)
        yield from _stored(job, "FSDP can only flatten weights of a single dtype", Severity.ERROR)
    elif job.training.extra.get("fsdp_config"):
        yield from _not_asked(job)
    if deepspeed:
        yield from _deepspeed(job, processes, environment)


def _alone(job: Job, processes: int, environment: Environment) -> Iterator[Finding]:
    """FSDP in one process, where the policy or the launcher says that there is one."""
    if processes == 1 and ("hardware.count" in job.places or environment.world_size == 1):
        yield Finding(
            "fsdp is set for one process: transformers refuses to start",
            at=job.at("training.fsdp"),
            fix="remove fsdp, or set hardware.count to the number of GPUs",
        )


def _not_asked(job: Job) -> Iterator[Finding]:
    yield Finding(
        "fsdp_config is set, but fsdp is not: it is left unread, and each process has the whole model",
        Severity.WARNING,
        at=job.at("training.fsdp_config"),
        fix="set fsdp: true, or remove fsdp_config",
    )


def _spread(job: Job, processes: int) -> Iterator[Finding]:
    stated = model_arguments(job).get("device_map")
    if stated in SPREADING:
        key = "training.model_init_kwargs"
        yield Finding(
            f"device_map {stated} spreads one model over all GPUs, but {processes} processes train one model"
            " each: accelerate refuses to train it",
            at=job.at(key),
            fix="remove device_map: each process then loads the model on its own GPU",
            change=Change(f"jobs.{job.name}.{key}.device_map", stated, None),
        )


def _stored(job: Job, why: str, severity: Severity) -> Iterator[Finding]:
    """4-bit weights must be stored in the dtype of the others."""
    chosen = job.training.quantization
    if chosen is None or not chosen.load_in_4bit:
        return
    dtype = loaded_in(job)
    wanted = dtype if dtype in ("bfloat16", "float16", "float32") else None
    storage = chosen.bnb_4bit_quant_storage or "uint8"
    if storage != "uint8" and wanted in (None, storage):
        return
    proposed = wanted or computes_in(job)
    yield Finding(
        f"bnb_4bit_quant_storage is {storage}, the other weights are {wanted or proposed}: {why}",
        severity,
        at=job.at(STORAGE),
        fix=f"set bnb_4bit_quant_storage: {proposed}",
        change=Change(f"jobs.{job.name}.{STORAGE}", chosen.bnb_4bit_quant_storage, proposed),
    )


# --- DeepSpeed ----------------------------------------------------------------------------------------


def _deepspeed(job: Job, processes: int, environment: Environment) -> Iterator[Finding]:
    found = read(job, "deepspeed", "DeepSpeed")
    if isinstance(found, Finding):
        yield found
        return
    yield from _stage(found)
    for key, ours, value in _shared(job, processes, environment):
        theirs = found.get(key)
        if theirs is None or theirs in (AUTO, value):
            continue
        yield Finding(
            f"DeepSpeed's {key} is {json.dumps(theirs)}, but {ours} is {json.dumps(value)} in the policy:"
            " transformers refuses to start",
            at=found.at(key),
            fix=f'set {key} to "auto"',
            change=found.change(key, theirs, AUTO),
        )
    if found.get("zero_optimization.stage") == 3:
        yield from _sharded(job, found)


def _stage(found: StatedJson) -> Iterator[Finding]:
    """The stage of ZeRO is one that there is. `zero_optimization: true` is an older form of stage 1."""
    key, zero = "zero_optimization", found.get("zero_optimization")
    stages = ", ".join(map(str, tables.load("fsdp_settings")["zero_stages"]))
    if zero is not None and not isinstance(zero, bool | Mapping):
        yield Finding(
            f"DeepSpeed's {key} is {json.dumps(zero)}: it must be a mapping with the key stage",
            at=found.at(key),
            fix=f"set {key}.stage to one of: {stages}",
        )
    stated = found.get(f"{key}.stage")
    if stated is not None and json.dumps(stated) not in stages.split(", "):
        yield Finding(
            f"DeepSpeed's {key}.stage is {json.dumps(stated)}, but ZeRO has the stages {stages}: it refuses"
            " to start",
            at=found.at(f"{key}.stage"),
            fix=f"set {key}.stage to one of: {stages}",
        )


def _shared(job: Job, processes: int, environment: Environment) -> Iterator[tuple[str, str, Any]]:
    """DeepSpeed's keys, our names for them, and the values that transformers will compare."""
    training, extra = job.training, job.training.extra
    batch, steps = training.per_device_train_batch_size, training.gradient_accumulation_steps
    yield "train_micro_batch_size_per_gpu", "per_device_train_batch_size", batch
    yield "gradient_accumulation_steps", "gradient_accumulation_steps", steps
    if environment.world_size is not None or job.hardware.count > 1 or "hardware.count" in job.places:
        yield "train_batch_size", f"batch x accumulation x {processes} processes", batch * steps * processes
    yield "gradient_clipping", "max_grad_norm", training.max_grad_norm
    yield "optimizer.params.lr", "learning_rate", training.learning_rate
    betas = [extra.get("adam_beta1", 0.9), extra.get("adam_beta2", 0.999)]
    yield "optimizer.params.betas", "adam_beta1, adam_beta2", betas
    yield "optimizer.params.eps", "adam_epsilon", extra.get("adam_epsilon", 1e-8)
    yield "optimizer.params.weight_decay", "weight_decay", training.weight_decay
    yield "scheduler.params.warmup_max_lr", "learning_rate", training.learning_rate
    if training.max_steps > 0:
        yield "scheduler.params.total_num_steps", "max_steps", training.max_steps
    if training.warmup_steps == 0 or training.warmup_steps >= 1:
        warmup = max(1, math.ceil(training.warmup_steps))
        yield "scheduler.params.warmup_num_steps", "warmup_steps", warmup
    computes = computes_in(job)
    half = computes == "float16" or bool(extra.get("fp16_full_eval"))
    yield "fp16.enabled", "fp16", half
    yield "bf16.enabled", "bf16", computes == "bfloat16" or bool(extra.get("bf16_full_eval"))


def _sharded(job: Job, found: StatedJson) -> Iterator[Finding]:
    """What ZeRO-3 requires: weights of one dtype, no device map, weights gathered for saving.

    transformers 5.23 (trainer.py, `save_model`) gathers an adapter whatever the file says.
    """
    yield from _stored(job, "ZeRO-3 shards weights of a single dtype", Severity.WARNING)
    if model_arguments(job).get("device_map") is not None:
        yield Finding(
            "device_map is set, but ZeRO-3 allows none: transformers refuses to load the model",
            at=job.at("training.model_init_kwargs"),
            fix="remove device_map",
            change=Change(
                f"jobs.{job.name}.training.model_init_kwargs.device_map",
                model_arguments(job)["device_map"],
                None,
            ),
        )
    key = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
    if job.training.lora is None and not found.get(key):
        yield Finding(
            "stage3_gather_16bit_weights_on_model_save is not true: ZeRO-3 saves shards instead of a model",
            Severity.WARNING,
            at=found.at("zero_optimization"),
            fix=f"set {key}: true",
            why="After the run, the weights must be assembled with zero_to_fp32.py before they can be used.",
        )


# --- feeding ------------------------------------------------------------------------------------------


@rule("data-loading", family="config", cases="ftcheck_rules.config.cases.distributed")
def data_loading(job: Job, machine: Machine, environment: Environment, inputs: Inputs) -> Iterator[Yield]:
    """The processes that tokenise and load data fit this machine, and none waits beyond the timeout.

    More processes than processors or memory allow end in a kill or a silent hang; data loader workers with
    Docker's 64 MiB of shared memory die of a bus error; where one process tokenises for longer than
    ddp_timeout, all the others give up.

    Memory: 1,000 rows per process at 44 bytes per token (datasets' batches of Python numbers). Time: 2,800
    rows per second and process. Shared memory: 1 GiB. All three are in ftcheck/tables/loading.json, dated.
    """
    extra, table = job.training.extra, tables.load("loading")
    mapping, workers = extra.get("dataset_num_proc"), extra.get("dataloader_num_workers", 0)
    processes = processes_of(job, environment)
    looked = []
    yield Measurement("processes", processes)
    if isinstance(mapping, int) and mapping > 1:
        looked.append(f"{counted(mapping, 'process', 'processes')} tokenise")
        yield Measurement("dataset_num_proc", mapping, limit=f"<= {machine.cpus}")
        yield from _mapping(job, mapping, machine, inputs, table)
    if isinstance(workers, int) and workers > 0 and environment.shm is not None:
        looked.append(f"{counted(workers, 'worker')} {agreeing(workers, 'loads', 'load')} data")
        size, limit = round(environment.shm / GIB, 2), f">= {table['shm_gib']:g}"
        yield Measurement("shm_gib", size, unit="GiB", limit=limit, volatile=True)
        yield from _sharing(job, workers, environment.shm, table)
    prepared = _prepared(inputs) if processes > 1 else None
    if prepared is not None:
        seconds = prepared.rows.total / table["rows_per_second"] / max(1, mapping or 1)
        timeout = extra.get("ddp_timeout", 1800)
        looked.append(f"{seconds:.0f} s to tokenise")
        yield Measurement("tokenising_seconds", round(seconds, 1), unit="s", limit=f"<= {timeout:g}")
        yield from _waiting(job, prepared, seconds, timeout)
    many = processes > 1 or _more_than(mapping, 1) or _more_than(workers, 0)
    if many and not looked:
        yield Skip("the rows cannot be read, or there is no /dev/shm: the processes cannot be checked")
        return
    yield Summary(", ".join(looked) or "one process tokenises and loads data")


def _more_than(value: Any, least: int) -> bool:
    return isinstance(value, int) and value > least


def _prepared(inputs: Inputs) -> Prepared | None:
    try:
        found: Prepared = inputs.get("prepared")
    except FtcheckError:
        return None
    return found


def _mapping(
    job: Job, mapping: int, machine: Machine, inputs: Inputs, table: Mapping[str, Any]
) -> Iterator[Finding]:
    key = "training.dataset_num_proc"
    prepared = _prepared(inputs)
    tokens = float(prepared.length.mean()) if prepared is not None and len(prepared.length) else 0.0
    each = table["batch_rows"] * tokens * table["bytes_per_token"]
    fits = int(machine.memory // each) if each else mapping
    most = max(1, min(machine.cpus, fits))
    if mapping <= most:
        return
    too_many = mapping > machine.cpus
    reason = f"but this machine has {counted(machine.cpus, 'processor')}"
    why = "Processes that compete for processors tokenise more slowly."
    if not too_many:
        reason = (
            f"each needs about {each / GIB:.1f} GiB for its rows, and this machine has"
            f" {machine.memory / GIB:.0f} GiB"
        )
        why = "The system kills a process that exceeds the memory, and the run hangs or ends."
    yield Finding(
        f"dataset_num_proc is {mapping}, {reason}",
        Severity.WARNING,
        at=job.at(key),
        fix=f"set dataset_num_proc: {most}",
        change=Change(f"jobs.{job.name}.{key}", mapping, most),
        why=why,
    )


def _sharing(job: Job, workers: int, shm: int, table: Mapping[str, Any]) -> Iterator[Finding]:
    if shm < table["shm_gib"] * GIB:
        key = "training.dataloader_num_workers"
        yield Finding(
            f"{counted(workers, 'data loader worker')} {agreeing(workers, 'passes', 'pass')} batches through"
            f" /dev/shm, which has {shm / (1 << 20):.0f} MiB; {table['shm_gib']:g} GiB is usual"
            f" (as of {table['as_of']})",
            Severity.WARNING,
            at=job.at(key),
            fix="run the container with --ipc=host or --shm-size=8g, or set dataloader_num_workers: 0",
            change=Change(f"jobs.{job.name}.{key}", workers, 0),
            why="When /dev/shm is full, the workers die of a bus error.",
        )


def _waiting(job: Job, prepared: Prepared, seconds: float, timeout: float) -> Iterator[Finding]:
    if seconds > timeout:
        key, longer = "training.ddp_timeout", math.ceil(4 * seconds / 60) * 60
        yield Finding(
            f"tokenising {counted(len(prepared.rows), 'row')} takes about {seconds:,.0f} s, but the other"
            f" processes wait only {timeout:,.0f} s (ddp_timeout)",
            Severity.WARNING,
            at=job.at(key),
            fix=f"tokenise before the launch, raise dataset_num_proc, or set ddp_timeout: {longer}",
            change=Change(f"jobs.{job.name}.{key}", job.training.extra.get("ddp_timeout"), longer),
            why="All processes give up with a collective timeout before the first step.",
        )
