"""The jobs of a report as figures: lengths, packing, memory against the card, share of the loss."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from ftcheck.digest import beginning
from ftcheck.plurals import counted
from ftcheck.records import Measurement, Result
from ftcheck.report import sampled, wording
from ftcheck.report.html.elements import facts, joined, section, tag
from ftcheck.report.html.figures import GREY, Bar, Mark, Part, bars, figure, histogram, legend, stacked
from ftcheck.report.html.verdict import gate_badge
from ftcheck.report.record import JobDigests, Report

HISTOGRAM = "histogram"
"""The measurement of `percentile-seq-len` that holds the bins of a histogram as text."""
SEEN = 0.05
"""GiB from which on a part of the memory is named."""
CARD_GIB = "card_gib"
"""The measurement of `memory-fit` that says what the card has."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the checks of one job measured, by rule and name."""

    results: Mapping[str, Result]

    @classmethod
    def of(cls, report: Report, job: str) -> "Measured":
        """The results of a job; of two checks of one rule the first."""
        found: dict[str, Result] = {}
        for result in report.results:
            if result.check.job == job:
                found.setdefault(result.check.rule, result)
        return cls(found)

    def one(self, rule: str, name: str) -> Measurement | None:
        """A measurement, if its check made it."""
        result = self.results.get(rule)
        return next((m for m in result.measurements if m.name == name), None) if result is not None else None

    def number(self, rule: str, name: str) -> float | None:
        """The value of a measurement that is a number."""
        found = self.one(rule, name)
        value = found.value if found is not None else None
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def text(self, rule: str, name: str) -> str:
        """The value of a measurement that is text."""
        found = self.one(rule, name)
        return found.value if found is not None and isinstance(found.value, str) else ""

    def valued(self, rule: str, name: str) -> str | None:
        """A number as it is shown, with its interval where it was counted on a sample."""
        found = self.one(rule, name)
        return sampled.valued(found) if found is not None and found.value is not None else None

    def limit(self, rule: str, name: str) -> float | None:
        """The number that a measurement must not exceed: of the limit `<= 768` it is 768."""
        found = self.one(rule, name)
        said = (found.limit or "") if found is not None else ""
        try:
            return float(said.removeprefix("<=")) if said.startswith("<=") else None
        except ValueError:
            return None

    def said(self, rule: str) -> str:
        """What a check says of itself, or why it measured nothing."""
        result = self.results.get(rule)
        if result is None:
            return ""
        return wording.telling(result) if result.measurements else wording.reason_of(result)


def jobs(report: Report) -> Markup:
    """A card for each job."""
    names = list(dict.fromkeys((*report.jobs, *(one.check.job for one in report.results if one.check.job))))
    return section("jobs", f"Jobs ({len(names)})", joined(_card(report, name) for name in names))


def _card(report: Report, job: str) -> Markup:
    measured = Measured.of(report, job)
    drawn = joined(made for draw in (lengths, packing, memory, loss) if (made := draw(measured)) is not None)
    head = tag("h3", job, " ", gate_badge(report, job))
    none = tag("p", "No figures: no check measured lengths, packing, memory or the loss mask.", class_="note")
    figures = tag("div", drawn, class_="figures") if drawn else none
    return tag(
        "article", head, _numbers(measured), figures, _digests(report.jobs.get(job)), class_="card job"
    )


def _numbers(measured: Measured) -> Markup:
    """The job's numbers at a glance."""
    said = (
        ("Rows", measured.valued("percentile-seq-len", "rows")),
        ("Tokens", measured.valued("percentile-seq-len", "tokens")),
        ("Steps", measured.said("schedule") or None),
        ("A step", measured.said("tokens-per-step") or None),
        ("Time", measured.said("run-time") or None),
        ("Cost", measured.said("cost") or None),
    )
    return facts(said, "facts numbers")


def _digests(found: JobDigests | None) -> Markup:
    if found is None:
        return Markup("")
    ids = str(found.ids_from) if found.ids_from is not None else None
    return facts((("Ids", ids), ("Digest of ids and labels", short(found.ids))), "facts")


def short(digest: str | None) -> Markup | None:
    """The beginning of a digest; the whole of it is what is copied."""
    if digest is None:
        return None
    copy = tag(
        "button", "Copy", type="button", class_="copy js", data_copy=digest, aria_label=f"Copy {digest}"
    )
    return tag("span", tag("code", beginning(digest, 12), title=digest), copy, class_="copyable")


def bins_of(text: str, unit: str | None) -> tuple[list[int], int]:
    """The bins of a histogram, and how many tokens each is wide; none where the text is no histogram."""
    words = (unit or "").split()
    try:
        width = next((int(one) for one in words if one.isdecimal()), 1)
        return [int(one) for one in text.split()], width
    except ValueError:
        return [], 1


def _undrawn(title: str, said: str) -> Markup | None:
    """What a check says that measured nothing to draw; nothing of a check that was not planned."""
    return figure(title, note=said) if said else None


def lengths(measured: Measured) -> Markup | None:
    """The histogram of the rows' lengths, with its percentiles and max_length."""
    rule = "percentile-seq-len"
    found = measured.one(rule, HISTOGRAM)
    bins, width = bins_of(str(found.value), found.unit) if found is not None else ([], 1)
    if not any(bins):
        return _undrawn("Lengths", measured.said(rule))
    return figure("Lengths", drawn_lengths(bins, width, *_percentiles(measured)), note=measured.said(rule))


def drawn_lengths(
    bins: list[int], width: int, percentiles: Mapping[str, float], limit: Mark | None
) -> Markup:
    """The histogram, with what stands in it as words."""
    marks = [Mark(value, f"{name} {value:,.0f}") for name, value in percentiles.items()]
    marks += [limit] if limit is not None else []
    said = ", ".join(f"{name} {value:,.0f}" for name, value in percentiles.items())
    return histogram(bins, width, marks, f"Histogram of {sum(bins):,} rows by tokens: {said}")


def _percentiles(measured: Measured) -> tuple[dict[str, float], Mark | None]:
    found: dict[str, float] = {}
    for name in ("p50", "p95", "p99"):
        value = measured.number("percentile-seq-len", name)
        if value is not None:
            found[name] = value
    result = measured.results["percentile-seq-len"]
    limits = (measured.limit("percentile-seq-len", one.name) for one in result.measurements)
    limit = next((one for one in limits if one is not None), None)
    return found, None if limit is None else Mark(limit, f"max_length {limit:,.0f}", "limit")


def packing(measured: Measured) -> Markup | None:
    """The blocks as planned beside TRL alone and the least there can be, with how full they are."""
    rule = "packing-efficiency"
    planned, trl = measured.number(rule, "blocks_planned"), measured.number(rule, "blocks_trl")
    if not planned or trl is None:
        return _undrawn("Packing", measured.said(rule))
    fill = measured.number(rule, "fill_planned") or 0.0
    rows = []
    for name, size in (
        ("as planned", planned),
        ("TRL alone", trl),
        ("best-fit over all rows", measured.number(rule, "blocks_best_fit")),
        ("lower bound", measured.number(rule, "blocks_lower_bound")),
    ):
        if size:
            full = min(1.0, fill * planned / size)
            rows.append(
                Bar(name, full, f"{counted(int(size), 'block')}, {_share(full)} full", size is planned)
            )
    said = "How full the blocks are: " + "; ".join(f"{one.name} {one.written}" for one in rows)
    return figure("Packing", bars(rows, said, most=1.0), note="the fuller the blocks, the fewer steps")


def memory(measured: Measured) -> Markup | None:
    """The parts of the peak against what the card has and the policy allows."""
    rule = "memory-fit"
    peak = measured.number(rule, "peak_gib")
    if peak is None:
        return _undrawn("Memory", measured.said(rule))
    low, high = measured.number(rule, "peak_gib_low"), measured.number(rule, "peak_gib_high")
    span = (low, high) if low is not None and high is not None else None
    return memory_figure(_parts(measured), peak, span, _limits(measured), measured.said(rule))


def memory_figure(
    parts: Mapping[str, float],
    peak: float,
    span: tuple[float, float] | None,
    limits: list[Mark],
    note: str,
    title: str = "Memory",
) -> Markup:
    """Memory as a stacked bar with its legend; what the parts leave of the peak is `other`."""
    rest = peak - sum(parts.values())
    sizes = {**parts, **({"other": rest} if rest >= SEEN else {})} if parts else {"peak": peak}
    shown = [Part(name, size, f"{size:.1f} GiB") for name, size in sizes.items() if size >= SEEN]
    within = f", {span[0]:.1f} to {span[1]:.1f}" if span else ""
    said = f"Peak memory {peak:.1f} GiB{within}: " + ", ".join(f"{one.name} {one.written}" for one in shown)
    said += "".join(f"; {one.name}" for one in limits)
    drawing = stacked(shown, "GiB", said, span=span, limits=limits)
    return figure(title, drawing, legend(shown), note=note)


def _parts(measured: Measured) -> dict[str, float]:
    """The parts of the memory that are measured, under the names that people know."""
    found = {
        shown: sum(measured.number("memory-fit", f"{one}_gib") or 0.0 for one in names)
        for shown, names in wording.MEMORY_PARTS.items()
    }
    return {name: size for name, size in found.items() if size}


def _limits(measured: Measured) -> list[Mark]:
    card, allowed = measured.number("memory-fit", CARD_GIB), measured.limit("memory-fit", "peak_gib")
    marks = (
        [Mark(card, f"{measured.text('memory-fit', 'card') or 'card'} {card:g} GiB", "limit")] if card else []
    )
    if allowed is not None and allowed != card:
        marks.append(Mark(allowed, f"allowed {allowed:g} GiB", "limit"))
    return marks


def loss(measured: Measured) -> Markup | None:
    """The share of the tokens that are in the loss."""
    share = measured.number("trained-tokens", "trained_share")
    if share is None:
        return _undrawn("Loss mask", measured.said("trained-tokens"))
    shown = [
        Part("in the loss", 100 * share, _share(share)),
        Part("masked", 100 * (1 - share), _share(1 - share), GREY),
    ]
    said = f"{_share(share)} of the tokens are in the loss"
    drawing = stacked(shown, "% of the tokens that are fed", said)
    note = measured.said("trained-tokens")
    return figure("Loss mask", drawing, legend(shown), note=note)


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"
