"""Real steps of a job's largest batch, on this machine: what they take of time and GPU memory."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, UsageError
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.planning.probe import STEPS
from ftcheck.settings import Job
from ftcheck_trainers import dataset
from ftcheck_trainers.failure_messages import plain_words
from ftcheck_trainers.metrics import Metrics
from ftcheck_trainers.quiet_libraries import quiet_libraries
from ftcheck_trainers.run_folder import GIB
from ftcheck_trainers.sft_build import build_trainer, need_libraries


def probe(job: Job, inputs: Inputs) -> Probe:
    """Train `STEPS` steps of the batch with the most tokens; nothing is written where the job writes.

    Raises `UsageError` if the job is meant for a GPU that is not here, `TrainingError` if a step fails (out
    of memory, for one).
    """
    need_libraries(job)
    device = _device(job)
    run: Run = inputs.get("run")
    prepared: Prepared = inputs.get("prepared")
    if not len(prepared.sequences):
        raise InputError(f"job {job.name} has no rows to train on")
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=run.folder, ignore_cleanup_errors=True) as work:
        folder = Path(work)
        rows = dataset.fed_rows(prepared, job.training, folder)
        blocks = dataset.arranged(rows, job.training, folder, pack=job.training.packing)
        lengths = [len(one) for one in blocks["input_ids"]]
        batch = _largest(lengths, job.training.per_device_train_batch_size)
        trying = _only_steps(job, folder / "out")
        with plain_words(job), quiet_libraries():
            fed = blocks.select([place for _ in range(STEPS) for place in batch])
            seconds, peak = _train(trying, run, inputs.get("tokenizer").original, fed, folder)
    tokens = sum(lengths[place] for place in batch) * (STEPS - 1)
    longest = max(lengths[place] for place in batch)
    return Probe(device, STEPS, tokens / seconds, peak, len(batch), longest)


def _device(job: Job) -> str:
    """The device's name. A probe on another GPU than the job's would say nothing about it."""
    import torch

    from ftcheck.estimate.gpus import same_gpu

    here = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    wanted = job.hardware.gpu
    if wanted is not None and (here is None or not same_gpu(wanted, here)):
        found = f"has a {here}" if here is not None else "has no NVIDIA GPU"
        raise UsageError(f"--probe: job {job.name} is planned for {wanted}, and this machine {found}")
    return here or "CPU"


def _largest(lengths: list[int], size: int) -> list[int]:
    """The places of the longest rows or blocks, as many as a batch has."""
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [by_length[n % len(by_length)] for n in range(size)]


def _only_steps(job: Job, folder: Path) -> Job:
    """The job with a few steps of one batch each, and nothing evaluated, saved or told."""
    changes: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "gradient_accumulation_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
    }
    return replace(job, training=replace(job.training, **changes))


def _train(job: Job, run: Run, tokenizer: Any, blocks: Any, folder: Path) -> tuple[float, float | None]:
    """Seconds of all steps but the first, and the peak of GPU memory in GiB."""
    import torch
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Notes when each step is done, on the device too."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer = build_trainer(job, run, tokenizer, blocks, None, STEPS, Metrics(folder))
    trainer.add_callback(Clock())
    trainer.train()
    peak = peak_memory(torch.cuda) / GIB if torch.cuda.is_available() else None
    return ends[-1] - ends[0], peak


def peak_memory(cuda: Any) -> int:
    """Bytes of the GPU at the peak: what torch reserved, and what lies outside of it (`cuda`: torch.cuda).

    Outside is the CUDA context, which the memory model counts too, and whatever other programs hold now.
    """
    free, total = cuda.mem_get_info()
    outside = total - free - cuda.memory_reserved()
    return int(cuda.max_memory_reserved() + max(0, outside))
