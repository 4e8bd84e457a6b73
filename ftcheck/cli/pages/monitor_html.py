"""Runs as a page: state and progress, loss, speed against the plan, memory against the prediction, checks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ftcheck.cli.pages.monitor_page import SIGNS, clock, found_words, moment, near_note
from ftcheck.inputs.metric_history import Span
from ftcheck.inputs.run_folder import State
from ftcheck.plurals import counted
from ftcheck.records import Outcome
from ftcheck.report.clean import clean
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, facts, joined, kind_of, section, tag
from ftcheck.report.html.figures import Band, Curve, Part, curves, figure, legend
from ftcheck.report.html.shell import Document, document
from ftcheck.report.html.verdict import when
from ftcheck.report.wording import number
from ftcheck.training.monitor import Curves, View

KINDS = {
    State.RUNNING: ("warn", "…"),
    State.FINISHED: ("pass", "✓"),
    State.FAILED: ("fail", "✗"),
    State.INTERRUPTED: ("warn", "!"),
    State.CRASHED: ("fail", "✗"),
}
CHECKS = (Column("check", names=True), Column("outcome"), Column("said"))
Pair = tuple[View, Curves]


@dataclass(frozen=True, slots=True)
class Runs:
    """What the page is about: runs with their curves, what is waited for, what could not be read."""

    runs: Sequence[Pair]
    waiting: Sequence[str] = ()
    broken: Sequence[str] = ()


def page(shown: Runs, at: str) -> str:
    """All runs as one HTML file, as they were `at` this moment."""
    runs = [(clean(view), drawn) for view, drawn in shown.runs]
    names = [(f"run-{number_}", view.job) for number_, (view, _) in enumerate(runs)]
    parts = joined(run_section(pair, f"run-{number_}") for number_, pair in enumerate(runs))
    body = joined((_top(runs, clean(shown), at), parts))
    title = ", ".join(f"{view.job} {view.state.value}" for view, _ in runs) or "no run yet"
    return document(Document("monitor", f"{title} · ftcheck monitor", names, body))


def _top(runs: Sequence[Pair], shown: Runs, at: str) -> Markup:
    items = (tag("li", tag("b", view.job), " ", state_badge(view.state), class_="gate") for view, _ in runs)
    told = [f"waiting for a run in {one}" for one in shown.waiting] + list(shown.broken)
    notes = tag("ul", joined(tag("li", one, class_="text") for one in told), class_="notes") if told else None
    going = any(not view.state.over for view, _ in runs) or bool(shown.waiting)
    said = "It is written anew at each refresh of the monitor: load it again to see more." if going else None
    return tag(
        "section",
        tag("h1", "Training"),
        tag("ul", joined(items), class_="gates") if runs else None,
        facts((("As of", when(at)),)),
        tag("p", said, class_="note") if said else None,
        notes,
        class_="verdict plan",
        aria_label="Summary",
    )


def state_badge(state: State) -> Markup:
    """What became of a run."""
    kind, sign = KINDS[state]
    said = "crashed: its process is gone" if state is State.CRASHED else state.value
    return badge(said, kind, sign)


def run_section(pair: Pair, identifier: str) -> Markup:
    """One run with its figures, checks and findings."""
    return section(identifier, pair[0].job, run_body(pair))


def run_body(pair: Pair) -> Markup:
    """What stands in the section of a run."""
    shown, drawn = pair
    figures = tag("div", joined(_figures(shown, drawn)), class_="figures")
    ended = (
        tag("p", tag("b", "Reason "), shown.reason, class_="text") if shown.reason else None,
        tag("p", tag("b", "Fix "), shown.remedy, class_="text") if shown.remedy else None,
    )
    card = tag("article", *ended, class_="card fail") if any(ended) else None
    return joined((_progress(shown), card, figures, _checks(shown), _notes(shown)))


def _progress(shown: View) -> Markup:
    total = f" of {shown.total:,}" if shown.total else ""
    share = f" ({100 * shown.step / shown.total:.0f} %)" if shown.total else ""
    return facts(
        (
            ("State", state_badge(shown.state)),
            ("Step", f"{shown.step:,}{total}{share}"),
            ("Epoch", number(round(shown.epoch, 2)) if shown.epoch is not None else None),
            ("Started", moment(shown.started_at, shown.at) if shown.started_at else None),
            ("Ended", moment(shown.ended_at, shown.at) if shown.ended_at else None),
            ("Elapsed", clock(shown.gone) if shown.gone is not None else None),
            ("Remaining", clock(shown.to_go) if shown.to_go is not None else None),
            ("Model", shown.model),
            ("Device", shown.device),
            ("Checkpoint", _saved(shown)),
            ("Rows", _rows(shown)),
        ),
        "facts numbers",
    )


def _saved(shown: View) -> str:
    if shown.saved is None:
        return "none"
    return f"{shown.saved.newest}, {'complete' if shown.saved.is_complete else 'incomplete'}"


def _rows(shown: View) -> str | None:
    if shown.rows is None:
        return None
    packed = shown.blocks is not None and shown.blocks != shown.rows
    return counted(shown.rows, "row") + (f" in {counted(shown.blocks or 0, 'block')}" if packed else "")


def _figures(shown: View, drawn: Curves) -> Iterator[Markup]:
    last = float(shown.total or 0)
    losses = [Curve("training", drawn.loss, 0), Curve("evaluation", drawn.eval_loss, 1)]
    known = [one for one in losses if one.points]
    if known:
        ends = [Part(one.name, 0, number(round(one.points[-1][1], 4)), one.colour) for one in known]
        said = "Loss by step: " + ", ".join(f"{one.name} ends at {one.written}" for one in ends)
        yield figure("Loss", curves(known, ("step", "loss"), said, last=last), legend(ends))
    else:
        words = "no loss was logged" if shown.state.over else "no loss has been logged yet"
        yield figure("Loss", note=words)
    expected = shown.expected or {}
    yield from _measured(
        "Speed", "tokens/s", drawn.tokens_per_second, expected.get("tokens_per_second"), last
    )
    yield from _measured("Peak memory", "GiB", drawn.memory_peak_gib, expected.get("memory_gib"), last)


def _measured(
    title: str, unit: str, points: Sequence[tuple[float, float]], expected: Span | None, last: float
) -> Iterator[Markup]:
    """A number over the run, with the interval that the plan expected on its ground."""
    if not points:
        return
    held = f"expected {_span(expected)}" if expected is not None else "nothing to compare it with"
    band = Band(expected.low, expected.high, "expected") if expected is not None else None
    ends = rounded(points[-1][1])
    said = f"{title} by step in {unit}: it ends at {ends}; {held}"
    drawing = curves([Curve(title, points, 0)], ("step", unit), said, band=band, last=last)
    source = f", by {expected.source}" if expected is not None and expected.source else ""
    yield figure(title, drawing, note=f"last {ends} {unit}; {held}{source}")


def rounded(value: float) -> str:
    """A measured number without digits that nobody measured."""
    return number(round(value) if abs(value) >= 100 else round(value, 2))


def _span(expected: Span) -> str:
    if expected.low is None:
        return f"at most {number(expected.high)}"
    if expected.high is None:
        return f"at least {number(expected.low)}"
    return f"{number(expected.low)} to {number(expected.high)}"


def _checks(shown: View) -> Markup:
    rows = ((one.name, _outcome(one.outcome), one.reason or one.summary) for one in shown.watched)
    inside = table("Checks during training", CHECKS, rows, stacked=True)
    found = joined(tag("li", found_words(one), class_="text") for one in shown.found)
    return joined(
        (
            tag("h3", "Checks during training") if inside else None,
            inside,
            tag("h3", f"Findings ({len(shown.found)})") if shown.found else None,
            tag("ul", found, class_="notes") if shown.found else None,
        )
    )


def _outcome(name: str) -> Markup:
    kind = kind_of(Outcome(name)) if name in set(Outcome) else "broken"
    return badge(name, kind, SIGNS.get(name, "?"))


def _notes(shown: View) -> Markup:
    told = joined(tag("li", near_note(one), class_="text") for one in shown.notes)
    return tag("ul", told, class_="notes") if shown.notes else Markup("")
