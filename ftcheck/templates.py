"""Which chat template a job really trains with: the tokenizer's, the policy's, or TRL's patched one."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError

MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_markers(template: str) -> bool:
    """Whether a template marks the assistant's tokens with `{% generation %}`."""
    return MARKERS.search(template) is not None


def read_template(path: Path) -> str:
    """A template file as text. Raises `InputError` if it is not there or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"chat template {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"chat template {path}: not UTF-8 at byte {error.start}") from error


def of_folder(folder: Path) -> str | None:
    """The template in a tokenizer's folder, as transformers finds it; None without one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_template(file)
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return default_variant(config.get("chat_template")) if isinstance(config, dict) else None


def default_variant(template: Any) -> str | None:
    """The `default` one of named templates (a dict, or a list with names); a text stays as it is."""
    if isinstance(template, list):
        template = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else None


def training_template(template: str) -> str | None:
    """The template with markers that the installed TRL trains with in place of `template`.

    TRL keeps pairs of files `NAME.jinja` and `NAME_training.jinja` and swaps on equal text
    (`trl.chat_template_utils.get_training_chat_template`). None: TRL does not know the template, or
    is not installed. The files are read without importing TRL.
    """
    return _training_pairs().get(template)


@cache
def _training_pairs() -> dict[str, str]:
    folder = trl_templates()
    if folder is None:
        return {}
    pairs = {}
    for patched in sorted(folder.glob("*_training.jinja")):
        original = folder / patched.name.replace("_training.jinja", ".jinja")
        if original.is_file():
            pairs[original.read_text(encoding="utf-8")] = patched.read_text(encoding="utf-8")
    return pairs


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
