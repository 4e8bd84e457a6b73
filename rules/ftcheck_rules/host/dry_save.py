"""The saving rule: can the trainer's files be saved, and do they load again unchanged?"""

from collections.abc import Iterator

from ftcheck import Finding, Job, Location, Measurement, Severity, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.dry_save import DrySave, SavedGeneration
from ftcheck.plurals import agreeing, counted

SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
"""Generation settings that only apply with do_sample."""


@rule("dry-save", family="host", cases="ftcheck_rules.host.cases.dry_save")
def dry_save(job: Job, saved: DrySave) -> Iterator[Yield]:
    """Tokenizer and generation config can be saved, and the tokenizer loads again with the same ids.

    A save that is refused ends a run of hours at its first checkpoint. A tokenizer that comes back with
    different ids, or without its template, turns the trained model into a different one.

    Both are actually saved to a temporary folder: the tokenizer with save_pretrained, the generation config
    after TRL and transformers' Trainer have set their special tokens in it. transformers 5 saves a
    contradictory generation config (do_sample false with a temperature) only as long as nothing in it is
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
    have = agreeing(saved.probes, "has", "have")
    texts = f"{same} of {counted(saved.probes, 'text')} {have} the same ids after loading again"
    return f"{counted(len(saved.files), 'file')} saved; {texts}"


def _tokenizer(job: Job, saved: DrySave) -> Iterator[Finding]:
    at = job.at("model.tokenizer" if job.model.tokenizer else "model.name")
    if saved.problem is not None:
        fix = "fix the tokenizer's files, or set model.tokenizer to another one"
        yield Finding(saved.problem, at=at, fix=fix)
    elif saved.differing:
        shown = ", ".join(saved.differing)
        have = agreeing(len(saved.differing), "has", "have")
        message = (
            f"{len(saved.differing)} of {counted(saved.probes, 'probe text')} {have} different ids once the"
            f" tokenizer has been saved and loaded again: {shown}"
        )
        fix = (
            "serve the tokenizer's original files, not the saved ones, or set model.tokenizer to another one"
        )
        why = "A server that loads the saved tokenizer feeds the model ids that it was not trained on."
        yield Finding(message, at=at, fix=fix, why=why)


def _generation(job: Job, config: SavedGeneration, version: str) -> Iterator[Finding]:
    """An error where training itself saves it, a warning where another program will have to."""
    at, (why, fix) = Location(path=config.path), _contradiction(config)
    if config.refused is not None and not config.contradictions:
        message = f"transformers refuses the generation config: {config.refused}"
        yield Finding(message, at=at, fix="fix the file, or remove it")
    elif config.refused is not None and job.training.lora is None:
        message = (
            f"{why}: transformers {version} refuses to save the file (ValueError) once the trainer has set"
            f" {', '.join(config.changed)} in it"
        )
        yield Finding(message, at=at, fix=fix, why="Training ends at the first checkpoint.")
    elif config.contradictions:
        here = "saves it unchanged" if job.training.lora is None else "saves only the adapter"
        message = (
            f"{why}: this run {here}, but transformers {version} refuses to save the file (ValueError) once a"
            " token in it is changed, and transformers 4.57 refuses it in any case"
        )
        yield Finding(message, Severity.WARNING, at=at, fix=fix)


def _contradiction(config: SavedGeneration) -> tuple[str, str]:
    """What is contradictory in the file, and how to fix it."""
    void = ", ".join(config.contradictions)
    are = agreeing(len(config.contradictions), "is", "are")
    if SAMPLING.issuperset(config.contradictions):
        return f"do_sample is off, but {void} {are} set", f"set do_sample: true in the file, or remove {void}"
    return (
        f"{void} {agreeing(len(config.contradictions), 'contradicts', 'contradict')} the other settings of"
        " the file",
        f"remove {void} from the file",
    )
