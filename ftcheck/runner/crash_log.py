"""What is kept of a bug of our own: one line for the user, and a log that can be pasted into an issue."""

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ftcheck import cache
from ftcheck.errors import InternalError
from ftcheck.report.redact import redact, visible

PACKAGES = ("ftcheck", "transformers", "tokenizers", "trl", "peft", "torch", "datasets", "pluggy", "pydantic")
NOTICE = """\
ftcheck met a bug, its own or a plugin's. Paste this log into an issue on ftcheck's tracker (or the plugin's).
Secrets are removed; read it before you paste it, because an error's text may quote your data.
"""


def internal_error(
    error: BaseException, doing: str = "", *, others: Sequence[BaseException] = ()
) -> InternalError:
    """The bug as an error of one line that names its log; `doing` says what ftcheck was about.

    `others` are further exceptions for the log. Never raises: without a log the line stands alone.
    """
    what = f"{type(error).__name__}: {visible(redact(' '.join(str(error).split())))}".rstrip(": ")
    place = _place(error)
    said = f"internal error{f' ({doing})' if doing else ''}: {what}{f' at {place}' if place else ''}"
    log = _log([error, *others], doing)
    remedy = f"; report it with this log: {log}" if log is not None else "; please report it"
    return InternalError(said + remedy)


def _place(error: BaseException) -> str:
    """Where it was raised: `module.py:12`."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _log(errors: Sequence[BaseException], doing: str) -> Path | None:
    """Write the log into the cache's folder, else into the system's folder of temporary files."""
    text = "\n".join(_lines(errors, doing))
    name = f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    for folder in (cache.root() / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = folder / name
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(text.encode("utf-8", "backslashreplace"))
            return file
        except OSError:
            continue
    return None


def _lines(errors: Sequence[BaseException], doing: str) -> Iterator[str]:
    yield NOTICE
    yield f"when      {datetime.now(UTC).isoformat(timespec='seconds')}"
    yield f"command   {redact(' '.join(sys.argv))}"
    if doing:
        yield f"doing     {doing}"
    yield f"python    {platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        try:
            yield f"{name:<9} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    for error in errors:
        yield ""
        yield redact("".join(traceback.format_exception(error)))
