"""`ftcheck run` on several policies: a folder, a glob, or more than one file."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ftcheck.cli.options import RunFlags
from ftcheck.runner.workplace import Workplace

if TYPE_CHECKING:
    from ftcheck.cli.pages.many_page import ManyShown
    from ftcheck.exit_codes import ExitCode
    from ftcheck.report.job_verdicts import JobVerdict
    from ftcheck.runner.many import Outcome
    from ftcheck.runner.options import Options

OptionsOf = Callable[[str, tuple[str, ...]], "Options"]
"""The options of one policy, by its file and what `-o` says for it."""


def run_many(files: Sequence[str], flags: RunFlags, at_once: int | None, options_of: OptionsOf) -> int:
    """Check these policies side by side and print one table; the worst of their exit codes.

    Raises `UsageError` for outputs that cannot be written, before anything ran.
    """
    from ftcheck.runner import many

    count, stop = many.at_once(at_once, len(files)), threading.Event()
    with ExitStack() as stack:
        # The workers load their libraries while this process loads its own and reads the policies.
        workers = flags.workers or max(1, (os.cpu_count() or 1) // count)
        opened = [
            Workplace(offline=flags.offline, workers=workers, interrupted=stop.is_set) for _ in range(count)
        ]
        places = [stack.enter_context(one) for one in opened]
        return _run(files, flags, options_of, places, stop)


def _run(
    files: Sequence[str],
    flags: RunFlags,
    options_of: OptionsOf,
    places: Sequence[Workplace],
    stop: threading.Event,
) -> int:
    from ftcheck.exit_codes import worst_of
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.runner import many, many_outputs, session
    from ftcheck.runner.policy_files import names_of

    names = names_of(files)
    where = many_outputs.places(flags.outputs, make_host().reporters, tuple(names.values()))
    limits = many.limits(len(places))
    named = []
    for file in files:
        options = replace(options_of(file, where.of(names[file])), shares=True, limits=limits)
        named.append(many.Named(file, names[file], options))
    show = _shown(flags)
    show.begin(len(files), len(places))
    index, started = Index(where.index, len(files)), time.monotonic()
    try:
        outcomes = many.run(named, places, stop, lambda planned: [show])
    finally:
        show.close()
    verdicts = many.verdicts_of(outcomes)
    codes = [many.exit_code(outcomes), index.write(verdicts, outcomes)]
    show.table(verdicts, time.monotonic() - started)
    show.reports([path for one in outcomes for path in one.ended.written], index.path)
    for one in outcomes:
        if one.ended.error is not None and one.ended.report.results:
            session.say(one.ended.error)
    return worst_of(codes)


def _shown(flags: RunFlags) -> "ManyShown":
    from rich.console import Console

    from ftcheck.cli.pages.many_page import ManyShown

    taken = any(spec.partition("=")[2] in ("", "-") and spec != "github" for spec in flags.outputs)
    console = Console(stderr=taken, highlight=False, emoji=False, markup=False)
    return ManyShown(console, verbose=flags.verbose)


class Index:
    """The index page of the policies, if there is a folder for it; it says `started` until it is written."""

    def __init__(self, folder: Path | None, policies: int) -> None:
        """Write the page that says so. Raises `UsageError` where it cannot be written."""
        from ftcheck.report.html import index_page
        from ftcheck.runner.many_outputs import INDEX
        from ftcheck.runner.outputs import Output, begin

        self.path = None if folder is None else str(folder / INDEX)
        self._outputs = () if self.path is None else (Output("html", self.path),)
        begin(self._outputs, {"html": lambda: index_page.started(policies)})

    def write(self, verdicts: "Sequence[JobVerdict]", outcomes: "Sequence[Outcome]") -> "ExitCode":
        """Write the page; the exit code that this comes to."""
        from ftcheck.exit_codes import ExitCode
        from ftcheck.report.html import index_page
        from ftcheck.runner import session
        from ftcheck.runner.outputs import OutputError, write

        links = {one.named.name: href for one in outcomes if (href := self._href(one)) is not None}
        try:
            write(self._outputs, {"html": lambda: index_page.page(verdicts, links)})
        except OutputError as error:
            session.say(error)
            return error.exit_code
        return ExitCode.OK

    def _href(self, outcome: "Outcome") -> str | None:
        """The way from the index to a policy's page, if it has one."""
        if self.path is None:
            return None
        folder = os.path.dirname(self.path)
        pages = (
            one for one in outcome.ended.written if one.endswith(".html") and os.path.dirname(one) == folder
        )
        return next((quote(os.path.basename(one)) for one in pages), None)
