"""The page of `ftcheck plan`: the same lines on a terminal and as Markdown; the numbers as JSON."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.estimate.interval import Verdict
from ftcheck.inputs.role_tokens import RoleTokens, Words
from ftcheck.packing.lengths import Histogram, TrainedPositions
from ftcheck.planning.plan_file import SCHEMA
from ftcheck.planning.records import (
    Cost,
    Figure,
    JobPlan,
    Lengths,
    OnSample,
    Option,
    Outlier,
    Packing,
    Target,
    Unplanned,
)
from ftcheck.plurals import agreeing, counted
from ftcheck.policy.paths import relative
from ftcheck.records import Location
from ftcheck.report.clean import clean
from ftcheck.report.escape import markdown_text
from ftcheck.report.wording import PREDICTED_BY, change_text, place

if TYPE_CHECKING:
    from ftcheck.cli.pages.screen import Screen

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
SPARKS = 16
"""Columns of a sparkline."""
LABEL = 9
PERCENTILES = (50, 95, 99)
TALK = 3
"""With more messages a row than this, turns are shown without -v too."""
SIGNS = {True: " holds", False: " does not hold", None: ""}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the page: a label (empty: it goes on), text, and whether only -v shows it.

    `style` is rich's. A `path` in front is never broken.
    """

    label: str
    text: str
    path: str = ""
    detail: bool = False
    style: str = ""


def lines(plan: JobPlan, *, fix: str | None = None, ascii_only: bool = False) -> Iterator[Line]:
    """The lines of a job's page. `fix` is the command that would write the best settings."""
    if plan.on_sample is not None:
        yield Line("sample", sample_text(plan.on_sample), style="yellow")
    yield from _lengths(plan, ascii_only=ascii_only)
    yield from _spoken(plan)
    yield from _packing(plan.packing, "of the sample: " if plan.on_sample is not None else "")
    yield from _step(plan)
    if plan.probe:
        yield Line("probe", plan.probe)
    yield from _memory(plan)
    yield from _time(plan)
    yield from _disk(plan)
    yield from (Line("serving" if not n else "", said) for n, said in enumerate(plan.serving))
    yield from _targets(plan.targets)
    yield from _better(plan)
    for note in plan.notes:
        yield Line("note", note, detail=True)
    if plan.changes and fix is not None:
        yield Line("write it", fix)


def headline(plan: JobPlan) -> str:
    """`mapper · Llama-3-8B-Instruct · QLoRA r 16 · 13,784 rows · 1.02 M tokens, 44.8 % trained`."""
    total = plan.lengths.total
    share = 100 * plan.lengths.trained.total / max(1, total.tokens)
    drawn = plan.on_sample
    rows = counted(total.sequences, "row") if drawn is None else f"a sample of {drawn.sample}"
    tokens = amount(total.tokens) if drawn is None else f"in all {between(drawn.tokens)}"
    parts = [plan.job, _name(plan.model), plan.how, rows]
    return " · ".join([*parts, f"{tokens} tokens, {share:.1f} % trained"])


def between(figure: Figure) -> str:
    """`5.10 M (5.00 M to 5.20 M)`."""
    likely, low = amount(figure.likely or 0), amount(figure.low or 0)
    return f"{likely} ({low} to {amount(figure.high)})" if figure.high is not None else f"at least {low}"


def sample_text(found: OnSample) -> str:
    """What of a plan on a sample is about the sample, and what about all rows."""
    return (
        f"only {found.sample} were prepared (seed {found.sample.seed}): lengths, shares, blocks and rows"
        " below are theirs, memory is that of their longest, and no packing plan of all rows is made; tokens,"
        " steps and time are those of all rows, with 95 % intervals"
    )


def _name(model: str) -> str:
    """A local folder's own name; a hub id as it is."""
    return Path(model).name if model.startswith(("/", ".", "~")) else model


def amount(count: float) -> str:
    """`74`, `49,152`, `1.02 M`, `3.1 billion`."""
    if count >= 1e9:
        return f"{count / 1e9:,.2f} billion"
    return f"{count / 1e6:,.2f} M" if count >= 1e6 else f"{count:,.0f}"


def sparkline(counts: Histogram, *, ascii_only: bool = False, width: int = SPARKS) -> str:
    """The histogram in so many characters, from 0 to the longest; what is there at all is seen."""
    bars = ASCII_BARS if ascii_only else BARS
    binned = counts.bins(width).tolist()
    top = max(binned, default=0) or 1
    return "".join(bars[-(-one * (len(bars) - 1) // top)] if one else " " for one in binned).strip()


def _lengths(plan: JobPlan, *, ascii_only: bool) -> Iterator[Line]:
    found = plan.lengths
    spark = sparkline(found.total, ascii_only=ascii_only)
    yield Line("lengths", f"{spark}  {_spread(found.total)}")
    if found.prompt is not None and found.completion is not None:
        yield Line("", f"prompt {_spread(found.prompt)}")
        yield Line("", f"completion {_spread(found.completion)}")
    yield from (Line("", said) for said in _advice(plan))
    if found.unpacked.length != found.packed.length or found.unpacked.why != found.packed.why:
        yield Line("", f"with packing: {found.packed.why}; without: {found.unpacked.why}", detail=True)
    yield from (Line("", _cost(one, found)) for one in found.costs if one.rows)
    if found.costs and not any(one.rows for one in found.costs):
        yield Line("", f"no row is longer than {found.costs[0].length:,} tokens: none to drop or truncate")
    for number_, one in enumerate(found.outliers):
        yield _outlier(one, first=not number_)


def _spread(counts: Histogram) -> str:
    if not counts.sequences:
        return "none"
    said = [f"p{one} {counts.percentile(one):,}" for one in PERCENTILES]
    return " · ".join([*said, f"max {counts.longest:,}"])


def _advice(plan: JobPlan) -> Iterator[str]:
    packed, plain = plan.lengths.packed, plan.lengths.unpacked
    used = packed if plan.packing is not None and plan.packing.used else plain
    if used.length is None:
        yield f"max_length: {used.why}"
        return
    stated = "null" if used.stated is None else f"{used.stated:,}"
    keep = used.length == used.stated
    said = f"max_length {stated}: keep" if keep else f"max_length {stated} -> {used.length:,}: {used.why}"
    if used is packed and plain.length is not None and plain.length != used.length:
        said += f", or {plain.length:,} without packing"
    if plain.needed < (plain.length or 0):
        said += f" ({plain.needed:,} would be enough, but targets.max_length requires more)"
    yield said


def _cost(one: Cost, found: Lengths) -> str:
    share = f"{100 * (1 - one.kept):.2f} %"
    said = [
        f"at {one.length:,}: {counted(one.rows, 'row')} longer",
        f"truncate loses {amount(one.truncated)} trained tokens ({share})",
        f"drop loses {amount(one.dropped)}",
    ]
    if one.untrained:
        said.append(f"{counted(one.untrained, 'row')} left with none")
    if one.pieces is not None:
        said.append(f"chunk makes {counted(one.pieces, 'piece')} and loses none")
    else:
        said.append("chunk is for plain text only")
    return " · ".join(said)


def _outlier(one: Outlier, *, first: bool) -> Line:
    lost = f", {one.trained_lost:,} of them cut off" if one.trained_lost else ""
    text = f"{one.length:,} tokens, {one.trained:,} trained{lost}"
    return Line("longest" if first else "", text, path=place(one.at), detail=not first)


def _spoken(plan: JobPlan) -> Iterator[Line]:
    """Tokens of the messages' contents: medians by role, by turn where rows have many; the rest with -v."""
    found = plan.role_tokens
    if found is None:
        if plan.role_tokens_problem:
            yield Line("by role", f"not counted: {plan.role_tokens_problem}")
        return
    drawn = [f"from a sample of {counted(found.rows, 'row')}"] if found.rows < found.total else []
    yield Line("by role", " · ".join([*(_said(one, found) for one in found.roles), _template(found), *drawn]))
    yield Line("", "tokens of a message's content alone: median (p95, share of all tokens)", detail=True)
    yield from (Line("", _said_in_full(one, found), detail=True) for one in found.roles)
    if found.messages > TALK * found.rows:
        yield Line("by turn", " · ".join([*(_said(one, found) for one in found.turns), *drawn]))
    for number_, one in enumerate(found.turns):
        yield Line("" if number_ else "by turn", _said_in_full(one, found), detail=True)
    if found.short:
        left = "the template drops some text, or merges it with its own"
        yield Line("", f"{counted(found.short, 'row')} with fewer tokens than their contents alone: {left}")


def _said(one: Words, found: RoleTokens) -> str:
    """`user 41 (p95 88, 35 %)`: the median, a p95 that is another one, the share of all tokens."""
    median, most = one.counts.percentile(50), one.counts.percentile(95)
    p95 = f"p95 {most:,}, " if most != median else ""
    return f"{_turn(one.name)} {median:,} ({p95}{100 * found.share(one.counts.tokens):.0f} %)"


def _said_in_full(one: Words, found: RoleTokens) -> str:
    counts = one.counts
    spread = " · ".join(f"p{each} {counts.percentile(each):,}" for each in (50, 95))
    share = f"{100 * found.share(counts.tokens):.1f} % of all tokens"
    messages = counted(counts.sequences, "message")
    return f"{_turn(one.name)}: {messages} · {spread} · max {counts.longest:,} · {share}"


def _turn(name: str) -> str:
    """`1st` for turn 1; roles as they are."""
    ends = {"1": "1st", "2": "2nd", "3": "3rd"}
    return ends.get(name, f"{name}th" if name.isdigit() else name)


def _template(found: RoleTokens) -> str:
    """What a row has besides the contents of its messages."""
    what = "template, tools and calls" if found.beside else "template"
    each = found.template / found.rows
    return f"{what} {each:,.0f} per row ({100 * found.share(found.template):.0f} %)"


def _packing(found: Packing | None, whose: str) -> Iterator[Line]:
    if found is None:
        yield Line("packing", "not possible: max_length is null")
        return
    fill = f"{100 * found.fill(found.planned):.1f} % full"
    blocks = f"{found.length:,} x {counted(found.planned, 'block')}"
    if found.used:
        alone = f"TRL alone {found.trl:,} ({100 * found.fill(found.trl):.1f} %)"
        bound = f"best-fit {found.best_fit:,} · lower bound {found.lower_bound:,}"
        yield Line("packing", f"{whose}{blocks} · {fill} · {alone} · {bound}")
        yield from _groupings(found)
        return
    percent = round(100 * found.padding)
    waste = f"off: {percent} % of the computed tokens are padding" if percent > 0 else "off: no padding"
    grouped = f"{100 * found.padding_by_length:.0f} % with train_sampling_strategy: group_by_length"
    yield Line("packing", f"{whose}{waste} · {grouped} · packed {blocks}, {fill}")
    yield from _groupings(found)


def _groupings(found: Packing) -> Iterator[Line]:
    """What other trainers would make of the same lengths."""
    if found.others:
        said = [f"{one.trainer} {one.blocks:,} ({100 * one.fill:.1f} %)" for one in found.others]
        first = found.others[0]
        sample = f", from a sample of {counted(first.sequences, 'sequence')}"
        part = sample if first.sequences < first.total else ""
        yield Line("", f"blocks of other trainers: {' · '.join(said)}{part}", detail=True)


def _step(plan: JobPlan) -> Iterator[Line]:
    step = plan.step
    rows = f"{step.batch} x {step.accumulation} x {step.devices} GPU{'s' * (step.devices > 1)}"
    said = [rows]
    if step.nominal is not None:
        target = f" (target {step.target[0]:,} to {step.target[1]:,})" if step.target else ""
        said.append(f"{step.nominal:,} tokens, {step.real:,} real{target}")
    else:
        said.append(f"about {step.real:,} tokens")
    yield Line("step", " · ".join([*said, steps_text(plan)]))
    if step.devices > 1 and plan.on_sample is None:
        yield Line("", _shares(plan))


def steps_text(plan: JobPlan) -> str:
    """`21 steps per epoch, 63 in total`, as intervals where a sample was planned with."""
    step, drawn = plan.step, plan.on_sample
    if drawn is None:
        return f"{counted(step.an_epoch, 'step')} per epoch, {step.total:,} in total"
    return f"{between(drawn.an_epoch)} steps per epoch, {between(drawn.total)} in total"


def _shares(plan: JobPlan) -> str:
    """What each of several GPUs trains, and what becomes of a last batch that is not full."""
    step, what = plan.step, "block" if plan.packing is not None and plan.packing.used else "row"
    least, most = min(step.shares), max(step.shares)
    each = counted(most, what) if least == most else f"{least:,} to {counted(most, what)}"
    rest = ""
    if step.filled:
        fill = agreeing(step.filled, "fills", "fill")
        rest = f"; {step.filled:,} more, outside of the loss, {fill} the last batch"
    elif step.repeated:
        repeat = agreeing(step.repeated, "is", "are")
        rest = f"; {counted(step.repeated, what)} {repeat} repeated, if the trainer does as accelerate"
    elif step.dropped:
        dropped = f"{counted(step.dropped, what)} {agreeing(step.dropped, 'is', 'are')} dropped"
        rest = f"; {dropped} (dataloader_drop_last)"
    return f"each GPU trains {each} per epoch{rest}"


def _memory(plan: JobPlan) -> Iterator[Line]:
    memory = plan.memory
    if not memory.known:
        yield Line("memory", memory_unknown(memory))
        if _verdict(plan) is not None:
            yield Line("", _fits(plan))
        return
    each = " on each GPU" if plan.step.devices > 1 else ""
    said = [f"{_gib(memory)} GiB{each}{_by(memory)}"]
    said += [f"{name} {value:.1f}" for name, value in memory.parts.items() if value >= 0.05]
    yield Line("memory", " · ".join(said))
    yield Line("", _fits(plan))
    yield from _assumed(memory)


def _gib(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.likely:.1f}"
    return f"{figure.likely:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def memory_unknown(memory: Figure) -> str:
    """Why nobody knows the memory, and the least that is needed where that is known."""
    return memory.why if memory.at_least is None else f"{memory.why}; at least {memory.at_least:.1f} GiB"


def _by(memory: Figure) -> str:
    """` replayed`, ` by formulas`, ` measured`: how the figure before it was found."""
    return f" {PREDICTED_BY[memory.by]}" if memory.by in PREDICTED_BY else ""


def _verdict(plan: JobPlan) -> Verdict | None:
    return None if plan.memory_limit is None else plan.memory.fits(plan.memory_limit)


def _fits(plan: JobPlan) -> str:
    memory, limit, verdict = plan.memory, plan.memory_limit, _verdict(plan)
    if limit is None or verdict is None:
        return f"whether it fits is unknown: {plan.memory_source}"
    where = f"{limit:g} GiB ({plan.memory_source})"
    if memory.high is None:
        return f"does not fit {where}: the least that it needs is more"
    high = memory.high if memory.needed is None else memory.needed[2]
    said = {
        "does not fit": f"does not fit {where}",
        "tight": f"tight: may or may not fit {where}",
        "fits": f"fits {where} with {limit - high:.1f} GiB to spare",
    }[verdict]
    return f"{said}; {largest}" if (largest := largest_batch(plan)) else said


def largest_batch(plan: JobPlan) -> str:
    """`the largest batch that fits is 8 (replayed)`; empty where none does, or nobody knows."""
    if not plan.largest_batch:
        return ""
    how = PREDICTED_BY.get(plan.largest_batch_by)
    return f"the largest batch that fits is {plan.largest_batch}{f' ({how})' if how else ''}"


def _time(plan: JobPlan) -> Iterator[Line]:
    time, cost = plan.time, plan.cost
    if not time.known:
        yield Line("time", time.why)
        return
    where = f"{counted(plan.step.devices, 'GPU')} ({time.of})" if time.of != "CPU" else "this CPU"
    said = [f"{span(time)} on {where}"]
    if time.rate is not None:
        slow, _, fast = time.rate
        said.append(f"{slow:,.0f} to {fast:,.0f} tokens/s")
    if cost.known and cost.low is not None and cost.high is not None:
        said.append(f"cost {cost.likely:,.2f} ({cost.low:,.2f} to {cost.high:,.2f})")
    yield Line("time", " · ".join(said))
    if not cost.known:
        yield Line("", f"cost {cost.why}", detail=True)
    yield from _assumed(time)
    yield from _assumed(cost)


def span(time: Figure) -> str:
    """`14 to 19 min`, `2.1 to 3.4 h`; the interval of an estimate in hours."""
    if time.low is None or time.high is None:
        return "unknown"
    unit, factor, digits = ("min", 60, 0) if time.high < 2 else ("h", 1, 1)
    if time.high * 60 < 2:
        unit, factor, digits = "s", 3600, 0
    return f"{time.low * factor:,.{digits}f} to {time.high * factor:,.{digits}f} {unit}"


def _disk(plan: JobPlan) -> Iterator[Line]:
    if plan.disk.likely is None:
        yield Line("disk", plan.disk.why)
        return
    size = plan.disk.likely
    said = f"{size:.1f} GiB" if size >= 0.1 else f"{size * 1024:.0f} MiB"
    yield Line("disk", f"at most {said}, {plan.disk_words}")
    yield from _assumed(plan.disk)


def _assumed(figure: Figure) -> Iterator[Line]:
    for said in figure.assumes:
        yield Line("", f"assumes {said}", detail=True)


def _targets(targets: Sequence[Target]) -> Iterator[Line]:
    for number_, one in enumerate(sorted(targets, key=lambda each: (each.holds is None, each.holds is True))):
        said = f"{one.name} {one.asked}{SIGNS[one.holds]}: {one.found}"
        said = f"{said}; {one.remedy}" if one.remedy else said
        label = "targets" if not number_ else ""
        yield Line(label, said, style="red" if one.holds is False else "")


def _better(plan: JobPlan) -> Iterator[Line]:
    options = plan.options
    stated = options[0]
    best = next((one for one in options if one.role == "best"), None)
    if best is None:
        said = "no better settings than the stated ones were found"
        if stated.problems:
            said = f"no settings meet all requirements; as stated: {', '.join(stated.problems)}"
        yield Line("better", said)
    for number_, one in enumerate(options if len(options) > 1 else ()):
        label = "better" if not number_ and best is not None else ""
        yield Line(label, option_text(one, stated))
    yield Line("", f"tried: {plan.searched}", detail=True)
    for change in plan.changes:
        yield Line("", change_text(change))


def option_text(one: Option, stated: Option) -> str:
    """A row of the trade-off, with what it gains on the stated settings."""
    said = [
        f"{one.role}: {'packed' if one.packing else 'not packed'} {one.length:,}",
        f"batch {one.batch} x {one.accumulation}",
        f"{one.nominal:,} tokens per step ({one.real:,} real)",
        counted(one.steps, "step"),
        f"{one.memory.likely:.1f} GiB{_by(one.memory)}" if one.memory.likely is not None else _unknown(one),
        span(one.hours) if one.hours.known else f"{amount(one.computed)} tokens computed per epoch",
    ]
    gain = _gain(one, stated)
    if gain:
        said.append(gain)
    if one.lost:
        said.append(f"loses {100 * one.lost:.2f} % of the trained tokens")
    return " · ".join([*said, *one.problems])


def _unknown(one: Option) -> str:
    least = one.memory.at_least
    return "memory unknown" if least is None else f"at least {least:.1f} GiB"


def _gain(one: Option, stated: Option) -> str:
    """What it takes compared with the stated settings: time, or tokens where the time is unknown."""
    if one is stated:
        return ""
    mine, theirs, what = one.hours.likely, stated.hours.likely, "time"
    if mine is None or theirs is None:
        mine, theirs, what = float(one.computed), float(stated.computed), "tokens"
    share = 100 * (1 - mine / theirs) if theirs else 0.0
    if abs(share) < 0.5:
        return f"the same {what}" if what == "time" else f"as many {what}"
    fewer = "less" if what == "time" else "fewer"
    return f"{abs(share):.0f} % {fewer if share > 0 else 'more'} {what}"


def show(plan: JobPlan, screen: "Screen", *, verbose: bool, fix: str | None = None) -> None:
    """Print a job's page."""
    from ftcheck.cli.pages.screen import tied_parts

    plan = clean(plan)
    plain = not _encodes(screen, BARS)
    screen.put([], tied_parts(headline(plan)), "bold")
    screen.blank()
    for line in lines(plan, fix=fix, ascii_only=plain):
        if line.detail and not verbose:
            continue
        prefix = [(f"{line.label:<{LABEL}} ", "bold")]
        if line.path:
            prefix.append((f"{line.path}  ", "cyan"))
        screen.put(prefix, tied_parts(line.text), line.style, hang=LABEL + 1)


def _encodes(screen: "Screen", text: str) -> bool:
    try:
        text.encode(screen.console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show_unplanned(found: Unplanned, screen: "Screen") -> None:
    """Print why a job has no plan."""
    found = clean(found)
    screen.put([(f"{found.job} · no plan", "bold")])
    screen.put([("  ", "")], found.reason, "red")


Page = Sequence[JobPlan | Unplanned]


def markdown(pages: Page) -> str:
    """All jobs as Markdown, everything shown."""
    parts = ["# ftcheck plan", ""]
    for page in map(clean, pages):
        if isinstance(page, Unplanned):
            parts += [f"## {markdown_text(page.job)}", "", f"No plan: {markdown_text(page.reason)}", ""]
            continue
        parts += [f"## {markdown_text(headline(page))}", "", "| | |", "|---|---|"]
        parts += [f"| {markdown_text(one.label)} | {markdown_text(_whole(one))} |" for one in lines(page)]
        parts.append("")
    return "\n".join(parts)


def _whole(line: Line) -> str:
    return f"{line.path}  {line.text}" if line.path else line.text


def as_json(pages: Page, policy: str) -> str:
    """All plans as JSON, `ftcheck.plan/1`: histograms as [tokens, count] pairs, the rest as recorded."""
    jobs = {one.job: _plain(clean(_near(one))) for one in pages}
    return json.dumps({"schema": SCHEMA, "policy": policy, "jobs": jobs}, indent=1, ensure_ascii=False) + "\n"


def _near(page: JobPlan | Unplanned) -> JobPlan | Unplanned:
    """Places relative to the current folder, as everywhere in reports."""
    if isinstance(page, Unplanned):
        return page
    outliers = tuple(replace(one, at=_relative(one.at)) for one in page.lengths.outliers)
    return replace(page, lengths=replace(page.lengths, outliers=outliers))


def _relative(at: Location) -> Location:
    from ftcheck.paths import near

    return at if at.path is None else replace(at, path=near(at.path))


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram | TrainedPositions):
        pairs = [[int(n), int(value.counts[n])] for n in value.counts.nonzero()[0]]
        return pairs if isinstance(value, Histogram) else {"positions": pairs, "exact": value.exact}
    if is_dataclass(value) and not isinstance(value, type):
        named = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return _summed_up(value, named)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _summed_up(value: Any, named: dict[str, Any]) -> dict[str, Any]:
    """What is worked out of a record stands beside it."""
    if isinstance(value, Lengths):
        named["percentiles"] = {f"p{one}": value.total.percentile(one) for one in (50, 90, 95, 99)}
        named |= {"max": value.total.longest, "rows": value.total.sequences, "tokens": value.total.tokens}
        named["trained_tokens"] = value.trained.total
    if isinstance(value, RoleTokens):
        template = {"tokens": value.template, "share": round(value.share(value.template), 6)}
        named |= {"roles": _told(value.roles, value), "turns": _told(value.turns, value)}
        named |= {"messages": value.messages, "template": template}
    if isinstance(value, Packing):
        named["fill_planned"] = round(value.fill(value.planned), 6)
    return named


def _told(parts: Sequence[Words], found: RoleTokens) -> list[dict[str, Any]]:
    """Roles or turns as JSON."""
    return [
        {
            "name": one.name,
            "messages": one.counts.sequences,
            "tokens": one.counts.tokens,
            "share": round(found.share(one.counts.tokens), 6),
            **{f"p{each}": one.counts.percentile(each) for each in (50, 95)},
            "max": one.counts.longest,
            "counts": _plain(one.counts),
        }
        for one in parts
    ]


def configuration(plans: Sequence[JobPlan], policy: str, folder: Path) -> str:
    """The optimised training configuration as JSON, `ftcheck.training-config/1`: arguments, and why.

    Local paths are relative to `folder`, where the file will be.
    """
    jobs = {
        plan.job: {**relative(plan.config, folder), "numbers": _numbers(plan)} for plan in map(clean, plans)
    }
    stated = Path(os.path.relpath(policy, folder)).as_posix()
    about = {"schema": "ftcheck.training-config/1", "policy": stated, "jobs": jobs}
    return json.dumps(_plain(about), indent=1, ensure_ascii=False) + "\n"


def _numbers(plan: JobPlan) -> dict[str, Any]:
    """What the settings were chosen by: the option, and the stated one beside it."""
    best = next((one for one in plan.options if one.role == "best"), plan.options[0])
    total = plan.lengths.total
    return {
        "chosen": best,
        "stated": plan.options[0],
        "searched": plan.searched,
        "lengths": {f"p{one}": total.percentile(one) for one in (50, 90, 95, 99)} | {"max": total.longest},
        "rows": total.sequences,
        "tokens": total.tokens,
        "trained_tokens": plan.lengths.trained.total,
        "targets": plan.targets,
        "changes": [change_text(one) for one in plan.changes],
        "memory_limit_gib": plan.memory_limit,
        "assumes": sorted({*best.memory.assumes, *best.hours.assumes}),
    }
