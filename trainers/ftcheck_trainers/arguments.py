"""Turns a job into arguments for the installed SFTConfig, LoraConfig and BitsAndBytesConfig.

What those classes take is read from the classes, never from a list: a key that the installed version
does not know stops the run and is named, instead of being dropped on the way.
"""

import difflib
import inspect
import platform
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from importlib import metadata
from typing import Any

from ftcheck.errors import Problem, TrainingError
from ftcheck.field_metadata import Mark, marked
from ftcheck.policy.extra_keys import fields as settings_of
from ftcheck.policy.extra_keys import section_of
from ftcheck.settings import Job, Lora, Quantization, Training
from ftcheck.training.reserved_arguments import RESERVED, RESERVED_FOR_MODEL
from ftcheck_trainers.arguments_table import REMOVED


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides about precision and device: is there CUDA, how many processes.

    `bf16` says whether the GPU computes in bfloat16, or, where no GPU trains, whether the CPU has
    instructions for it: without them float32 is faster (on AVX2, 882 against 324 tokens per second).
    """

    cuda: bool
    bf16: bool
    processes: int = 1


def this_machine(processes: int) -> Machine:
    """The machine this process runs on."""
    import torch

    cuda = torch.cuda.is_available()
    bf16 = torch.cuda.is_bf16_supported(False) if cuda else _cpu_has_bf16()
    return Machine(cuda=cuda, bf16=bf16, processes=processes)


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware: AVX512-BF16, AMX, or an ARM that does."""
    import torch

    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def computed_in(job: Job, machine: Machine) -> str:
    """What the job computes in: as the policy states, else bfloat16; float32 on a CPU that is slow in it.

    Raises `TrainingError` for a GPU that has no bfloat16, where the policy does not state fp16.
    """
    training = job.training
    if training.fp16:
        return "float16"
    if training.bf16 is not None:
        return "bfloat16" if training.bf16 else "float32"
    if machine.bf16:
        return "bfloat16"
    if not machine.cuda:
        return "float32"
    message = "this GPU does not compute in bfloat16; set training.fp16: true"
    raise TrainingError(message, [_problem(job, "training.bf16", message)])


def sft_arguments(job: Job, machine: Machine, *, steps: int, offline: bool = False) -> dict[str, Any]:
    """Keyword arguments for `trl.SFTConfig`; `steps` is how many optimizer steps are planned."""
    from trl import SFTConfig

    known = known_arguments(SFTConfig)
    extra = dict(job.training.extra)
    _refuse_taken(job, "training", extra, RESERVED)
    given = {
        **_stated(job.training, known),
        **_checkpointing(job.training, known),
        "bf16": computed_in(job, machine) == "bfloat16",
        "use_cpu": not machine.cuda,
        "logging_steps": _logging_steps(job, steps),
        "logging_first_step": True,
        "disable_tqdm": True,
        **_simple(extra),
        "max_length": job.training.max_length if job.training.packing else None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "logging_nan_inf_filter": False,
        "trust_remote_code": job.model.trust_remote_code,
        "model_init_kwargs": _model_arguments(job, machine, offline=offline),
    }
    _refuse_unknown(job, "training", given, known, "trl.SFTConfig", ("trl", "transformers"))
    return given


def lora_arguments(job: Job) -> dict[str, Any] | None:
    """Keyword arguments for `peft.LoraConfig`; None where the job trains the whole model."""
    from peft import LoraConfig

    lora = job.training.lora
    if lora is None:
        return None
    known = known_arguments(LoraConfig)
    given = {"task_type": "CAUSAL_LM", **_stated(lora, known), **_simple(lora.extra)}
    _refuse_unknown(job, "training.lora", given, known, "peft.LoraConfig", ("peft",))
    return given


def quantization_arguments(job: Job, machine: Machine) -> dict[str, Any] | None:
    """Keyword arguments for `transformers.BitsAndBytesConfig`; None where the base stays as it is.

    On a CPU that computes in float32, 4-bit layers do so too: bnb_4bit_compute_dtype is for GPUs. The class
    takes unknown keys and only logs them, so they are sought here.
    """
    from transformers import BitsAndBytesConfig

    chosen = job.training.quantization
    if chosen is None or not (chosen.load_in_4bit or chosen.load_in_8bit):
        return None
    known = known_arguments(BitsAndBytesConfig)
    given = {**_stated(chosen, known), **_simple(chosen.extra)}
    if not machine.cuda and "bnb_4bit_compute_dtype" in given and computed_in(job, machine) == "float32":
        given["bnb_4bit_compute_dtype"] = "float32"
    what = "transformers.BitsAndBytesConfig"
    _refuse_unknown(job, "training.quantization", given, known, what, ("transformers",))
    return given


def known_arguments(config: type[Any]) -> frozenset[str]:
    """The keyword arguments that a class takes by name."""
    parameters = inspect.signature(config).parameters.values()
    return frozenset(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))


def _stated(settings: Training | Lora | Quantization, known: frozenset[str]) -> dict[str, Any]:
    """The section's values; a default is left to a class that has dropped the key."""
    values: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        unset = value is None or (one.name not in known and value == _default(one))
        if one.name in _arguments(type(settings)) and not unset:
            values[one.name] = value
    return {name: _plain(value) for name, value in values.items()}


def _arguments(owner: type[Any]) -> frozenset[str]:
    """The settings of a section that are passed on as they stand: they are no sections of their own, and the
    library knows them, by this name, and shall do what they say.
    """
    own = {name for name, kind in settings_of(owner).items() if section_of(kind) is None}
    return frozenset(own).difference(*(marked(owner, one) for one in (Mark.PREPARED, Mark.OWN, Mark.RENAMED)))


def _default(one: "Field[Any]") -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _simple(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in extra.items()}


def _plain(value: Any) -> Any:
    """Tuples as lists, mappings as dicts: what the libraries check for."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _checkpointing(training: Training, known: frozenset[str]) -> dict[str, Any]:
    """transformers 5.2x renamed the pair to activation_checkpointing, with a warning for the old names."""
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    stated = training.extra.get("gradient_checkpointing_kwargs") or {}
    kwargs = {"use_reentrant": False, **_plain(stated)}
    return {name: training.gradient_checkpointing, f"{name}_kwargs": kwargs}


def _logging_steps(job: Job, steps: int) -> float:
    """What the policy states; else often enough that a short run has a curve."""
    stated = job.training.logging_steps
    if "training.logging_steps" in job.places or stated < 1:
        return stated
    return max(1, min(stated, steps // 20))


def _model_arguments(job: Job, machine: Machine, *, offline: bool) -> dict[str, Any]:
    stated = _plain(job.training.extra.get("model_init_kwargs") or {})
    _refuse_taken(job, "training.model_init_kwargs", stated, RESERVED_FOR_MODEL)
    # Stated, because TRL's own default would be float32: twice the memory.
    given: dict[str, Any] = {"dtype": computed_in(job, machine)}
    if job.model.revision is not None:
        given["revision"] = job.model.revision
    if machine.cuda and machine.processes == 1:
        given["device_map"] = {"": 0}
    if offline:
        given["local_files_only"] = True
    return {**given, **stated}


def _refuse_taken(job: Job, section: str, given: Iterable[str], taken: Mapping[str, str]) -> None:
    problems = [
        _problem(job, f"{section}.{key}", f"the trainer sets '{key}' itself: {taken[key]}")
        for key in given
        if key in taken
    ]
    if problems:
        raise TrainingError(problems[0].message, problems)


def _refuse_unknown(
    job: Job,
    section: str,
    given: Iterable[str],
    known: frozenset[str],
    config: str,
    packages: tuple[str, ...],
) -> None:
    installed = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    problems = [
        _problem(
            job,
            f"{section}.{key}",
            f"{config} ({installed}) has no argument '{key}'{_hint(section, key, known)}",
        )
        for key in given
        if key not in known
    ]
    if problems:
        raise TrainingError(problems[0].message, problems)


def _hint(section: str, key: str, known: frozenset[str]) -> str:
    remedy = REMOVED.get(section, {}).get(key)
    if remedy is not None:
        return f"; {remedy}"
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _problem(job: Job, key: str, message: str) -> Problem:
    place = job.at(key)
    return Problem(message, place.path, place.line, place.column, place.yaml_path)
