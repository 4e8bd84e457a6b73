"""The plan as a page that a lead decides from: four questions, each with its answer, figure and interval."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ftcheck.cli.pages.plan_page import (
    Page,
    amount,
    headline,
    largest_batch,
    memory_unknown,
    sample_text,
    span,
    steps_text,
)
from ftcheck.distribution import version
from ftcheck.inputs.role_tokens import RoleTokens
from ftcheck.planning.records import Cost, Figure, JobPlan, Lengths, Option, Packing, Target, Unplanned
from ftcheck.plurals import counted
from ftcheck.report.clean import clean
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, code, copyable, facts, folded, joined, prose, section, tag
from ftcheck.report.html.figures import (
    Bar,
    Mark,
    Part,
    Point,
    bars,
    figure,
    interval,
    legend,
    scatter,
    stacked,
)
from ftcheck.report.html.findings import change_line
from ftcheck.report.html.jobs import drawn_lengths, memory_figure
from ftcheck.report.html.shell import Document, document
from ftcheck.report.html.verdict import when
from ftcheck.report.wording import PREDICTED_BY, place

BINS = 60
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Planned:
    """What the plans are of: the policy's path and name, when they were made, and for each job the command
    that writes what is better.
    """

    path: str
    name: str
    at: str
    commands: Mapping[str, str]


def page(pages: Page, planned: Planned) -> str:
    """All jobs as one HTML file."""
    planned = clean(planned)
    made = [clean(one) for one in pages]
    sections = [(f"job-{number}", one.job) for number, one in enumerate(made)]
    jobs = joined(
        job_section(one, f"job-{number}", one.job, planned.commands.get(one.job))
        for number, one in enumerate(made)
    )
    body = joined((_top(made, planned), jobs))
    return document(Document("plan", f"Plan: {planned.name} · ftcheck", sections, body))


def started(policy: str) -> str:
    """What stands in the place of a plan while it is made: a plan that is killed leaves this."""
    policy = clean((policy,))[0]
    head = tag(
        "h1",
        tag("span", "!", class_="sign", aria_hidden="true"),
        "Not finished ",
        tag("span", policy, class_="policy"),
    )
    told = tag(
        "p", "The plan was started and wrote no result: it still goes on, or was stopped.", class_="lead"
    )
    body = tag("section", head, told, class_="verdict broken", aria_label="Summary")
    return document(Document("plan", f"Not finished: {policy} · ftcheck plan", [], body))


def _top(pages: Page, planned: Planned) -> Markup:
    ends = facts(
        (
            ("Policy", planned.path),
            ("Made", when(planned.at)),
            ("By", f"ftcheck {version()}"),
        )
    )
    head = tag("h1", "Plan ", tag("span", planned.name, class_="policy"))
    items = joined(map(_in_a_line, pages))
    return tag(
        "section", head, tag("ul", items, class_="gates"), ends, class_="verdict plan", aria_label="Summary"
    )


def _in_a_line(page: JobPlan | Unplanned) -> Markup:
    if isinstance(page, Unplanned):
        return tag("li", tag("b", page.job), " ", badge("no plan", "fail", "✗"), class_="gate")
    said, kind, sign = fit(page)
    took = f" {span(page.time)}" if page.time.known else ""
    return tag("li", tag("b", page.job), " ", badge(said, kind, sign), took, class_="gate")


def fit(plan: JobPlan) -> tuple[str, str, str]:
    """Whether it fits, in two words, with the kind and the sign of its badge."""
    verdict = None if plan.memory_limit is None else plan.memory.fits(plan.memory_limit)
    if verdict is None:
        return "fit unknown", "skip", "?"
    return {
        "does not fit": ("does not fit", "fail", "✗"),
        "tight": ("tight", "warn", "!"),
        "fits": ("fits", "pass", "✓"),
    }[verdict]


def job_section(
    page: JobPlan | Unplanned, identifier: str, heading: str, command: str | None = None
) -> Markup:
    """One job: the four answers, their figures, the trade-off, the targets, and what all of it assumes.

    `command` writes what is better.
    """
    if isinstance(page, Unplanned):
        card = tag("article", tag("p", page.reason, class_="text"), class_="card fail")
        return section(identifier, f"{heading}: no plan", card)
    drawn = (_lengths(page), _packing(page.packing), _memory(page), *_time(page), _roles(page.role_tokens))
    return section(
        identifier,
        heading,
        tag("p", sample_text(page.on_sample), class_="note") if page.on_sample is not None else None,
        tag("div", joined(_answers(page)), class_="answers"),
        tag("div", joined(drawn), class_="figures"),
        _better(page, command),
        _targets(page.targets),
        _costs(page.lengths),
        _details(page),
        note=headline(page).partition(" · ")[2],
    )


def _answers(plan: JobPlan) -> Iterator[Markup]:
    total = plan.lengths.total
    yield _answer("How long?", f"p95 {total.percentile(95):,} tokens", _long(plan))
    yield _answer("How full?", *_full(plan))
    yield _answer("Does it fit?", *_fits(plan))
    yield _answer("When, and for how much?", *_when(plan))


def _answer(question: str, answer: str | None, rest: str) -> Markup:
    return tag("div", tag("h3", question), tag("p", answer, class_="answer"), tag("p", rest, class_="note"))


def _long(plan: JobPlan) -> str:
    packed, plain = plan.lengths.packed, plan.lengths.unpacked
    used = packed if plan.packing is not None and plan.packing.used else plain
    stated = "null" if used.stated is None else f"{used.stated:,}"
    longest = f"the longest row has {plan.lengths.total.longest:,}"
    if used.length is None:
        return f"{longest}; no max_length: {used.why}"
    if used.length == used.stated:
        return f"{longest}; keep max_length {stated}"
    return f"{longest}; max_length {stated} → {used.length:,} is better"


def _full(plan: JobPlan) -> tuple[str, str]:
    found = plan.packing
    steps = steps_text(plan)
    if found is None:
        return "unknown", "max_length is null, so there are no blocks"
    if found.used:
        return (
            f"{100 * found.fill(found.planned):.1f} %",
            f"{counted(found.planned, 'block')} of {found.length:,}, {steps}",
        )
    return f"{100 * (1 - found.padding):.0f} %", f"packing is off: the rest is padding; {steps}"


def _fits(plan: JobPlan) -> tuple[Markup, str]:
    said, kind, sign = fit(plan)
    memory = plan.memory
    if not memory.known:
        limit = "" if plan.memory_limit is None else f" of {plan.memory_limit:g} GiB ({plan.memory_source})"
        return badge(said, kind, sign), f"{memory_unknown(memory)}{limit if memory.at_least else ''}"
    need = f"{memory.likely:.1f} GiB"
    if plan.memory_limit is None:
        return joined((need, " ", badge(said, kind, sign))), plan.memory_source
    of = f"of {plan.memory_limit:g} GiB ({plan.memory_source})"
    largest = f"; {largest_batch(plan)}" if plan.largest_batch else ""
    return joined((need, " ", badge(said, kind, sign))), f"{of}{largest}"


def _when(plan: JobPlan) -> tuple[str, str]:
    time, cost = plan.time, plan.cost
    if not time.known:
        return "unknown", time.why.removeprefix("unknown: ")
    price = f"{cost.low:,.2f} to {cost.high:,.2f}" if cost.low is not None and cost.high is not None else ""
    rate = f"{time.rate[0]:,.0f} to {time.rate[2]:,.0f} tokens/s" if time.rate is not None else ""
    on = f"on {counted(plan.step.devices, 'GPU')} ({time.of})" if time.of != "CPU" else "on this CPU"
    money = f"costs {price}" if price else f"cost {cost.why}"
    return span(time), "; ".join(one for one in (on, rate, money) if one)


# --- figures ------------------------------------------------------------------------------------------


def _lengths(plan: JobPlan) -> Markup:
    total = plan.lengths.total
    percentiles = {f"p{one}": float(total.percentile(one)) for one in PERCENTILES}
    packing = plan.packing
    stated = plan.lengths.packed.stated
    cuts = packing is None or not packing.used
    limit = None if stated is None else Mark(stated, f"max_length {stated:,}", "limit" if cuts else "")
    drawing = drawn_lengths(total.bins(BINS).tolist(), total.bin_width(BINS), percentiles, limit)
    found = plan.lengths
    spoken = facts(
        (
            name,
            ", ".join(f"p{one} {counts.percentile(one):,}" for one in PERCENTILES)
            + f", max {counts.longest:,}",
        )
        for name, counts in (("Prompt", found.prompt), ("Completion", found.completion))
        if counts is not None and counts.sequences
    )
    return figure("How long are the rows?", drawing, spoken)


def _packing(found: Packing | None) -> Markup | None:
    if found is None:
        return None
    planned = "as planned" if found.used else "if it were packed"
    rows = [
        _blocks(planned, found.planned, found, chosen=True),
        _blocks("TRL alone", found.trl, found),
        _blocks("best-fit over all rows", found.best_fit, found),
    ]
    rows += [
        Bar(one.trainer, one.fill, f"{one.blocks:,} blocks, {100 * one.fill:.1f} % full")
        for one in found.others
    ]
    rows.append(_blocks("lower bound of any packing", found.lower_bound, found))
    said = "How full the blocks are: " + "; ".join(f"{one.name} {one.written}" for one in rows)
    return figure("How full are the blocks?", bars(rows, said, most=1.0), note=_packing_note(found))


def _blocks(name: str, count: int, found: Packing, *, chosen: bool = False) -> Bar:
    full = min(1.0, found.fill(count))
    return Bar(name, full, f"{count:,} blocks, {100 * full:.1f} % full", chosen)


def _packing_note(found: Packing) -> str:
    sampled = next((one for one in found.others if one.sequences < one.total), None)
    drawn = f"; other trainers from a sample of {counted(sampled.sequences, 'sequence')}" if sampled else ""
    if found.used:
        return f"blocks of {found.length:,} tokens{drawn}"
    return f"packing is off: {100 * found.padding:.0f} % of the computed tokens are padding{drawn}"


def _memory(plan: JobPlan) -> Markup:
    memory, title = plan.memory, "Does it fit?"
    if memory.likely is None:
        return figure(title, note=memory_unknown(memory))
    edges = (memory.low, memory.high)
    ends = (memory.low, memory.high) if memory.low is not None and memory.high is not None else None
    marks = []
    if plan.card_gib is not None:
        marks.append(Mark(plan.card_gib, f"{plan.card or 'the card'} {plan.card_gib:g} GiB", "limit"))
    if plan.memory_limit is not None and plan.memory_limit != plan.card_gib:
        marks.append(Mark(plan.memory_limit, f"allowed {plan.memory_limit:g} GiB", "limit"))
    note = (
        f"{memory.likely:.1f} ({edges[0]:.1f} to {edges[1]:.1f}) GiB" if ends else f"{memory.likely:.1f} GiB"
    )
    how = PREDICTED_BY.get(memory.by)
    note = note if how is None else f"{note}, {how}"
    return memory_figure(memory.parts, memory.likely, ends, marks, note, title)


def _time(plan: JobPlan) -> Iterator[Markup]:
    time, cost = plan.time, plan.cost
    if time.likely is None or time.low is None or time.high is None:
        yield figure("When is it done?", note=time.why)
    else:
        unit, factor = ("minutes", 60) if time.high < 2 else ("hours", 1)
        yield _interval("When is it done?", time, factor, f"{unit} of training")
    if cost.likely is not None and cost.low is not None and cost.high is not None:
        yield _interval(
            "For how much?", cost, 1, f"at the price per hour ({cost.unit})" if cost.unit else "cost"
        )


def _interval(title: str, found: Figure, factor: float, unit: str) -> Markup:
    low, likely, high = (factor * (one or 0.0) for one in (found.low, found.likely, found.high))
    digits = 2 if high < 10 else 0
    written = f"{low:,.{digits}f} to {high:,.{digits}f}, most likely {likely:,.{digits}f}"
    return figure(title, interval(low, likely, high, unit, written))


def _roles(found: RoleTokens | None) -> Markup | None:
    if found is None:
        return None
    shares = [(one.name, found.share(one.counts.tokens)) for one in found.roles]
    shares.append(("template", found.share(found.template)))
    parts = [Part(name, 100 * share, f"{100 * share:.0f} %") for name, share in shares if share > 0]
    said = "Tokens by role: " + ", ".join(f"{one.name} {one.written}" for one in parts)
    drawing = stacked(parts, "% of all tokens", said)
    return figure("Whose tokens are they?", drawing, legend(parts))


# --- the trade-off ------------------------------------------------------------------------------------

SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTIONS = (
    Column("option", names=True),
    Column("settings"),
    Column("tokens per step", number=True),
    Column("steps", number=True),
    Column("memory, GiB", number=True),
    Column("memory is"),
    Column("takes", number=True),
    Column("loses", number=True),
    Column("remarks"),
)


def _better(plan: JobPlan, command: str | None) -> Markup:
    options = plan.options[: len(SIGNS)]
    if not options:
        return Markup("")
    best = next((one for one in options if one.role == "best"), None)
    chosen = best or options[0]
    found = "Better settings were found"
    rows = (_option(sign, one, chosen) for sign, one in zip(SIGNS, options, strict=False))
    return tag(
        "article",
        tag("h3", found if best is not None else "No better settings than the stated ones were found"),
        tag("div", _chart(plan, options, chosen), _beside(plan, command), class_="figures"),
        table(f"Settings that were tried for {plan.job}", OPTIONS, rows, stacked=True),
        class_="card job",
    )


def _beside(plan: JobPlan, command: str | None) -> Markup:
    """The changes that make the stated settings the chosen ones, the command, and what was tried."""
    changes = tag("ul", joined(tag("li", change_line(one)) for one in plan.changes), class_="remedies")
    return tag(
        "div",
        changes if plan.changes else None,
        tag("p", copyable(command, "the command")) if command else None,
        tag("p", f"Tried: {plan.searched}.", class_="note"),
        class_="beside",
    )


def _chart(plan: JobPlan, options: Sequence[Option], chosen: Option) -> Markup | None:
    timed = all(one.hours.likely is not None for one in options)
    known = [(sign, one) for sign, one in zip(SIGNS, options, strict=False) if one.memory.likely is not None]
    if len(known) < 2:
        return None
    minutes = timed and max(one.hours.high or 0 for _, one in known) < 2
    factor, unit = (60, "minutes") if minutes else (1, "hours")
    points = [
        Point(
            factor * (one.hours.likely or 0) if timed else float(one.computed),
            one.memory.likely or 0.0,
            sign,
            one is chosen,
            factor * one.hours.low if timed and one.hours.low is not None else None,
            factor * one.hours.high if timed and one.hours.high is not None else None,
        )
        for sign, one in known
    ]
    names = (f"{unit} of training" if timed else "tokens computed per epoch", "peak memory, GiB")
    limit = plan.memory_limit
    bound = Mark(limit, f"{limit:g} GiB", "limit") if limit is not None else None
    said = f"Memory by {names[0]} of {len(known)} settings; {_named(options, chosen)} is chosen"
    note = "lower and further left is better; the filled point is the chosen one"
    return figure("The trade-off", scatter(points, names, said, limit=bound), note=note)


def _named(options: Sequence[Option], chosen: Option) -> str:
    return f"{SIGNS[options.index(chosen)]} ({chosen.role})"


def _option(sign: str, one: Option, chosen: Option) -> tuple[str | None, ...]:
    mark = badge("chosen", "pass", "✓") if one is chosen else None
    packed = "packed" if one.packing else "not packed"
    return (
        joined((sign, " ", one.role, " ", mark)),
        f"{packed} {one.length:,}, batch {one.batch} x {one.accumulation}",
        f"{one.nominal:,}",
        f"{one.steps:,}",
        _within(one.memory),
        PREDICTED_BY.get(one.memory.by, ""),
        span(one.hours) if one.hours.known else f"{amount(one.computed)} tokens per epoch",
        f"{100 * one.lost:.2f} %" if one.lost else "nothing",
        "; ".join(one.problems),
    )


def _within(found: Figure) -> str:
    if found.likely is None:
        return "unknown" if found.at_least is None else f"at least {found.at_least:.1f}"
    if found.low is None or found.high is None:
        return f"{found.likely:.1f}"
    return f"{found.likely:.1f} ({found.low:.1f} to {found.high:.1f})"


# --- what stands below --------------------------------------------------------------------------------


def _targets(targets: Sequence[Target]) -> Markup:
    columns = (Column("target", names=True), Column("asked"), Column("found"), Column("holds"), Column("fix"))
    rows = ((one.name, one.asked, one.found, _holds(one), prose(one.remedy)) for one in targets)
    inside = table("Targets of the policy", columns, rows, stacked=True)
    return joined((tag("h3", "Targets"), inside)) if inside else Markup("")


def _holds(one: Target) -> Markup:
    if one.holds is None:
        return badge("unknown", "skip", "?")
    return badge("holds", "pass", "✓") if one.holds else badge("does not hold", "fail", "✗")


def _costs(found: Lengths) -> Markup:
    columns = (
        Column("max_length", names=True),
        Column("rows longer", number=True),
        Column("trained tokens lost if truncated", number=True),
        Column("if dropped", number=True),
        Column("rows left with none", number=True),
    )
    rows = (_cost(one) for one in found.costs if one.rows)
    inside = table("What a max_length costs", columns, rows, stacked=True)
    return joined((tag("h3", "What a max_length costs"), inside)) if inside else Markup("")


def _cost(one: Cost) -> tuple[str, ...]:
    share = f"{100 * (1 - one.kept):.2f} %"
    return (
        f"{one.length:,}",
        f"{one.rows:,}",
        f"{one.truncated:,} ({share})",
        f"{one.dropped:,}",
        f"{one.untrained:,}",
    )


def _details(plan: JobPlan) -> Markup:
    """What the numbers assume, what stands beside them, and the longest rows, folded away."""
    named = (("Memory", plan.memory), ("Time", plan.time), ("Cost", plan.cost), ("Disk", plan.disk))
    assumed = [(name, one) for name, found in named for one in found.assumes]
    told = joined(tag("li", tag("b", f"{name}: "), said, class_="text") for name, said in assumed)
    rest = [*plan.notes, *plan.serving, *([f"probe: {plan.probe}"] if plan.probe else []), _disk(plan)]
    columns = (Column("row", names=True), Column("tokens", number=True), Column("trained", number=True))
    longest = ((code(place(one.at)), f"{one.length:,}", f"{one.trained:,}") for one in plan.lengths.outliers)
    return joined(
        (
            folded(f"Assumptions ({len(assumed)})", tag("ul", told, class_="notes")) if assumed else None,
            folded(
                "Notes",
                tag("ul", joined(tag("li", one, class_="text") for one in rest if one), class_="notes"),
            ),
            folded("The longest rows", table("The longest rows", columns, longest)),
        )
    )


def _disk(plan: JobPlan) -> str:
    if plan.disk.likely is None:
        return f"disk: {plan.disk.why}"
    size = plan.disk.likely
    return (
        f"disk: at most {size:.1f} GiB, {plan.disk_words}"
        if size >= 0.1
        else f"disk: at most {size * 1024:.0f} MiB"
    )
