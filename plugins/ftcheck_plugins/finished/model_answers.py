"""Answers to the gold questions: by the trained model, by the base alone, or by a served endpoint.

They are made once a run and shared by all rules, and kept in the cache by content: the bytes of the adapter,
the base, the prompts' token ids, the settings and the versions of the libraries.
"""

import functools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck import cache
from ftcheck.digest import of_file, of_json, of_named
from ftcheck.inputs.container import Run
from ftcheck.inputs.endpoint import Endpoint, Reply
from ftcheck.inputs.evaluation import GoldItem, GoldSet, OutputSchema
from ftcheck.inputs.finished_run import Generation, Generations, RunArtifacts
from ftcheck.inputs.loader import loader
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.output_schema import problems
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.paths import model_folder
from ftcheck.records import Progress
from ftcheck.settings import Job
from ftcheck_plugins.finished import generate
from ftcheck_plugins.finished.generation_processes import (
    Died,
    Processes,
    Spec,
    base_of,
    spec_of,
)
from ftcheck_plugins.guard import flow
from ftcheck_plugins.guard.records import Decision, Guard, Messages, Question

CAP = 512
"""Tokens of an answer where neither `serving` nor `evaluation` sets max_new_tokens."""
BATCH = 32
"""Questions that are answered at once where evaluation.batch_size is not set."""
AT_ONCE = 8
"""Requests that an endpoint has at a time."""
PATIENCE = 60.0
"""Seconds for one answer of an endpoint."""
GIVE_UP = 8
"""Failures in a row after which an endpoint is asked no more."""
UNASKED = "not sent: too many failures before it"
LIBRARIES = ("accelerate", "bitsandbytes", "ftcheck", "peft", "tokenizers", "torch", "transformers")


def cap_of(job: Job) -> int:
    """The most tokens of an answer: evaluation's cap, else the server's."""
    evaluated = job.evaluation.max_new_tokens if job.evaluation is not None else None
    return evaluated or job.serving.max_new_tokens or CAP


@loader("generations")
def generations(
    job: Job,
    run: Run,
    run_artifacts: RunArtifacts | None,
    gold: GoldSet | None,
    serving: ServingSide,
    model: ModelConfig,
    machine: Machine,
    output_schema: OutputSchema | None,
    endpoint: Endpoint | None,
    processes: Processes,
) -> Generations | None:
    """The trained model's answers to the gold questions, and those to a stricter retry where one is due.

    None where there is nothing to ask, or nobody. `serving.endpoint` is asked where the policy names one.
    """
    if run_artifacts is None or gold is None or not gold.items:
        return None
    if endpoint is not None:
        return _asked(job, run, gold, serving, output_schema, endpoint)
    if run_artifacts.adapter is None:
        return Generations("nobody", cap_of(job), problem=run_artifacts.missing)
    side = _Side(
        job, run, serving, model, machine, processes, spec_of(job, run_artifacts), run_artifacts.digest, True
    )
    return side.answers(f"answering {job.name}", gold.items, output_schema)


@loader("base_generations")
def base_generations(
    job: Job,
    run: Run,
    run_artifacts: RunArtifacts | None,
    gold: GoldSet | None,
    serving: ServingSide,
    model: ModelConfig,
    machine: Machine,
    endpoint: Endpoint | None,
    processes: Processes,
) -> Generations | None:
    """The base model's own answers to the same questions; None where there is nothing to compare."""
    if run_artifacts is None or gold is None or not gold.items:
        return None
    if endpoint is not None:
        return Generations("nobody", cap_of(job), problem="serving.endpoint serves the trained model only")
    if run_artifacts.adapter is None:
        return Generations("nobody", cap_of(job), problem=run_artifacts.missing)
    spec = base_of(job) if run_artifacts.whole else spec_of(job, run_artifacts)
    side = _Side(job, run, serving, model, machine, processes, spec, None, False)
    return side.answers(f"answering {job.name} (base)", gold.items, None)


@dataclass(frozen=True)
class _Side:
    """One model that is asked: what is loaded, whether with its adapter, and the digest of that."""

    job: Job
    run: Run
    serving: ServingSide
    model: ModelConfig
    machine: Machine
    processes: Processes
    spec: Spec
    adapter: str | None
    adapted: bool

    def answers(self, task: str, items: Sequence[GoldItem], schema: OutputSchema | None) -> Generations:
        """Answers in order, from the cache or made now."""
        cap = cap_of(self.job)
        source = "transformers" + (f", {self.spec.bits}" if self.spec.bits else "")
        try:
            first = self._made(task, [item.prompt_ids for item in items])
            retried = _retried(self.job, self.serving, items, first, schema)
            prompts = [self._prompt(messages, items[index].tools) for index, messages in retried.items()]
            again = self._made(f"{task} again", prompts) if prompts else []
        except Died as error:
            return Generations(source, cap, problem=f"the model failed to answer: {error}")
        second = dict(zip(retried, again, strict=True))
        made = tuple(replace(one, again=second.get(index)) for index, one in enumerate(first))
        return Generations(source, cap, made)

    def _prompt(self, messages: Sequence[Message], tools: Any) -> tuple[int, ...]:
        given = {**self.serving.switches, **({} if tools is None else {"tools": tools})}
        text = self.serving.tokenizer.render(messages, prompt=True, **given)
        return tuple(self.serving.tokenizer.encode(text))

    def _made(self, task: str, prompts: Sequence[Sequence[int]]) -> list[Generation]:
        """Answers to rendered prompts. Raises `Died`."""
        key = self._key(prompts)
        kept = _kept(self.run, key)
        raw = kept if kept is not None else self._generated(task, prompts)
        if kept is None:
            self._keep(key, raw)
        else:
            told = Progress(task, len(raw), len(raw), "answers", finished=True, detail="from the cache")
            self.run.report(told)
            self.run.cached(f"{self.job.name}.{'answers' if self.adapted else 'base_answers'}")
        return [self._answer(one) for one in raw]

    def _generated(self, task: str, prompts: Sequence[Sequence[int]]) -> list[Mapping[str, Any]]:
        total = len(prompts)

        def tell(done: int) -> None:
            self.run.report(Progress(task, done, total, "answers", finished=done == total))

        tell(0)
        return self.processes.of(self.spec).answer(
            prompts,
            cap=cap_of(self.job),
            stops=sorted(self._stops | self._turn_ends),
            pad=self._pad,
            batch=self._batch,
            adapter=self.adapted,
            progress=tell,
        )

    @property
    def _stops(self) -> frozenset[int]:
        """Tokens that a server stops at: the generation config's, and the tokenizer's own."""
        own = self.serving.tokenizer.eos_token_id
        return self.model.stop_ids | ({own} if own is not None else frozenset())

    @property
    def _turn_ends(self) -> frozenset[int]:
        """What the template ends an answer with. A server knows only those that are among its stops."""
        return self.serving.tokenizer.stop_ids

    @property
    def _pad(self) -> int:
        known = self.serving.tokenizer.pad_token_id
        return known if known is not None else min(self._stops | self._turn_ends, default=0)

    @property
    def _batch(self) -> int:
        stated = self.job.evaluation.batch_size if self.job.evaluation is not None else None
        return stated or BATCH

    def _answer(self, raw: Mapping[str, Any]) -> Generation:
        """Ids as an answer: without the stop token, cut at a text of serving.stop."""
        ids, finish = list(raw["ids"]), "length"
        if raw["ended"]:
            finish = "stop" if ids[-1] in self._stops else "template"
        said = ids[:-1] if raw["ended"] else ids
        text, marked = self.serving.tokenizer.plain(said), self.serving.tokenizer.show(said)
        marked = _up_to(marked, self.job.serving.stop)
        shown = _up_to(text, self.job.serving.stop)
        if shown == text:
            return Generation(text, len(ids), finish, marked=marked)
        return Generation(shown, len(self.serving.tokenizer.encode(shown)) + 1, "stop", marked=marked)

    def _key(self, prompts: Sequence[Sequence[int]]) -> str | None:
        """What the answers follow from; None where a part of it cannot be told."""
        base = _weights(self.spec.base, self.spec.revision)
        program = of_file(Path(generate.__file__))
        if base is None or program is None or (self.adapted and self.adapter is None):
            return None
        return of_json(
            {
                "program": program,
                "versions": {name: _version(name) for name in LIBRARIES},
                "gpus": [gpu.name for gpu in self.machine.gpus],
                "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "spec": {**asdict(self.spec), "base": base, "adapter": self.adapter},
                "adapted": self.adapted,
                "prompts": [list(one) for one in prompts],
                "cap": cap_of(self.job),
                "stops": sorted(self._stops | self._turn_ends),
                "pad": self._pad,
                "batch": self._batch,
            }
        )

    def _keep(self, key: str | None, raw: Sequence[Mapping[str, Any]]) -> None:
        store = cache.usable_store(self.run.cache, self.run.note)
        if store is None or key is None:
            return
        tokens = sum(len(one["ids"]) for one in raw)
        about = {"job": self.job.name, "split": "answers", "rows": len(raw), "tokens": tokens}
        with tempfile.TemporaryDirectory(dir=self.run.folder) as empty:
            why = store.keep(key, Path(empty), about, {FILE: json.dumps(raw).encode()})
        if why is not None:
            self.run.note(f"{self.job.name}.answers: not cached for the next run: {why}")


def _up_to(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of these stop texts."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


FILE = "answers.json"


def _kept(run: Run, key: str | None) -> list[Mapping[str, Any]] | None:
    """An earlier run's answers; None where there are none."""
    store = cache.usable_store(run.cache, run.note)
    found = store.find(key) if store is not None and key is not None else None
    if found is None:
        return None
    try:
        kept: list[Mapping[str, Any]] = json.loads((found / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return kept


@functools.cache
def _weights(name: str, revision: str | None) -> str | None:
    """Digest of a model's weights and configurations; None for a model without safetensors here."""
    folder = model_folder(name, revision)
    weights = sorted(folder.glob("*.safetensors")) if folder is not None else []
    if folder is None or not weights:
        return None
    return of_named(folder, [path.name for path in (*weights, *folder.glob("*config.json"))])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- one stricter retry -----------------------------------------------------------------------------------


def _retried(
    job: Job,
    serving: ServingSide,
    items: Sequence[GoldItem],
    first: Sequence[Generation],
    schema: OutputSchema | None,
) -> dict[int, Messages]:
    """The questions whose answers break the schema, with what the guard would ask them again."""
    if schema is None:
        return {}
    guard = _guard(job, serving, schema)
    found: dict[int, Messages] = {}
    for index, (item, one) in enumerate(zip(items, first, strict=True)):
        if one.trouble is None and not item.calls and (wrong := problems(one.text, schema)):
            asked = Question(item.messages, len(item.prompt_ids), Decision.PASS, guard.max_new_tokens)
            again = flow.stricter(guard, asked, wrong)
            if again is not None:
                found[index] = again
    return found


def _guard(job: Job, serving: ServingSide, schema: OutputSchema) -> Guard:
    """The job's guard, as far as a stricter prompt stands on it; without limits where none are set."""
    stated, cap = job.serving, cap_of(job)
    return Guard(
        job=job.name,
        tokenizer=serving.tokenizer,
        max_input_tokens=stated.max_input_tokens or sys.maxsize,
        max_new_tokens=cap,
        over_limit=Decision.REJECT,
        switches=serving.switches,
        system_prompt=stated.system_prompt,
        schema=schema,
        schema_retries=1,
        room=(stated.max_model_len or 0) - cap,
    )


# --- a served endpoint ------------------------------------------------------------------------------------


def _asked(
    job: Job,
    run: Run,
    gold: GoldSet,
    serving: ServingSide,
    schema: OutputSchema | None,
    endpoint: Endpoint,
) -> Generations:
    """The answers of an endpoint, which is asked as its users ask it. Whatever fails is an answer's
    trouble."""
    cap, source = cap_of(job), "serving.endpoint"
    if endpoint.closed is not None:
        return Generations(source, cap, problem=f"serving.endpoint was not queried: {endpoint.closed}")
    asking = _Asking(job, run, serving, endpoint)
    first = asking.answers(f"asking {job.name}", [(item.messages, item.tools) for item in gold.items])
    if not any(one.trouble is None for one in first):
        why = dict.fromkeys(one.trouble for one in first if one.trouble not in (None, UNASKED))
        return Generations(
            source, cap, problem=f"serving.endpoint returned no answer: {'; '.join(map(str, why))}"
        )
    retried = _retried(job, serving, gold.items, first, schema)
    asked_again = [(messages, gold.items[index].tools) for index, messages in retried.items()]
    again = asking.answers(f"asking {job.name} again", asked_again) if retried else []
    second = dict(zip(retried, again, strict=True))
    return Generations(source, cap, tuple(replace(one, again=second.get(n)) for n, one in enumerate(first)))


class _Asking:
    """Asks an endpoint several questions at a time, and stops where it fails again and again."""

    def __init__(self, job: Job, run: Run, serving: ServingSide, endpoint: Endpoint) -> None:
        self._job, self._run, self._serving, self._endpoint = job, run, serving, endpoint
        self._failures, self._done = 0, 0
        self._lock = threading.Lock()

    def answers(self, task: str, asked: Sequence[tuple[Sequence[Message], Any]]) -> list[Generation]:
        """The answers to messages, each with its tools, in order; `trouble` says why there is none."""
        self._done = self._failures = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda one: self._one(task, one[0], one[1], len(asked)), asked))

    def _one(self, task: str, messages: Sequence[Message], tools: Any, total: int) -> Generation:
        if self._failures >= GIVE_UP:
            return Generation(trouble=UNASKED)
        name = self._job.serving.endpoint_model or self._job.name
        switches = self._serving.switches
        reply = self._endpoint.ask(name, messages, cap_of(self._job), PATIENCE, switches, tools)
        made = _of_reply(reply, parsed=bool(tools))
        with self._lock:
            self._done += 1
            self._failures = self._failures + 1 if made.trouble is not None else 0
            self._run.report(Progress(task, self._done, total, "answers", finished=self._done == total))
        return made


def _of_reply(reply: Reply, *, parsed: bool) -> Generation:
    """An endpoint's answer; where tools were sent, the calls are what its parser made of it, or none."""
    if reply.status != 200:
        refused = f", refused: {reply.refusal}" if reply.refusal else ""
        return Generation(trouble=reply.trouble or f"HTTP {reply.status}{refused}")
    calls = reply.calls if parsed else None
    return Generation(reply.text, reply.completion_tokens, reply.finish, calls=calls)
