"""Which chat template a job really trains with: the tokenizer's, the policy's, or TRL's patched one."""

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck import tables
from ftcheck.digest import of_text
from ftcheck.errors import InputError
from ftcheck.inputs import bounded

FORMS = tuple(
    re.compile(form)
    for form in (
        r"'(\w+)' is undefined",
        r"'[\w.]+ object' has no attribute '(\w+)'",
        r"[\w.]+ object has no element \d+",
        r"can only concatenate \w+ \(not \"\w+\"\) to \w+",
        r"'\w+' object is not \w+",
        r"argument of type '\w+' is not iterable",
        r"unsupported operand type\(s\) for [^\w\s]{1,3}: '\w+' and '\w+'",
        r"'[<>=]{1,2}' not supported between instances of '\w+' and '\w+'",
        r"unhashable type: '\w+'",
        r"Object of type \w+ is not JSON serializable",
        r"sequence item \d+: expected str instance, \w+ found",
    )
)
"""Messages of Python and jinja that name types, numbers, and names; these must stand in the template."""
LEAST_WORDS = 12
"""Characters of a beginning that is told: a shorter one says nothing, and stands in any template."""
MAX_TEMPLATE = 8 << 20
"""Bytes of a template file; what is rendered has a lower limit."""
MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_markers(template: str) -> bool:
    """Whether a template marks the assistant's tokens with `{% generation %}`."""
    return MARKERS.search(template) is not None


def read_template(path: Path) -> str:
    """A template file as text. Raises `InputError` if it is not there or not UTF-8."""
    try:
        return bounded.read_text(path, MAX_TEMPLATE)
    except OSError as error:
        raise InputError(f"chat template {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"chat template {path}: not UTF-8 at byte {error.start}") from error


def of_folder(folder: Path) -> str | None:
    """The template in a tokenizer's folder, as transformers finds it; None without one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_template(file)
    return default_variant(_in_config(folder))


def malformed(folder: Path) -> str | None:
    """Why transformers cannot read the named templates of tokenizer_config.json; None where it can."""
    template = _in_config(folder)
    variants = template if isinstance(template, list) else []
    for one in variants:
        if not isinstance(one, dict) or not all(
            isinstance(one.get(key), str) for key in ("name", "template")
        ):
            return 'chat_template in tokenizer_config.json must be a text, or a list of {"name", "template"}'
    return None


def _in_config(folder: Path) -> Any:
    try:
        config = bounded.read_json(folder / "tokenizer_config.json")
    except (OSError, ValueError):
        return None
    return config.get("chat_template") if isinstance(config, dict) else None


def default_variant(template: Any) -> str | None:
    """The `default` one of named templates (a dict, or a list with names); a text stays as it is."""
    if isinstance(template, list):
        template = _named(template)
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else None


def _named(variants: list[Any]) -> dict[str, Any]:
    """The templates of a list, by their names; what has no name is none of them."""
    named = [one for one in variants if isinstance(one, dict) and isinstance(one.get("name"), str)]
    return {one["name"]: one.get("template") for one in named}


def own_words(text: str, template: Any) -> str:
    """What of an error's text is the template's or the language's own: nothing of a row is in it.

    That is the beginning that stands in the template, or a message of Python or jinja that names types only.
    """
    source = template if isinstance(template, str) else ""
    for form in FORMS:
        found = form.fullmatch(text)
        if found is not None and all(name in source for name in found.groups()):
            return text
    known = (source, " ".join(source.split()))
    if any(text in one for one in known):
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if any(text[:middle] in one for one in known) else (low, middle - 1)
    return text[:low].rstrip() if low >= LEAST_WORDS else ""


def line_of(error: BaseException) -> int | None:
    """The line of the template at which it raised, by jinja's frames; None where it has none."""
    found, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame.f_globals
        if "__jinja_template__" in frame:
            found = frame["__jinja_template__"].get_corresponding_lineno(trace.tb_lineno)
        elif "__jinja_exception__" in frame:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def training_template(template: str) -> str | None:
    """The template with markers that TRL trains with in place of `template`; None: TRL has none.

    TRL keeps pairs of files `NAME.jinja` and `NAME_training.jinja` and swaps on equal text
    (`trl.chat_template_utils.get_training_chat_template`). The files of the installed TRL are read without
    importing it; without TRL they come from the table of what it changes.
    """
    folder = trl_templates()
    return _known_template(template) if folder is None else _training_pairs(folder).get(template)


def trl_version() -> str:
    """The TRL whose templates are known here: the installed one, or the one of the table."""
    if trl_templates() is not None:
        return metadata.version("trl")
    return str(tables.load("training_templates")["versions"]["trl"])


@cache
def _training_pairs(folder: Path) -> dict[str, str]:
    return {stock: training for _, stock, training in pairs_of(folder)}


def pairs_of(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The names, templates and training templates in a folder of TRL's templates."""
    for patched in sorted(folder.glob("*_training.jinja")):
        name = patched.stem.removesuffix("_training")
        original = folder / f"{name}.jinja"
        if original.is_file():
            yield name, original.read_text(encoding="utf-8"), patched.read_text(encoding="utf-8")


def _known_template(template: str) -> str | None:
    """What the table makes of a template; None for one that it does not hold."""
    edits = _known_edits().get(of_text(template))
    if edits is None:
        return None
    pieces, done = [], 0
    for start, dropped, inserted in edits:
        pieces += [template[done:start], inserted]
        done = start + dropped
    return "".join([*pieces, template[done:]])


@cache
def _known_edits() -> dict[str, list[tuple[int, int, str]]]:
    """The edits of the table, by the digest of the template that they change."""
    known = tables.load("training_templates")["templates"].values()
    return {one["sha256"]: one["edits"] for one in known}


def trl_templates() -> Path | None:
    """The folder of the installed TRL's templates; None without TRL."""
    spec = importlib.util.find_spec("trl")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "chat_templates"
        if folder.is_dir():
            return folder
    return None


def applied(template: str | None, *, assistant_only_loss: bool) -> str | None:
    """The template as the trainer applies it: TRL's patched one where the loss needs markers it lacks."""
    if template is None or not assistant_only_loss or has_markers(template):
        return template
    return training_template(template) or template
