"""What stands in the place of a policy: a policy's file, data files with a model, or a configuration."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ftcheck.errors import PolicyError, UsageError
from ftcheck.estimate.gpus import card
from ftcheck.importers.importing import SCRIPTS, framework_of
from ftcheck.importers.records import FRAMEWORKS, NAMES
from ftcheck.inputs import bounded
from ftcheck.inputs.bounded import expanded
from ftcheck.inputs.remote_files import is_remote
from ftcheck.inputs.work_folders import work_folder
from ftcheck.paths import DATA_SUFFIXES, is_hub_data
from ftcheck.policy.made import Asked, Made, made
from ftcheck.policy.text import MAX_BYTES

POLICIES = (".yaml", ".yml")
OWN = re.compile(
    r"(?:\A\s*\{\s*|^)[\"']?(?:ftcheck|jobs|checks|extends|waivers|gate)[\"']?\s*:", re.MULTILINE
)
"""A key that a policy has and no framework's configuration."""
JOBS = re.compile(rb"(?m)(?:\A\s*\{\s*|^)[\"']?jobs[\"']?\s*:")


@contextmanager
def policy_for(asked: Asked) -> Iterator[str | Made]:
    """The policy that is named, or the one made of data or of a configuration.

    Raises `UsageError` for what is none of them, and `PolicyError` for a configuration that cannot be read.
    """
    if not asked.data:
        raise UsageError("no data: name a file of training rows, a configuration, or a policy")
    file = asked.data[0]
    if len(asked.data) > 1 or not _is_document(file):
        yield _of_data(asked)
    elif _is_policy(file):
        if asked.options:
            stated = ", ".join(asked.options)
            raise UsageError(f"{file} is a policy, which states the job: leave out {stated}")
        yield file
    else:
        from ftcheck.importers.policy_file import made_of

        _refuse_no_configuration(file)
        _refuse_absent(asked)
        with work_folder("ftcheck-check-") as folder:
            yield made_of(asked, folder)


def kind_of(file: str) -> Literal["policy", "configuration", "data"] | None:
    """What a file is by its content, as `policy_for` takes it; None for one that it takes for nothing."""
    suffix = Path(file).suffix
    if _is_policy(file):
        return "policy"
    if _is_document(file):
        return "configuration" if framework_of(Path(file)) is not None else None
    if suffix == ".json":
        return "data" if _begins(file, b"[") else None
    return "data" if suffix in DATA_SUFFIXES else None


def has_jobs(file: str) -> bool:
    """Whether a policy states jobs itself; one without any is there to be extended."""
    return JOBS.search(bounded.read(Path(file), MAX_BYTES)) is not None


def _of_folder(folder: str) -> str:
    """What to name instead of a folder: one of its policies, or its data files."""
    found = sorted(os.listdir(expanded(folder)))
    policies = [one for one in found if one.endswith(POLICIES)]
    if policies and not any(one.endswith(tuple(DATA_SUFFIXES)) for one in found):
        return f"{folder} is a folder of policies: name one, such as {os.path.join(folder, policies[0])}"
    return f"{folder} is a folder: name the files, or use {folder.rstrip('/')}/*.jsonl"


def _begins(file: str, sign: bytes) -> bool:
    try:
        with bounded.open_file(file) as opened:
            return opened.read(1024).lstrip()[:1] == sign
    except OSError:
        return False


def _is_document(file: str) -> bool:
    """Whether a file is a policy, a configuration or a script, not rows. Of .json its content says it."""
    suffix = Path(file).suffix
    return suffix in (*POLICIES, *SCRIPTS) or (suffix == ".json" and _is_configuration(expanded(file)))


def _is_configuration(file: str) -> bool:
    from ftcheck.importers.detect import detect
    from ftcheck.policy.nodes import planted
    from ftcheck.records import Location

    try:
        value = bounded.loads(bounded.read(Path(file), MAX_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and detect(planted(value, Location())) is not None


def _is_policy(file: str) -> bool:
    """Whether a file is a policy by its keys, or is nothing that can be read as one: its reader says so."""
    if Path(file).suffix not in POLICIES:
        return False
    try:
        text = bounded.read(Path(expanded(file)), MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return os.path.exists(expanded(file))
    return not text.strip() or OWN.search(text) is not None


def _refuse_no_configuration(file: str) -> None:
    from ftcheck.importers.detect import detect
    from ftcheck.importers.importing import tree_of

    path = expanded(file)
    if not os.path.isfile(path):
        raise UsageError(f"{file}: no such file")
    tree, problems = tree_of(Path(path), file)
    if tree is None or problems:
        raise PolicyError(f"{file}: cannot be read", problems)
    if detect(tree) is None:
        known = ", ".join(NAMES[one] for one in FRAMEWORKS)
        raise UsageError(
            f"{file} is neither a policy (no key 'ftcheck') nor a configuration of a framework that ftcheck"
            f" reads ({known})"
        )


def _of_data(asked: Asked) -> Made:
    """The policy for some data; it computes in what the GPU can. Raises `UsageError` for files not there."""
    documents = [one for one in asked.data if Path(one).suffix in (*POLICIES, *SCRIPTS)]
    if documents:
        raise UsageError(f"{documents[0]} is no data file: name a configuration or a policy alone")
    for file in asked.data:
        _refuse_unreadable(file)
    if asked.model is None:
        raise UsageError("no model: name the base model with --model (a hub id, or a folder)")
    _refuse_absent(asked)
    return made(asked, half=_half(asked.gpu))


def _refuse_absent(asked: Asked) -> None:
    """Say at once which path among the options is not there."""
    if asked.eval is not None:
        _refuse_unreadable(asked.eval)
    model = asked.model or ""
    written_as_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if written_as_path and not os.path.isdir(expanded(model)):
        raise UsageError(f"model {model}: no such folder")


def _refuse_unreadable(file: str) -> None:
    """Say at once which file is not there, or is none of data, instead of one error a check."""
    path = expanded(file)
    if os.path.isdir(path):
        raise UsageError(_of_folder(file))
    if not (glob.glob(path) or os.path.exists(path) or is_hub_data(file) or is_remote(file)):
        raise UsageError(f"{file}: no such file")
    if os.path.exists(path) and Path(path).suffix not in DATA_SUFFIXES:
        raise UsageError(f"{file}: unsupported; ftcheck reads {', '.join(DATA_SUFFIXES)}")


def _half(gpu: str | None) -> Literal["bfloat16", "float16"]:
    """The 16-bit type that a GPU computes in."""
    known = card(gpu) if gpu is not None else None
    return "bfloat16" if known is None or known.bf16 else "float16"
