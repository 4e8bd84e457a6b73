"""Where reports go: `-o FORMAT[=PATH]`. First a `started` sentinel, at the end the report, atomically.

A run that is killed leaves the sentinel, which every reader takes for a failure. A report that cannot be
written is found out before the run, not after it.
"""

import errno
import io
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ftcheck.atomic import replace_file
from ftcheck.errors import FtcheckError, Problem, UsageError
from ftcheck.exit_codes import ExitCode
from ftcheck.extension.reporters import Reporter
from ftcheck.report.record import Report, as_stored
from ftcheck.report.redact import redact, visible

STDOUT = "-"
Maker = Callable[[], str]
"""Makes the text of one format."""


class OutputError(FtcheckError):
    """A report could not be rendered or written; what was there before is still there."""

    exit_code = ExitCode.INCOMPLETE
    code = "output"


@dataclass(frozen=True, slots=True)
class Output:
    """One `-o`: a report format and where it goes. `path` as it was given; None is standard output."""

    format: str
    path: str | None = None

    @property
    def file(self) -> Path | None:
        """The file that is written, links followed."""
        return None if self.path is None else Path(os.path.realpath(os.path.expanduser(self.path)))


def parse_outputs(specs: Sequence[str], known: Collection[str]) -> tuple[Output, ...]:
    """Read `FORMAT[=PATH]`; without a path, or with `-`, the report goes to standard output.

    Raises `UsageError` with every problem: unknown format, empty path, two reports in one place.
    """
    outputs = tuple(_parsed(spec) for spec in specs)
    wrong = [message for output in outputs for message in _wrong(output, known)]
    wrong += _same_place(outputs)
    if wrong:
        raise UsageError(wrong[0], [Problem(f"-o {message}") for message in wrong])
    return outputs


def write_started(outputs: Sequence[Output], report: Report, reporters: Mapping[str, Reporter]) -> None:
    """Write a `started` report to every file. Raises `UsageError` with each path that cannot be written."""
    sentinel = replace(
        report, status="started", verdict=None, results=(), problems=(), finished_at=None, gate={}, cached=()
    )
    begin(outputs, _of_report(sentinel, reporters))


def write_final(
    outputs: Sequence[Output], report: Report, reporters: Mapping[str, Reporter]
) -> tuple[str, ...]:
    """Replace every sentinel by the report and return the paths. One that fails does not stop the others.

    All are made of what the JSON report holds: `ftcheck report convert` gives the same bytes later.
    Raises `OutputError` (exit code 3) at the end if one failed; its file still holds the sentinel.
    """
    return write(outputs, _of_report(as_stored(report), reporters))


def begin(outputs: Sequence[Output], makers: Mapping[str, Maker]) -> None:
    """Write a text that says `started` to every file, made by its format's maker.

    Raises `UsageError` with each path that cannot be written.
    """
    texts = {output: _made(output, makers) for output in outputs}
    wrong = _each(outputs, lambda output: _put_sentinel(output, texts[output]))
    if wrong:
        raise UsageError(wrong[0].message, wrong)


def write(outputs: Sequence[Output], makers: Mapping[str, Maker]) -> tuple[str, ...]:
    """Write each output's text, made by its format's maker, and return the paths.

    Files are replaced in one step. One that fails does not stop the others; `OutputError` (exit code 3) is
    raised at the end.
    """
    wrong = _each(outputs, lambda output: _put(output, _made(output, makers)))
    if wrong:
        raise OutputError(wrong[0].message, wrong)
    return tuple(output.path for output in outputs if output.path is not None)


def _of_report(report: Report, reporters: Mapping[str, Reporter]) -> dict[str, Maker]:
    return {name: partial(one.render, report) for name, one in reporters.items()}


def _parsed(spec: str) -> Output:
    name, _, path = spec.partition("=")
    to_stdout = "=" not in spec or path == STDOUT
    return Output(name.strip(), None if to_stdout else path)


def _wrong(output: Output, known: Collection[str]) -> Iterable[str]:
    if output.format not in known:
        yield f"{visible(output.format) or '(nothing)'}: no such report format{_hint(output.format, known)}"
    if output.path is not None and (not output.path.strip() or "\0" in output.path):
        yield f"{output.format}={visible(output.path)}: not a path; write {output.format}=PATH"


def _hint(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), n=1)
    listed = f"; available: {', '.join(sorted(known))}" if known else "; no reporter is loaded"
    return f"; did you mean '{near[0]}'?" if near else listed


def _same_place(outputs: Sequence[Output]) -> list[str]:
    seen: dict[str, Output] = {}
    wrong = []
    for output in outputs:
        if output.path is not None and "\0" in output.path:
            continue
        place = STDOUT if output.path is None else os.path.normcase(str(output.file))
        if place in seen:
            where = "standard output" if output.path is None else visible(output.path)
            wrong.append(
                f"{output.format}: '{seen[place].format}' is already written to {where}; give it another path"
            )
        seen.setdefault(place, output)
    return wrong


def _made(output: Output, makers: Mapping[str, Maker]) -> str:
    try:
        return makers[output.format]()
    except Exception as error:
        what = f"reporter '{output.format}' failed: {type(error).__name__}: {error}"
        raise OutputError(redact(visible(what))) from error


def _each(outputs: Sequence[Output], write: Callable[[Output], None]) -> list[Problem]:
    problems = []
    for output in outputs:
        try:
            write(output)
        except OutputError as error:
            problems.append(Problem(str(error)))
        except OSError as error:
            problems.append(Problem(_reason(output, error)))
    return problems


def _reason(output: Output, error: OSError) -> str:
    """The path, what is wrong with it, and what to do."""
    where = f"-o {output.format}={visible(output.path or STDOUT)}"
    folder = visible(str(output.file.parent)) if output.file else ""
    known = {
        errno.ENOENT: f"the folder {folder} does not exist; create it with: mkdir -p '{folder}'",
        errno.ENOTDIR: f"{folder} is not a folder",
        errno.EISDIR: "this is a folder; name a file in it",
        errno.EACCES: f"no permission to write in {folder}",
        errno.EPERM: f"no permission to write in {folder}",
        errno.EROFS: f"{folder} is on a read-only file system",
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EPIPE: "the reader closed the pipe",
    }
    return f"{where}: {known.get(error.errno or 0, error.strerror or type(error).__name__)}"


def _put_sentinel(output: Output, text: str) -> None:
    """A pipe or a device gets the report only: it cannot be taken back."""
    file = output.file
    if file is not None and not _is_special(file):
        replace_file(file, _encoded(text))


def _encoded(text: str) -> bytes:
    """Lone surrogates are written as `\\ud800`, which JSON reads back as what they were."""
    return text.encode("utf-8", "backslashreplace")


def _put(output: Output, text: str) -> None:
    data = _encoded(text)
    file = output.file
    if file is None:
        _to_stdout(data)
    elif _is_special(file):
        file.write_bytes(data)
    else:
        replace_file(file, data)


def _to_stdout(data: bytes) -> None:
    """Reports are UTF-8 whatever the terminal's encoding is."""
    sys.stdout.flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.buffer.write(data)
    else:
        sys.stdout.write(data.decode("utf-8"))
    sys.stdout.flush()


def _is_special(file: Path) -> bool:
    """`/dev/stderr`, a pipe: written to, never replaced. A folder is an error."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    return not stat.S_ISREG(mode)
