"""What ended a run, in words: the reason, and what to change, with the numbers of this job."""

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ftcheck import ranks
from ftcheck.errors import FtcheckError, TrainingError
from ftcheck.report.redact import redact
from ftcheck.settings import Job, Training
from ftcheck_trainers import checkpoint

GIB = 1 << 30
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = re.compile(
    r"no space left|os error (28|122|27)\b|storagefull|quota exceeded|file too large"
    r"|PytorchStreamWriter failed writing|inline_container\.cc|iostream error",
    re.IGNORECASE,
)
"""What safetensors (Rust) and torch (C++) raise instead of an `OSError` where a file cannot grow."""
PARTED = re.compile(r"closed by peer|connection reset|broken pipe|remote process exited", re.IGNORECASE)
"""What gloo and NCCL say when a process on the other side has ended."""

NAMES = {"the loss": "loss", "the gradient": "grad_norm"}
"""What a number is called in words, and its name in metrics.jsonl."""
MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


class Stopped(TrainingError):
    """The run was stopped; run.json keeps `reason` and `remedy` apart."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        """`reason` is what happened, `remedy` what to change."""
        super().__init__("; ".join(part for part in (reason, remedy) if part))
        self.reason, self.remedy = reason, remedy


class NotFinite(Stopped):
    """A loss or a gradient that is no number; `line` is it as metrics.jsonl tells it."""

    def __init__(self, reason: str, remedy: str, line: Mapping[str, float]) -> None:
        """`line` holds the step in which it was computed, and the number under its name."""
        super().__init__(reason, remedy)
        self.line = line


@contextlib.contextmanager
def plain_words(job: Job) -> Iterator[None]:
    """Whatever a library raises becomes one line that says what to do."""
    try:
        yield
    except FtcheckError:
        raise
    except Exception as error:
        raise (ranks.ended_elsewhere(seconds=5.0) or stopped(error, job)) from error


def stopped(error: Exception, job: Job, *, doing: str = "training") -> Stopped:
    """The reason and the remedy for what a library raised while `doing` something."""
    if is_memory(error):
        return Stopped(f"out of memory while {doing} ({one_line(error)})", _less_memory(job.training))
    if is_full(error):
        return Stopped(f"no space left while {doing} ({one_line(error)})", _more_space(job))
    if ranks.count() > 1 and PARTED.search(str(error)):
        return Stopped(
            f"another process of this training has ended ({one_line(error)})", "see its own output"
        )
    return Stopped(f"{doing} of {job.name} failed: {type(error).__name__}: {one_line(error)}")


def not_saved(error: Exception, job: Job, what: str) -> FtcheckError:
    """A checkpoint or the adapter could not be written; what was there before still is."""
    elsewhere = error if isinstance(error, FtcheckError) else ranks.ended_elsewhere()
    if elsewhere is not None:
        return elsewhere
    found = stopped(error, job, doing=f"saving {what}")
    earlier = checkpoint.last(Path(job.training.output_dir or ".")).path
    then = f"then resume with --resume from {earlier.name}" if earlier is not None else "then train again"
    return Stopped(found.reason, "; ".join(part for part in (found.remedy, then) if part))


def one_line(error: BaseException) -> str:
    """What an exception says, on one line, without secrets and not endless."""
    words = " ".join(str(error).split()) or type(error).__name__
    return redact(words)[:500]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from; libraries wrap them."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out: the GPU's, or the machine's."""
    for one in _chain(error):
        words = str(one).lower()
        if isinstance(one, MemoryError) or any(word in words for word in MEMORY_WORDS):
            return True
    return False


def is_full(error: BaseException) -> bool:
    """Whether a file could not be written for want of space (disk, quota or a limit on its size)."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in FULL:
            return True
        if not isinstance(one, OSError) and FULL_WORDS.search(str(one)):
            return True
    return False


def _less_memory(training: Training) -> str:
    """Smaller batches first: they change nothing in what is learnt. `max_length` last: it loses tokens."""
    batch, times = training.per_device_train_batch_size, training.gradient_accumulation_steps
    remedies = []
    if batch > 1:
        smaller = next(size for size in range(batch // 2, 0, -1) if batch * times % size == 0)
        remedies.append(
            f"lower per_device_train_batch_size ({batch} -> {smaller}) and raise gradient_accumulation_steps "
            f"({times} -> {batch * times // smaller}), which keeps the effective batch"
        )
    if not training.gradient_checkpointing:
        remedies.append("set gradient_checkpointing: true")
    if training.quantization is None:
        remedies.append("load the base model in 4-bit (training.quantization)")
    if training.max_length is not None and len(remedies) < 2:
        remedies.append(f"lower max_length (now {training.max_length})")
    return ", or ".join(remedies)


def _more_space(job: Job) -> str:
    """Room, and how much there is. Other settings would be for the next run: a resumed one keeps its own."""
    where = Path(job.training.output_dir or ".")
    free = ""
    with contextlib.suppress(OSError):
        size = shutil.disk_usage(where).free
        free = f" ({size / GIB:.1f} GiB are free)" if size > GIB else f" ({size / 1024**2:.1f} MiB are free)"
    limit = job.training.save_total_limit
    kept = f"save_total_limit ({'not set: all checkpoints are kept' if limit is None else f'now {limit}'})"
    return f"free space on the disk of {where}{free}; {kept} determines how much a run needs"


def not_finite(what: str, value: float, step: int, training: Training | None = None) -> NotFinite:
    """A NaN or an infinity: every weight is next. `what`: the loss, the gradient, loss, eval_loss."""
    line = {"step": step, NAMES.get(what, what): value}
    return NotFinite(f"{what} is {value} at step {step}", _calmer(training), line)


def diverged(loss: float, guessing: float, step: int, logs: int, training: Training | None = None) -> Stopped:
    """A loss that stays above that of guessing every token."""
    reason = (
        f"the run has diverged: loss {loss:.2f} at step {step}, {logs} consecutive logs worse than guessing "
        f"({guessing:.2f})"
    )
    return Stopped(reason, _calmer(training))


def _calmer(training: Training | None) -> str:
    now = training or Training()
    remedies = [f"lower training.learning_rate (now {now.learning_rate:g})"]
    if not now.warmup_steps:
        remedies.append("set warmup_steps: 0.03")
    else:
        remedies.append(f"raise warmup_steps (now {now.warmup_steps:g})")
    if now.fp16:
        remedies.append("compute in bfloat16 (fp16: false, bf16: true)")
    return ", ".join(remedies[:-1]) + f" or {remedies[-1]}" if len(remedies) > 1 else remedies[0]
