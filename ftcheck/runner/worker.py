"""The worker process: opens inputs lazily and runs checks one by one, streaming JSON lines.

Run by `ftcheck.runner.checks` as `python -m ftcheck.runner.worker`. The first line on stdin is the
set-up, each further line the index of a check or another policy's set-up. Lines on stdout are events;
whatever rules and libraries print goes to stderr. When stdin closes, the process ends: it never outlives
its parent.
"""

import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, TextIO

from ftcheck.errors import AbsentConfig, FtcheckError, InputError
from ftcheck.extension.plugin_host import Host, make_host
from ftcheck.extension.rules import Rule
from ftcheck.inputs.container import Inputs, Run, Store, closure
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.traces import Traces
from ftcheck.records import (
    Check,
    Exclude,
    Finding,
    Location,
    Measurement,
    Outcome,
    Progress,
    Result,
    Severity,
    Skip,
    Summary,
)
from ftcheck.report.record import result_to_dict
from ftcheck.runner.found import Found
from ftcheck.runner.rule_answers import Answers, yields
from ftcheck.runner.sampled_rows import on_sample, sample_of
from ftcheck.runner.shown_rows import as_seen, in_line, with_content
from ftcheck.runner.worker_setup import Setup, unpack

READY = ("numpy", "pyarrow", "pyarrow.ipc")
PROGRESS_EVERY = 0.1
"""Files whose rows are no lines of text."""


def main() -> None:
    """Read the set-up, then run checks until stdin closes. Then the process is gone: nothing is tidied up."""
    events = _events()
    commands = _commands()
    _get_ready(commands)
    first = commands.get()
    if first is None:
        return
    memory = Memory()
    worker = _Worker(unpack(first), events, memory)
    events.send({"event": "ready"})
    while (line := commands.get()) is not None:
        if line.strip().isdigit():
            worker.run(int(line))
        else:
            worker = _Worker(unpack(line), events, memory)
    sys.stderr.flush()
    os._exit(0)


def _get_ready(commands: "queue.Queue[str | None]") -> None:
    """Import what most checks need, for as long as there is nothing to do."""
    make_host()
    for name in READY:
        if commands.empty():
            importlib.import_module(name)


class _Events:
    """Writes events to the stream that was stdout; safe from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: Mapping[str, Any]) -> None:
        text = json.dumps(event, ensure_ascii=True, default=str)
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()


def _events() -> _Events:
    """Keep stdout for events; what anybody prints from now on goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return _Events(stream)


def _commands() -> "queue.Queue[str | None]":
    """Lines of stdin; on its end the process goes at once if it is busy, or after the queue is empty."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


CONVERSATIONS = "sample"
"""The input that holds conversations themselves."""


class Memory:
    """What a worker holds from one policy to the next: plugins, and what was worked out for other jobs."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self.traces, self.answers = Traces(), Answers()
        self._hosts: dict[tuple[Any, ...], Host] = {}

    def host(self, setup: Setup) -> Host:
        """The plugins of a policy."""
        key = (setup.plugins, setup.rules_dirs)
        if key not in self._hosts:
            self._hosts[key] = make_host(*key)
        return self._hosts[key]


class _Worker:
    def __init__(self, setup: Setup, events: _Events, memory: Memory) -> None:
        self._events = events
        self._host = memory.host(setup)
        self._answers = memory.answers
        self._traces = memory.traces if setup.shares else None
        self._checks = setup.checks
        self._last = {check.job: number for number, check in enumerate(setup.checks)}
        self._jobs = {job.name: job for job in setup.jobs}
        self._poisoned = setup.poisoned
        self._show_content = setup.show_content
        self._rows = setup.rows
        self._waived = dict(setup.waived)
        self._policy = setup.policy
        self._told = 0.0
        self._clock = _RuleClock()
        self._sent: set[str] = set()
        run = Run(
            folder=setup.folder,
            offline=setup.offline,
            workers=setup.workers,
            report=self._progress,
            policy=setup.policy,
            cache=setup.cache,
            digests=dict(setup.digests),
            cached=lambda name: events.send({"event": "cached", "name": name}),
            note=lambda text: events.send({"event": "note", "text": text}),
            read_content=self._content_read,
            engine=setup.engine,
            ray_address=setup.ray_address,
        )
        self._base = {"run": run, "jobs": tuple(self._jobs.values())}
        self._shared = Store()
        self._inputs: dict[str | None, Inputs] = {}
        self._of_data: dict[str | None, Inputs] = {}

    def run(self, index: int) -> None:
        check = self._checks[index]
        self._clock = _RuleClock()
        inputs = self._inputs_of(check.job, texts=self._host.rules[check.rule].texts)
        inputs.asked.clear()
        result = run_check(
            self._host,
            check,
            inputs,
            rows=self._rows,
            running=self._running,
            reporter=self._reporter,
            found=Found(check, self._waived.get(check.id, frozenset()), _folder(self._policy)),
            answers=self._answers,
        )
        reads = self._answers.read_content or CONVERSATIONS in self._host.rules[check.rule].inputs
        seconds = self._clock.seconds()
        findings = tuple(self._shown(one, check, inputs) for one in result.findings)
        result = replace(result, findings=findings, reads_content=reads)
        sample = sample_of(inputs, closure(self._host.loaders, tuple(inputs.asked)))
        result = on_sample(result, sample) if sample is not None else result
        self._send_digests(check.job)
        rows = [(one.path, one.line, one.record) for one in result.rows]
        told = {"event": "result", "result": result_to_dict(result), "seconds": seconds, "rows": rows}
        self._events.send(told)
        if index == self._last[check.job] and check.job is not None:
            self._let_go(check.job)

    def _let_go(self, job: str) -> None:
        """A job is done: what only it needed is not held any longer."""
        self._inputs.pop(job, None)
        self._of_data.pop(job, None)

    def _shown(self, finding: Finding, check: Check, inputs: Inputs) -> Finding:
        """A finding with the row that it is about, where that is asked for and was prepared for the check."""
        if not self._show_content:
            return in_line(finding)
        job = self._jobs.get(check.job or "")
        prepared = job is not None and "prepared" in closure(self._host.loaders, check.needs)
        return with_content(finding, as_seen(finding, job, inputs) if job and prepared else "")

    def _content_read(self) -> None:
        self._answers.read_content = True

    def _reporter(self, check: Check) -> Check:
        """The check of the job that needs its model and counts most; the first of several."""
        loaders = self._host.loaders
        those = [one for one in self._checks if one.job == check.job]
        needing = [one for one in those if AbsentConfig.opens in closure(loaders, one.needs)]
        uncapped = [one for one in needing if one.severity in (None, Severity.ERROR)]
        return next(iter([*uncapped, *needing]), check)

    def _running(self) -> None:
        """The check's inputs are open: now its rule runs."""
        self._clock.start()
        self._events.send({"event": "running"})

    def _inputs_of(self, job: str | None, *, texts: bool = False) -> Inputs:
        """A job's inputs; for a rule on `texts` those of its data alone, where ids are read prepared."""
        found = self._jobs.get(job or "")
        inputs = self._inputs
        if texts and found is not None and found.data.prepared is not None and found.data.train is not None:
            inputs, found = self._of_data, replace(found, data=replace(found.data, prepared=None))
        if job not in inputs:
            inputs[job] = Inputs(
                self._host.loaders,
                self._base,
                found,
                self._shared,
                self._opening,
                [name for owner, name in self._poisoned if owner in (job, None)],
                self._traces,
            )
        return inputs[job]

    def _opening(self, name: str, done: bool) -> None:
        """An input is being opened, or it is open: that is not the rule's time."""
        self._clock.input(done)
        self._events.send({"event": "input", "name": name, "done": done})

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.finished or now - self._told >= PROGRESS_EVERY:
            self._told = now
            self._events.send(
                {
                    "event": "progress",
                    "task": progress.task,
                    "done": progress.done,
                    "total": progress.total,
                    "unit": progress.unit,
                    "finished": progress.finished,
                    "detail": progress.detail,
                    "line": progress.line,
                }
            )

    def _send_digests(self, job: str | None) -> None:
        """What the report needs of a job's preparation, once it is there."""
        inputs = self._inputs.get(job)
        prepared = inputs.opened("prepared") if inputs is not None else None
        if job is None or inputs is None or prepared is None or job in self._sent:
            return
        self._sent.add(job)
        row = min(prepared.row_errors, default=None)
        first = None if row is None else [str(prepared.at(row)), prepared.row_errors[row].message]
        self._events.send(
            {
                "event": "prepared",
                "job": job,
                "ids": prepared.digest,
                "rows": len(prepared),
                "row_errors": len(prepared.row_errors),
                "first": first,
                "eval_ids": _eval_digest(inputs) if self._jobs[job].evaluates else None,
                "framework": prepared.stored.framework if prepared.stored is not None else None,
                "sample": asdict(prepared.sample) if prepared.sample is not None else None,
            }
        )


def _eval_digest(inputs: Inputs) -> str | None:
    """The digest over the evaluation rows; None where they cannot be prepared: the gate then says so."""
    try:
        prepared: Prepared | None = inputs.get("prepared_eval")
    except FtcheckError:
        return None
    return prepared.digest if prepared is not None else None


class _RuleClock:
    """Seconds that a rule runs, without the inputs that it opens on its way."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._opened_in = 0.0
        self._opening: list[float] = []

    def start(self) -> None:
        self._began, self._opened_in = time.monotonic(), 0.0

    def input(self, done: bool) -> None:
        """Count the time of the outermost input: opening one may open others."""
        if not done:
            self._opening.append(time.monotonic())
            return
        began = self._opening.pop()
        self._opened_in += 0.0 if self._opening else time.monotonic() - began

    def seconds(self) -> float:
        return 0.0 if self._began is None else max(0.0, time.monotonic() - self._began - self._opened_in)


def run_check(
    host: Host,
    check: Check,
    inputs: Inputs,
    *,
    rows: bool = False,
    running: Callable[[], None] = lambda: None,
    reporter: Callable[[Check], Check] = lambda check: check,
    found: Found | None = None,
    answers: Answers | None = None,
) -> Result:
    """One check on its inputs: never raises, except what ends the process.

    `running` is called when its inputs are open and its rule begins. With `rows` the rows that the rule would
    leave out are named. `reporter` says which check reports that a model has no config.json. `found` takes
    the findings. `answers` are those that rules gave for other jobs.
    """
    from ftcheck.policy import make_params

    rule = host.rules[check.rule]
    try:
        params = {} if rule.params_type is None else {"params": make_params(rule, check.params)}
        yielded = (answers or Answers()).of(rule, check, inputs, params)
        running()
        return entered(check, yielded, rows=rows, found=found)
    except AbsentConfig as error:
        return _absent(check, error, reporter(check), found or Found(check))
    except InputError as error:
        return Result(check, Outcome.ERRORED, reason=_input_reason(error), detail=error.trace or None)
    except FtcheckError as error:
        return Result(check, Outcome.ERRORED, reason=str(error))
    except MemoryError:
        return Result(check, Outcome.ERRORED, reason="the rule ran out of memory")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = " ".join(str(error).split())
        reason = f"the rule raised {type(error).__name__}" + (f": {message}" if message else "")
        return Result(check, Outcome.ERRORED, reason=reason, detail=traceback.format_exc(limit=-8))


def _absent(check: Check, error: AbsentConfig, reporter: Check, found: Found) -> Result:
    """The one finding about a file that is not there, or why another check than its reporter is skipped."""
    [problem] = error.problems
    if reporter.id != check.id:
        return Result(check, Outcome.SKIPPED, reason=f"{problem.message} (reported by {reporter.id})")
    at = Location(problem.path, problem.line, problem.column, yaml_path=problem.yaml_path)
    why = "What needs the model's dimensions or limits is unchecked."
    found.add(Finding(problem.message, at=at, why=why))
    return found.entered(Result(check, Outcome.PASSED))


def _input_reason(error: InputError) -> str:
    return "; ".join(dict.fromkeys(str(problem) for problem in error.problems))


def collect(check: Check, rule: Rule, arguments: Mapping[str, Any]) -> Result:
    """What a rule yields for arguments, as a result that is not judged yet. Lets through what it raises."""
    return entered(check, yields(rule, arguments))


def entered(
    check: Check, yielded: Iterable[Any], *, rows: bool = False, found: Found | None = None
) -> Result:
    """What a rule yields, as a result that is not judged yet. Lets everything the rule raises through.

    With `rows` the rows that it would leave out are named. `found` takes the findings.
    """
    found = found or Found(check)
    measurements: list[Measurement] = []
    excluded: list[Location] = []
    skip, summary = None, None
    for one in yielded:
        if isinstance(one, Finding):
            found.add(one)
        elif isinstance(one, Measurement):
            measurements.append(one)
        elif isinstance(one, Summary):
            summary = one.text
        elif isinstance(one, Exclude):
            excluded += map(one.at, one.rows) if rows else ()
        elif isinstance(one, Skip):
            skip = one.reason
        else:
            raise TypeError(f"a rule yields findings and measurements, not {one!r}")
    if skip is None and not measurements and not found.failing:
        skip = "nothing was checked: the rule returned no measurement and no finding"
    outcome = Outcome.SKIPPED if skip is not None and not found.failing else Outcome.PASSED
    result = Result(
        check,
        outcome,
        reason=skip if outcome is Outcome.SKIPPED else None,
        measurements=tuple(measurements),
        summary=summary,
        rows=tuple(excluded),
    )
    return found.entered(result)


def _folder(policy: str | None) -> str | None:
    """The folder of a policy's file."""
    return os.path.dirname(os.path.abspath(policy)) if policy is not None else None


if __name__ == "__main__":
    try:
        main()
    except FtcheckError as error:
        print(str(error), file=sys.stderr)
        raise SystemExit(3) from None
