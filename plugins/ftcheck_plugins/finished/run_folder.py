"""Opens what training left behind: the run folder, and base plus adapter in a process of their own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs import finished_run as records
from ftcheck.inputs.container import Run
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.finished_run import ADAPTER_CONFIG, Adapter, RunArtifacts
from ftcheck.inputs.loader import loader
from ftcheck.inputs.run_folder import RUN, read
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.records import Location, Progress
from ftcheck.settings import Job
from ftcheck_plugins.finished.generation_processes import Died, Processes, spec_of
from ftcheck_plugins.model.tokenizer import ChatTokenizer, open_tokenizer

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    '{"key": "value", "list": [1, 2.5, null, true]}',
    "Größe, naïve, 東京, 🙂 and\ttabs\n\nand  spaces ",
    "def f(x):\n    return x ** 2  # 1,000,000",
)
"""Texts that two tokenizers must make the same ids of, beside the prompts of the gold set."""
GOLD_PROBES = 50
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")


@loader("run_artifacts")
def run_artifacts(job: Job, run: Run) -> RunArtifacts | None:
    """The job's run folder; None where nothing was trained yet, which the report then says.

    Raises `InputError` for a run.json that cannot be read, and where the policy's `run` names no run.
    """
    folder = records.folder_of(job)
    if folder is None or not records.is_there(folder):
        if job.run is not None:
            place = job.at("run")
            message = f"run of job {job.name}: {job.run} contains no run and no adapter"
            problem = Problem(message, place.path, place.line, place.column, place.yaml_path)
            raise InputError(message, [problem])
        run.note(records.untrained(job))
        return None
    return records.opened(job, folder, read(folder) if (folder / RUN).is_file() else None)


@loader("adapter")
def adapter(
    job: Job,
    run: Run,
    run_artifacts: RunArtifacts | None,
    tokenizer: Tokenizer,
    gold: GoldSet | None,
    processes: Processes,
) -> Adapter | None:
    """What came of loading the adapter; None where there is none. What does not load is no error here."""
    if run_artifacts is None or run_artifacts.adapter is None:
        return None
    config = {} if run_artifacts.whole else _config(run_artifacts.adapter / ADAPTER_CONFIG)
    if isinstance(config, str):
        return Adapter(problem=config)
    run.report(Progress(f"loading {job.name}", 0, 1, "models"))
    try:
        process = processes.of(spec_of(job, run_artifacts))
    except Died as error:
        return Adapter(problem=str(error), config=config)
    run.report(Progress(f"loading {job.name}", 1, 1, "models", finished=True, detail=process.spec.bits))
    facts = process.facts
    saved = _saved(run_artifacts.adapter, job, run)
    return Adapter(
        config=config,
        device=facts["device"],
        bits=process.spec.bits,
        tensors=facts["tensors"],
        not_loaded=tuple(facts.get("not_loaded", ())),
        unexpected=tuple(facts.get("unexpected", ())),
        not_finite=tuple(facts["not_finite"]),
        updates=facts["updates"],
        zero=facts["zero"],
        rows=facts["rows"],
        tokens=saved.size if isinstance(saved, ChatTokenizer) else None,
        beside=tuple(_beside(saved, tokenizer, gold)),
    )


def _config(path: Path) -> Mapping[str, Any] | str:
    """adapter_config.json, or why there is none."""
    try:
        return bounded.read_object(path)
    except ValueError as error:
        return str(error)


def _saved(folder: Path, job: Job, run: Run) -> ChatTokenizer | str | None:
    """The tokenizer saved beside the adapter; None where there is none, a text where it does not load."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return None
    trust = job.model.trust_remote_code
    try:
        return open_tokenizer(
            str(folder), trust_remote_code=trust, offline=run.offline, place=Location(str(folder))
        )
    except InputError as error:
        return error.problems[0].message


def _beside(saved: ChatTokenizer | str | None, checked: Tokenizer, gold: GoldSet | None) -> Iterator[str]:
    """What of the saved tokenizer is not as it was checked."""
    if isinstance(saved, str):
        yield f"the tokenizer saved with the adapter could not be loaded: {saved}"
    if not isinstance(saved, ChatTokenizer):
        return
    if saved.chat_template != checked.chat_template:
        yield "the chat template saved with the adapter differs from the one that was checked"
    if saved.eos_token_id != checked.eos_token_id:
        ends = f"{saved.eos_token_id}, the checked one's is {checked.eos_token_id}"
        yield f"the EOS token of the tokenizer saved with the adapter is {ends}"
    texts = [*PROBES, *(item.prompt for item in (gold.items[:GOLD_PROBES] if gold is not None else ()))]
    differing = sum(saved.encode(text) != checked.encode(text) for text in texts)
    if differing:
        many = f"{differing} of {len(texts)} probe texts"
        yield f"the tokenizer saved with the adapter gives other token ids for {many}"
