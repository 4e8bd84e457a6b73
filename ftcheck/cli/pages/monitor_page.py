"""The page of `ftcheck monitor`: a block of lines for each run, none of them wider than the terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ftcheck.cli.pages.plan_page import ASCII_BARS, BARS
from ftcheck.cli.pages.screen import TIE, tied, wrapped
from ftcheck.inputs.metric_history import Span
from ftcheck.inputs.run_folder import State
from ftcheck.paths import near
from ftcheck.plurals import counted
from ftcheck.records import Outcome
from ftcheck.report.wording import SYMBOLS, number
from ftcheck.training.monitor import (
    MEDIAN_OF,
    Found,
    View,
    thinned,
)

LABEL, BRIEF_LABEL = 8, 16
BETWEEN = " · "
SPARKS = 48
"""Columns of the loss, at most."""
FEWEST_SPARKS = 8
QUIET = 120.0
"""Seconds without a metric line after which a living run's block says so."""
FINDINGS = 3
"""Findings that a block shows; the newest."""
STYLES = {
    State.RUNNING: "bold cyan",
    State.FINISHED: "bold green",
    State.FAILED: "bold red",
    State.INTERRUPTED: "bold yellow",
    State.CRASHED: "bold red",
}
SIGNS = {outcome.value: sign for outcome, sign in SYMBOLS.items()}
ASCII_SIGNS = SIGNS | {Outcome.PASSED.value: "+", Outcome.FAILED.value: "x"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a label in front (padded; not of a block's `head`), text, and rich's style for the text."""

    label: str
    text: str
    style: str = ""
    head: bool = False


def block(shown: View, width: int, *, ascii_only: bool = False) -> list[Line]:
    """Everything known about a run; no line is wider than `width` columns."""
    room = width - LABEL - 1
    lines = [
        _head(shown, width),
        Line("time", _fitted(_time(shown), room)),
        *_loss(shown, room, ascii_only=ascii_only),
        Line("speed", _fitted(_speed(shown), room)),
        Line("batches", _fitted(_batches(shown), room)),
        Line("memory", _fitted(_memory(shown), room)),
        Line("saved", _fitted(_saved(shown), room)),
        *_watch(shown, room, ASCII_SIGNS if ascii_only else SIGNS),
        *_notes(shown, room),
    ]
    return [line for line in lines if line.text]


def brief(shown: View, width: int, *, ascii_only: bool = False) -> list[Line]:
    """A run in one line, for many runs on one screen."""
    spark = sparkline(shown.losses, FEWEST_SPARKS, ascii_only=ascii_only)
    name = f"{_cut(shown.job, BRIEF_LABEL):<{BRIEF_LABEL}}  {shown.state.value:<11} {spark}".rstrip()
    words = _fitted([name, *_place(shown), *_telling(shown)], width)
    return [Line("", words, STYLES[shown.state].removeprefix("bold "), head=True)]


def plain(shown: View) -> str:
    """A run in one line of a log, however long."""
    parts = [shown.job, shown.state.value, *_place(shown), *_telling(shown)]
    return BETWEEN.join(parts)


def found_words(found: Found) -> str:
    """A finding in one line: `loss-spike at step 35: ... (warn)`."""
    until = f" to {found.last_step:,}" if found.last_step > found.step else ""
    return f"{found.check} at step {found.step:,}{until}: {found.message} ({found.action})"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Values in at most so many characters, from the least to the most of them."""
    bars, shown = (ASCII_BARS if ascii_only else BARS), list(thinned(values, width))
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    step = (high - low) / (len(bars) - 1) or 1.0
    return "".join(bars[round((value - low) / step)] for value in shown)


def clock(seconds: float) -> str:
    """`00:09:12`, `2 d 03:04:05`."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    shown = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {shown}" if days else shown


def moment(at: datetime, zone: datetime) -> str:
    """A moment in the zone of another: `2026-11-22 22:31`."""
    return at.astimezone(zone.tzinfo).strftime("%Y-%m-%d %H:%M")


# --- the lines ----------------------------------------------------------------------------------------


def _head(shown: View, width: int) -> Line:
    said = {State.CRASHED: "crashed: its process is gone"}.get(shown.state, shown.state.value)
    epoch = [f"epoch {shown.epoch:.2f}"] if shown.epoch is not None else []
    parts = [shown.job, said, *_place(shown), near(str(shown.folder)), *epoch]
    return Line("", _fitted(parts, width), STYLES[shown.state], head=True)


def _place(shown: View) -> list[str]:
    """`step 41/63 (65 %)`."""
    share = f"/{shown.total:,} ({100 * shown.step / shown.total:.0f} %)" if shown.total else ""
    return [f"step {shown.step:,}{share}"]


def _telling(shown: View) -> list[str]:
    """The numbers of a run in few words."""
    found = len(shown.found)
    parts = [
        "" if shown.loss is None else f"loss {number(round(shown.loss, 4))}",
        "" if not found else counted(found, "finding"),
        "" if shown.ends_at is None else f"ends {moment(shown.ends_at, shown.at)}",
        "" if shown.tokens_per_second is None else f"{shown.tokens_per_second:,.0f} tokens/s",
        "" if shown.memory_peak_gib is None else f"{shown.memory_peak_gib:.1f} GiB",
        "" if shown.median is None else f"median {number(round(shown.median, 4))}",
        "" if shown.learning_rate is None else f"learning rate {shown.learning_rate:.2e}",
    ]
    return [part for part in parts if part]


def _time(shown: View) -> list[str]:
    parts = [] if shown.gone is None else [f"{clock(shown.gone)} elapsed"]
    if shown.to_go is not None and shown.ends_at is not None:
        parts += [f"{clock(shown.to_go)} remaining", f"ends {moment(shown.ends_at, shown.at)}"]
    elif shown.state is State.RUNNING:
        parts.append("remaining time not known yet")
    if shown.started_at is not None:
        parts.append(f"started {moment(shown.started_at, shown.at)}")
    if shown.ended_at is not None and shown.state is not State.CRASHED:
        parts.append(f"ended {moment(shown.ended_at, shown.at)}")
    silent = shown.state is State.RUNNING and (shown.quiet or 0.0) > QUIET
    if shown.quiet is not None and (silent or shown.state is State.CRASHED):
        return [f"last log {clock(shown.quiet)} ago", *parts]
    return parts


def _loss(shown: View, room: int, *, ascii_only: bool) -> Iterator[Line]:
    if shown.loss is None and not shown.losses:
        words = "no loss was logged" if shown.state.over else "no loss has been logged yet"
        yield Line("loss", words)
        return
    value = "not finite" if shown.loss is None else number(round(shown.loss, 4))
    count = min(MEDIAN_OF, shown.logged)
    words = "" if shown.median is None else f"median of {count}: {number(round(shown.median, 4))}"
    sparks = max(FEWEST_SPARKS, min(SPARKS, room - len(value) - len(words) - 4))
    spark = sparkline(shown.losses, sparks, ascii_only=ascii_only)
    yield Line("loss", _fitted(["  ".join(part for part in (value, spark, words) if part)], room))
    rest = []
    if shown.learning_rate is not None:
        rest.append(f"learning rate {shown.learning_rate:.2e}")
    if shown.grad_norm is not None:
        rest.append(f"gradient {number(round(shown.grad_norm, 4))}")
    if shown.eval_loss is not None:
        best = ""
        if shown.eval_best is not None and shown.eval_best_step is not None:
            best = f" (best {number(round(shown.eval_best, 4))} at step {shown.eval_best_step:,})"
        rest.insert(0, f"evaluation {number(round(shown.eval_loss, 4))}{best}")
    yield Line("", _fitted(rest, room))


def _speed(shown: View) -> list[str]:
    if shown.tokens_per_second is None:
        return []
    plan = (shown.expected or {}).get("tokens_per_second")
    held = f" ({_span(plan, 'plan')})" if plan is not None else " (no plan)"
    whole = "" if shown.whole_pace is None else f"{shown.whole_pace:,.0f} overall"
    so_far = "" if shown.state.over else " so far"
    tokens = "" if shown.tokens is None else f"{shown.tokens:,.0f} tokens{so_far}"
    return [part for part in (f"{shown.tokens_per_second:,.0f} tokens/s{held}", whole, tokens) if part]


def _span(span: Span, word: str) -> str:
    """`plan 4,900 to 6,600`, `plan at least 4,900`."""
    if span.low is None or span.high is None:
        end = f"at least {number(span.low)}" if span.low is not None else f"at most {number(span.high)}"
        return f"{word} {end}"
    return f"{word} {number(span.low)} to {number(span.high)}"


def _batches(shown: View) -> list[str]:
    parts = []
    if shown.padding_share is not None:
        parts.append(f"padding {100 * shown.padding_share:.1f} %")
    if shown.rows is not None and shown.blocks is not None:
        packed = shown.blocks != shown.rows
        parts.append(
            counted(shown.rows, "row")
            + (f" packed in {counted(shown.blocks, 'block')}" if packed else ", not packed")
        )
    if shown.trained_share is not None:
        parts.append(f"{100 * shown.trained_share:.1f} % trained")
        checked = (shown.expected or {}).get("trained_share")
        parts += [] if checked is None or checked.low is None else [f"{100 * checked.low:.1f} % checked"]
    return parts


def _memory(shown: View) -> list[str]:
    if shown.memory_peak_gib is None:
        return []
    predicted = (shown.expected or {}).get("memory_gib")
    held = f" ({_span(predicted, 'predicted')})" if predicted is not None else " (no prediction)"
    total = f" of {number(shown.device_gib)} GiB" if shown.device_gib is not None else ""
    parts = [f"{shown.memory_peak_gib:.1f} GiB peak{held}"]
    if shown.memory_gib is not None:
        parts.append(f"{shown.memory_gib:.1f} in use{total}")
    return parts + ([shown.device] if shown.device else [])


def _saved(shown: View) -> list[str]:
    saved = shown.saved
    if saved is None:
        return ["no checkpoint" if shown.state.over else "no checkpoint yet"]
    if saved.is_complete:
        return [f"{saved.newest}, complete"]
    whole = f"the last complete one is {saved.complete}" if saved.complete else "none is complete"
    return [f"{saved.newest} is incomplete", whole]


def _watch(shown: View, room: int, sign: Mapping[str, str]) -> Iterator[Line]:
    """The signs of the checks, in as many lines as it takes; then what they found, newest last."""
    if shown.reason is not None:
        yield from _wrapped("reason", shown.reason, room, "red" if shown.state is State.FAILED else "")
    if shown.remedy is not None and shown.state is not State.RUNNING:
        yield from _wrapped("fix", shown.remedy, room)
    signs = [tied(f"{sign.get(one.outcome, '?')} {one.name}") for one in shown.watched]
    yield from _wrapped("checks", "  ".join(signs), room)
    hidden = len(shown.found) - FINDINGS
    for one in shown.found[-FINDINGS:]:
        yield from _wrapped("found", found_words(one), room, "yellow")
    if hidden > 0:
        yield Line("", f"and {hidden} earlier, see run.json")


def _wrapped(label: str, text: str, room: int, style: str = "") -> Iterator[Line]:
    """A text in lines of its own, broken between words; a longer word is cut."""
    for count, words in enumerate(wrapped(text.replace("\n", " "), room, room) if text else []):
        yield Line("" if count else label, _cut(words.replace(TIE, " "), room), style)


def _notes(shown: View, room: int) -> Iterator[Line]:
    for note in shown.notes[:2]:
        yield from _wrapped("note", near_note(note), room, "yellow")
    if shown.notes_total > 2:
        more = counted(shown.notes_total - 2, "more line", "more lines")
        yield Line("", f"and {more} that could not be read")


def near_note(note: str) -> str:
    """A note with its path relative to the current folder."""
    path, colon, rest = note.partition(":")
    return f"{near(path)}{colon}{rest}"


def _fitted(parts: Iterable[str], room: int) -> str:
    """As many parts as there is room for, the first ones; never an empty line where there is one."""
    kept = list(parts)
    while len(kept) > 1 and _cells(BETWEEN.join(kept)) > room:
        kept.pop()
    return _cut(BETWEEN.join(kept), room)


def _cut(text: str, room: int) -> str:
    """The text, cut with an ellipsis where it is too long."""
    from rich.cells import set_cell_size

    return text if _cells(text) <= room else set_cell_size(text, max(0, room - 1)) + "…"


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
