"""The processes that load trained models: started fresh, spoken to in lines of JSON, one alive at a time."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import IO, Any

from ftcheck.errors import MissingDependency
from ftcheck.inputs.container import Run
from ftcheck.inputs.finished_run import RunArtifacts
from ftcheck.inputs.loader import loader
from ftcheck.offline import OFFLINE
from ftcheck.settings import Job, Quantization

PROGRAM = "ftcheck_plugins.finished.generate"


class Died(Exception):
    """What was asked of a process could not be done; the message is what it said last."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a process loads. `base` is a folder or hub id, `adapter` a folder or None.

    `quantization` are keyword arguments of BitsAndBytesConfig, None for full precision; `resize` the rows
    that the embedding table is given, None to leave it.
    """

    base: str
    revision: str | None = None
    adapter: str | None = None
    quantization: Mapping[str, Any] | None = None
    resize: int | None = None
    trust_remote_code: bool = False

    @property
    def bits(self) -> str | None:
        """How the base is quantised, in words; None in full precision."""
        stated = self.quantization
        if stated is None:
            return None
        return f"4-bit {stated.get('bnb_4bit_quant_type', 'fp4')}" if stated.get("load_in_4bit") else "8-bit"


def spec_of(job: Job, run_artifacts: RunArtifacts) -> Spec:
    """The trained model of a job: base and adapter, or the whole model that was trained."""
    if run_artifacts.whole:
        return Spec(str(run_artifacts.adapter), trust_remote_code=job.model.trust_remote_code)
    return base_of(job, adapter=str(run_artifacts.adapter))


def base_of(job: Job, adapter: str | None = None) -> Spec:
    """The base model of a job, quantised as it was trained unless the policy wants it full."""
    full = job.evaluation is not None and job.evaluation.precision == "full"
    return Spec(
        base=job.model.name,
        revision=job.model.revision,
        adapter=adapter,
        quantization=None if full else _quantization(job.training.quantization),
        resize=job.model.resize_embeddings_to,
        trust_remote_code=job.model.trust_remote_code,
    )


def _quantization(stated: Quantization | None) -> Mapping[str, Any] | None:
    """Keyword arguments of BitsAndBytesConfig: what is stated, defaults left to the class."""
    if stated is None or not (stated.load_in_4bit or stated.load_in_8bit):
        return None
    usual = {one.name: one.default for one in fields(Quantization)}
    given = {key: value for key, value in asdict(stated).items() if key != "extra" and value != usual[key]}
    return {**given, **stated.extra}


class Processes:
    """Starts processes, and ends the one before: two models need not fit the memory together."""

    def __init__(self, run: Run) -> None:
        """Nothing is started before it is asked for."""
        self._run = run
        self._now: Process | None = None

    def of(self, spec: Spec) -> "Process":
        """The process that has loaded this. Raises `Died` where it does not load, `MissingDependency`."""
        if self._now is None or self._now.spec != spec or not self._now.alive:
            self.end()
            _need_libraries(spec)
            self._now = Process(spec, self._run)
        _ = self._now.facts
        return self._now

    def end(self) -> None:
        """End the process there is."""
        if self._now is not None:
            self._now.end()
        self._now = None


def _need_libraries(spec: Spec) -> None:
    wanted = ["torch", "safetensors", "accelerate"]
    wanted += ["peft"] * (spec.adapter is not None) + ["bitsandbytes"] * (spec.quantization is not None)
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"answering the gold questions needs {', '.join(missing)}", "train")


class Process:
    """One process with its model. What its libraries print goes to a file that nobody keeps."""

    def __init__(self, spec: Spec, run: Run) -> None:
        """Starts it; `facts` waits until the model is loaded."""
        self.spec = spec
        self._printed = tempfile.TemporaryFile(dir=run.folder)  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=_environment(run),
            text=True,
            encoding="utf-8",
        )

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What it said when it had loaded the model: device, rows, tensors. Raises `Died`."""
        return self._asked({"load": asdict(self.spec)}, "loaded", lambda done: None)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        cap: int,
        stops: Sequence[int],
        pad: int,
        batch: int,
        adapter: bool,
        progress: Callable[[int], None],
    ) -> list[Mapping[str, Any]]:
        """Greedy answers to prompts: `ids` with the stop token, and whether it `ended`. Raises `Died`.

        `adapter` false asks the base alone. `progress` is told how many are done.
        """
        asked = {
            "prompts": [list(one) for one in prompts],
            "cap": cap,
            "stops": list(stops),
            "pad": pad,
            "batch": batch,
            "adapter": adapter or self.spec.adapter is None,
        }
        made: list[Mapping[str, Any]] = self._asked({"answer": asked}, "answers", progress)["answers"]
        return made

    def _asked(
        self, request: Mapping[str, Any], wanted: str, progress: Callable[[int], None]
    ) -> Mapping[str, Any]:
        try:
            stream = _there(self._process.stdin)
            stream.write(json.dumps(request) + "\n")
            stream.flush()
        except OSError:
            raise Died(self._last_words()) from None
        for line in _there(self._process.stdout):
            event: Mapping[str, Any] = json.loads(line)
            if event["event"] == "progress":
                progress(event["done"])
            elif event["event"] == "failed":
                raise Died(event["message"])
            elif event["event"] == wanted:
                return event
        raise Died(self._last_words())

    def _last_words(self) -> str:
        """How it ended, and the end of what it printed."""
        code = self._process.wait()
        self._printed.seek(max(self._printed.seek(0, os.SEEK_END) - 2000, 0))
        lines = self._printed.read().decode("utf-8", "replace").strip().splitlines()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}" + " (out of memory?)" * (code == -9)
        return f"the process that loads the model ended with {how}" + (f": {lines[-1]}" if lines else "")

    def end(self) -> None:
        """Let it go: it ends when its stdin closes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()


def _there(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _environment(run: Run) -> dict[str, str]:
    """Quiet libraries, and threads that sleep while they wait: spinning ones are many times slower."""
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment | OFFLINE if run.offline else environment


@loader("processes")
def processes(run: Run) -> Processes:
    """What starts the processes that load trained models."""
    return Processes(run)
