"""The saving rule: can what the trainer writes be written, and does it load again as it was?"""

from collections.abc import Iterator

from ftcheck import Finding, Job, Location, Measurement, Severity, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.dry_save import DrySave, SavedGeneration

SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
"""Generation settings that mean something with do_sample only."""


@rule("dry-save", family="host", cases="ftcheck_rules.host.cases.dry_save")
def dry_save(job: Job, saved: DrySave) -> Iterator[Yield]:
    """Tokenizer and generation config can be saved, and the tokenizer loads again with the same ids.

    A save that is refused ends a run of hours at its first checkpoint. A tokenizer that comes back with
    other ids, or without its template, makes another model of the one that was trained.

    Both are really saved, into a temporary folder: the tokenizer by save_pretrained, the generation
    config after TRL and transformers' Trainer set their special tokens in it. transformers 5 saves a
    contradictory generation config (do_sample false, and a temperature) only while nothing in it is
    changed; adapters are saved without it. No parameters.
    """
    yield Measurement("files", len(saved.files), unit="files")
    yield Measurement("tokenizer_class", saved.tokenizer_class)
    yield Measurement("template_file", saved.template_file)
    yield Measurement("probes", saved.probes, unit="texts")
    yield Measurement("probes_differing", len(saved.differing), unit="texts", limit="0")
    yield from _tokenizer(job, saved)
    if saved.generation is not None:
        yield from _generation(job, saved.generation, saved.transformers)
    yield Summary(_in_words(saved))


def _in_words(saved: DrySave) -> str:
    if saved.problem is not None:
        return "the tokenizer cannot be saved and loaded again"
    same = saved.probes - len(saved.differing)
    return f"{len(saved.files)} files; {same} of {saved.probes} texts have the same ids when loaded again"


def _tokenizer(job: Job, saved: DrySave) -> Iterator[Finding]:
    at = job.at("model.tokenizer" if job.model.tokenizer else "model.name")
    if saved.problem is not None:
        fix = "repair the tokenizer's files, or name another under model.tokenizer"
        yield Finding(saved.problem, at=at, fix=fix)
    elif saved.differing:
        shown = ", ".join(saved.differing)
        message = (
            f"{len(saved.differing)} of {saved.probes} probes come out otherwise once the tokenizer is"
            f" saved and loaded again: {shown}"
        )
        fix = "serve the tokenizer's own files, not the saved ones, or name another under model.tokenizer"
        yield Finding(message, at=at, fix=fix)


def _generation(job: Job, config: SavedGeneration, version: str) -> Iterator[Finding]:
    """An error where training itself saves it, a warning where somebody else will have to."""
    at, (why, fix) = Location(path=config.path), _contradiction(config)
    if config.refused is not None and not config.contradictions:
        yield Finding(f"generation config: {config.refused}", at=at, fix="repair the file, or take it out")
    elif config.refused is not None and job.training.lora is None:
        message = (
            f"{why}: transformers {version} refuses to save that (ValueError) once the trainer has set"
            f" {', '.join(config.changed)} in it, so training ends at the first checkpoint"
        )
        yield Finding(message, at=at, fix=fix)
    elif config.contradictions:
        here = "saves it unchanged" if job.training.lora is None else "saves an adapter, without it"
        message = (
            f"{why}: this run {here}, but transformers {version} refuses to save it (ValueError) once a token"
            f" in it is changed, and transformers 4.57 at all"
        )
        yield Finding(message, Severity.WARNING, at=at, fix=fix)


def _contradiction(config: SavedGeneration) -> tuple[str, str]:
    """What does not go together in the file, and how to mend it."""
    void = ", ".join(config.contradictions)
    if SAMPLING.issuperset(config.contradictions):
        return f"do_sample is off and {void} set", f"in the file: set do_sample to true, or take {void} out"
    return f"{void} and the file's other settings contradict each other", f"take {void} out of the file"
