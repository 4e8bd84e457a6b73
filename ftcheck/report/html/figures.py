"""Figures as SVG: each 360 units wide, so that its text can be read on a phone, with ticks on its axes.

What a figure shows it also says: `label` is read out in its place, and numbers stand beside colours.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from ftcheck.report.html.elements import joined, tag
from ftcheck.report.html.scale import Scale, label, top

WIDTH = 360.0
EDGE = 8.0
LINE = 12.0
"""Height of a line of text."""
FAR = 2.0
"""A limit above so many times the highest point would leave no room for the points."""
GREY = 8
"""The colour of what stands back, such as masked tokens."""
COLOURS = 9
"""Colours of parts that `page.css` knows."""
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that is marked on an axis by a line and its name."""

    at: float
    name: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole: its name, its size, how the size is written, and its colour (None: by its place)."""

    name: str
    size: float
    written: str
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, its length, what is written beside it; the `chosen` one stands out."""

    name: str
    size: float
    written: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A point, with the sign that stands for it, and the interval of its x value where it has one."""

    x: float
    y: float
    sign: str
    chosen: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over x, oldest first; `colour` is one of those of parts."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Band:
    """An interval on the y axis in which values were expected; an open end is None."""

    low: float | None
    high: float | None
    name: str


def figure(title: str, *inside: str | None, note: str | None = None, class_: str = "") -> Markup:
    """A figure with its title above and its explanation below."""
    said = tag("p", note, class_="note") if note else None
    return tag("figure", tag("figcaption", title), *inside, said, class_=f"figure {class_}".rstrip())


def histogram(bins: Sequence[int], width: int, marks: Sequence[Mark], said: str) -> Markup:
    """Rows by length: `bins[n]` rows have from n x `width` tokens on.

    `marks` are percentiles, and at most one of the kind `limit`: what is longer is drawn in its colour.
    """
    longest = len(bins) * width
    limit = next((one for one in marks if one.kind == "limit"), None)
    shown = [one for one in marks if one.at <= longest * 1.5]
    height, above = 150.0, 6 + LINE * max(1, len(shown))
    x = Scale(0, max([longest, *(one.at for one in shown)]), 40, WIDTH - EDGE)
    y = Scale(0, top(max(bins, default=0), 4), height - 34, above)
    cut = limit.at if limit is not None else math.inf
    lines = (_mark(x, one, row, above, y.start) for row, one in enumerate(shown))
    drawn = (*_y_axis(x, y, 4), *_bins(x, y, bins, width, cut), *lines)
    return _drawing(height, said, *drawn, *_x_axis(x, y.start, "tokens per row"))


def _bins(x: Scale, y: Scale, bins: Sequence[int], width: int, cut: float) -> Iterator[Markup]:
    """A box for each bin that holds rows; those beyond `cut` tokens have a colour of their own."""
    for n, count in enumerate(bins):
        if count:
            start, end = x.at(n * width), x.at((n + 1) * width)
            height = max(1.0, y.start - y.at(count))
            yield _box(
                start,
                y.start - height,
                max(1.0, end - start - 0.6),
                height,
                "over" if n * width > cut else "bar",
            )


def stacked(
    parts: Sequence[Part],
    unit: str,
    said: str,
    *,
    span: tuple[float, float] | None = None,
    limits: Sequence[Mark] = (),
) -> Markup:
    """Parts of a whole in one bar, the interval of the whole as a whisker above it, limits as lines."""
    whole = sum(one.size for one in parts)
    most = max([whole, *(span or ()), *(one.at for one in limits)])
    above = 8 + LINE * len(limits) + (12 if span else 0)
    x = Scale(0, most, EDGE, WIDTH - EDGE)
    drawn, begun = [], 0.0
    for number, part in enumerate(parts):
        start, end = x.at(begun), x.at(begun + part.size)
        drawn.append(_box(start, above, max(0.0, end - start), 26, _colour(part, number)))
        begun += part.size
    lines = (_mark(x, one, row, above, above + 30) for row, one in enumerate(limits))
    whisker = _whisker(x, span, above - 7) if span else ()
    base = above + 34
    room = _box(x.start, above, x.at(most) - x.start, 26, "room")
    return _drawing(base + 32, said, room, *drawn, *whisker, *lines, *_x_axis(x, base, unit))


def interval(low: float, likely: float, high: float, unit: str, written: str) -> Markup:
    """An estimate: a dot at its likely value, a bar from its low to its high end, `written` above it."""
    x = Scale(0, top(high), EDGE, WIDTH - EDGE)
    y = 32.0
    dot = tag("circle", cx=x.at(likely), cy=y, r=6, class_="dot")
    bar = _box(x.at(low), y - 5, max(2.0, x.at(high) - x.at(low)), 10, "span")
    return _drawing(
        y + 52,
        f"{written} {unit}",
        bar,
        dot,
        _text(x.start, 16, written, "start", "strong"),
        *_x_axis(x, y + 18, unit),
    )


def bars(rows: Sequence[Bar], said: str, *, most: float | None = None) -> Markup:
    """Bars below one another, each with its name and number above it."""
    x = Scale(0, most or max((one.size for one in rows), default=1.0), EDGE, WIDTH - EDGE)
    drawn = (part for row, one in enumerate(rows) for part in _bar(x, one, 34.0 * row))
    return _drawing(34.0 * len(rows) + 2, said, *drawn)


def scatter(
    points: Sequence[Point], names: tuple[str, str], said: str, *, limit: Mark | None = None
) -> Markup:
    """Points by two numbers, with the sign of each beside it; `names` are those of the axes, x first.

    `limit` is a value of y that must not be passed; one that is far above all points is only named.
    """
    height = 240.0
    widest = max([one.high if one.high is not None else one.x for one in points], default=1.0)
    highest = max((one.y for one in points), default=1.0)
    if limit is not None and limit.at <= FAR * highest:
        highest = max(highest, limit.at)
    x = Scale(0, top(widest * 1.04), 40, WIDTH - 14)
    y = Scale(0, top(highest * 1.04), height - 34, 24)
    bound = _across(x, y, limit) if limit is not None else ()
    drawn = (part for one in sorted(points, key=lambda each: each.chosen) for part in _point(x, y, one))
    return _drawing(
        height,
        said,
        *_y_axis(x, y, 5),
        *bound,
        *drawn,
        _text(2, 12, names[1], "start", "name"),
        *_x_axis(x, y.start, names[0]),
    )


def curves(
    shown: Sequence[Curve], names: tuple[str, str], said: str, *, band: Band | None = None, last: float = 0
) -> Markup:
    """Lines over x, on an axis from 0 to `last` or the last value; `band` is what was expected of them."""
    height = 200.0
    values = [value for one in shown for _, value in one.points]
    ends = [one for one in ((band.low, band.high) if band else ()) if one is not None]
    x = Scale(0, max([last, *(at for one in shown for at, _ in one.points)], default=1), 44, WIDTH - 14)
    y = Scale(0, top(max([*values, *ends], default=1.0) * 1.02), height - 34, 24)
    lines = (_line(x, y, one) for one in shown if one.points)
    ground = _ground(x, y, band) if band else ()
    return _drawing(
        height,
        said,
        *ground,
        *_y_axis(x, y, 4),
        *lines,
        _text(2, 12, names[1], "start", "name"),
        *_x_axis(x, y.start, names[0]),
    )


def legend(parts: Sequence[Part]) -> Markup:
    """The names and numbers of parts beside their colours."""
    items = (
        tag(
            "li",
            tag("span", class_=f"swatch {_colour(one, place)}", aria_hidden="true"),
            tag("span", one.name),
            tag("b", one.written),
        )
        for place, one in enumerate(parts)
    )
    return tag("ul", joined(items), class_="legend")


# --- what figures are made of -------------------------------------------------------------------------


def _colour(part: Part, place: int) -> str:
    return f"c{(place if part.colour is None else part.colour) % COLOURS}"


def _drawing(height: float, said: str, *parts: Markup) -> Markup:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", aria_label=said)


def _box(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    return tag("rect", x=x, y=y, width=width, height=height, class_=class_)


def _text(x: float, y: float, text: str, anchor: Anchor, class_: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def _rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _x_axis(x: Scale, y: float, name: str) -> Iterator[Markup]:
    """The line, ticks with their numbers, the name below them; the last tick is not written over the edge."""
    yield _rule(x.start, y, x.end, y, "axis")
    for one in x.ticks():
        at = x.at(one)
        yield _rule(at, y, at, y + 4, "axis")
        anchor: Anchor = "start" if at < 12 else "end" if at > WIDTH - 16 else "middle"
        yield _text(at, y + 15, label(one), anchor)
    yield _text(x.end, y + 28, name, "end", "name")


def _y_axis(x: Scale, y: Scale, about: int) -> Iterator[Markup]:
    for one in y.ticks(about):
        at = y.at(one)
        yield _rule(x.start, at, x.end, at, "grid")
        yield _text(x.start - 5, at + 4, label(one), "end")


def _mark(x: Scale, one: Mark, row: int, above: float, below: float) -> Markup:
    """A line down through the drawing, with its name in a row of its own at the top."""
    at, y = x.at(one.at), LINE * (row + 1) - 1
    anchor: Anchor = "end" if at > WIDTH * 0.55 else "start"
    shift = -4 if anchor == "end" else 4
    kind = f"mark {one.kind}".rstrip()
    return joined((_rule(at, y - 8, at, below, kind), _text(at + shift, y, one.name, anchor, kind)))


def _whisker(x: Scale, span: tuple[float, float], y: float) -> Iterator[Markup]:
    low, high = map(x.at, span)
    yield _rule(low, y, high, y, "whisker")
    for end in (low, high):
        yield _rule(end, y - 4, end, y + 4, "whisker")


def _bar(x: Scale, one: Bar, y: float) -> Iterator[Markup]:
    kind = "strong" if one.chosen else None
    yield _text(x.start, y + 12, one.name, "start", kind)
    yield _text(x.end, y + 12, one.written, "end", kind)
    yield _box(x.start, y + 18, x.end - x.start, 9, "room")
    yield _box(x.start, y + 18, max(1.0, x.at(one.size) - x.start), 9, "bar" if one.chosen else "other")


def _point(x: Scale, y: Scale, one: Point) -> Iterator[Markup]:
    at, up = x.at(one.x), y.at(one.y)
    if one.low is not None and one.high is not None:
        yield _rule(x.at(one.low), up, x.at(one.high), up, "whisker")
    kind = "chosen" if one.chosen else "other"
    yield tag("circle", cx=at, cy=up, r=9, class_=f"point {kind}")
    yield _text(at, up + 4, one.sign, "middle", f"sign {kind}")


def _across(x: Scale, y: Scale, limit: Mark) -> Iterator[Markup]:
    if limit.at > y.high:
        yield _text(x.end, 12, f"{limit.name}, above this", "end", "mark limit")
        return
    at = y.at(limit.at)
    yield _rule(x.start, at, x.end, at, "mark limit")
    yield _text(x.end, at - 4, limit.name, "end", "mark limit")


def _line(x: Scale, y: Scale, one: Curve) -> Markup:
    drawn = " L".join(f"{x.at(at):.1f} {y.at(value):.1f}" for at, value in one.points)
    if len(one.points) == 1:
        at, value = one.points[0]
        return tag("circle", cx=x.at(at), cy=y.at(value), r=3, class_=f"c{one.colour}")
    return tag("path", d=f"M{drawn}", class_=f"curve c{one.colour}")


def _ground(x: Scale, y: Scale, band: Band) -> Iterator[Markup]:
    high = y.at(band.high) if band.high is not None else y.end
    low = y.at(band.low) if band.low is not None else y.start
    yield _box(x.start, high, x.end - x.start, max(1.0, low - high), "band")
    yield _text(x.end - 4, max(high - 4, 22), band.name, "end", "name")
