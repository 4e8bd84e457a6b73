import re
from xml.etree import ElementTree

import pytest

from ftcheck.report.html.figures import (
    Band,
    Bar,
    Curve,
    Mark,
    Part,
    Point,
    bars,
    curves,
    histogram,
    interval,
    scatter,
    stacked,
)
from tests.report.html import worked


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def boxes(svg: str, kind: str) -> list[tuple[float, float]]:
    """Where the boxes of a class begin, and how wide they are."""
    found = [one for one in drawn(svg).iter("rect") if re.fullmatch(kind, one.get("class", ""))]
    return [(float(one.get("x", "nan")), float(one.get("width", "nan"))) for one in found]


def texts(svg: str) -> list[str]:
    return [str(one.text) for one in drawn(svg).iter("text")]


def test_parts_stand_beside_one_another_to_scale() -> None:
    parts = [Part(f"part {size}", size, f"{size} GiB") for size in worked.BAR["parts"]]
    capacity = worked.BAR["capacity"]

    found = boxes(stacked(parts, "GiB", "memory", limits=[Mark(capacity, "card", "limit")]), r"c\d")

    room = 360 - 2 * 8
    scale = room / 350.0  # the hand-worked bar is 350 units wide
    assert [start - 8 for start, _ in found] == pytest.approx(
        [one * scale for one in worked.BAR["starts"]], abs=0.1
    )
    assert [width for _, width in found] == pytest.approx(
        [one * scale for one in worked.BAR["widths"]], abs=0.1
    )


def test_the_interval_of_the_whole_lies_above_the_bar_and_the_limit_crosses_it() -> None:
    svg = stacked(
        [Part("peak", 8, "8 GiB")], "GiB", "memory", span=(7, 9), limits=[Mark(16, "T4 16 GiB", "limit")]
    )
    lines = {one.get("class"): one for one in drawn(svg).iter("line") if one.get("class") != "axis"}

    assert float(lines["mark limit"].get("x1", "0")) == pytest.approx(352)
    whisker = next(one for one in drawn(svg).iter("line") if one.get("class") == "whisker")
    assert float(whisker.get("x1", "0")) == pytest.approx(8 + 7 / 16 * 344, abs=0.1)
    assert float(whisker.get("x2", "0")) == pytest.approx(8 + 9 / 16 * 344, abs=0.1)
    assert "T4 16 GiB" in texts(svg)


def test_what_max_length_cuts_is_drawn_in_a_colour_of_its_own_and_named() -> None:
    svg = histogram([0, 4, 9, 2, 1], 10, [Mark(20, "max_length 20", "limit")], "lengths")

    assert len(boxes(svg, "bar")) == 2  # from 10 and from 20: 20 tokens still fit
    assert len(boxes(svg, "over")) == 2
    assert "max_length 20" in texts(svg)


def test_a_limit_far_beyond_all_rows_is_not_drawn() -> None:
    assert "max_length 768" not in texts(
        histogram([0, 4, 9], 10, [Mark(768, "max_length 768", "limit")], "lengths")
    )


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    svg = interval(10, 20, 40, "minutes", "10 to 40, most likely 20")

    [(start, width)] = boxes(svg, "span")
    assert (start, width) == pytest.approx((8 + 344 / 4, 344 * 3 / 4), abs=0.1)
    assert float(next(drawn(svg).iter("circle")).get("cx", "0")) == pytest.approx(8 + 344 / 2)
    assert drawn(svg).get("aria-label") == "10 to 40, most likely 20 minutes"


def test_bars_are_to_scale_and_the_chosen_one_stands_out() -> None:
    svg = bars([Bar("ours", 1.0, "100 %", chosen=True), Bar("TRL", 0.5, "50 %")], "fill", most=1.0)

    assert [width for _, width in boxes(svg, "bar")] == [344.0]
    assert [width for _, width in boxes(svg, "other")] == [172.0]
    assert {"ours", "100 %", "TRL", "50 %"} <= set(texts(svg))


def test_the_chosen_point_is_drawn_last_and_a_limit_far_above_is_named_only() -> None:
    points = [Point(1, 2, "A", chosen=True, low=0.5, high=2), Point(2, 1, "B")]
    svg = scatter(points, ("hours", "GiB"), "said", limit=Mark(80, "80 GiB", "limit"))

    assert [one.get("class") for one in drawn(svg).iter("circle")] == ["point other", "point chosen"]
    assert "80 GiB, above this" in texts(svg)
    assert "20" not in texts(svg)  # the axis ends with the points, not with the limit


def test_curves_reach_from_the_first_step_to_the_last_that_is_planned() -> None:
    svg = curves(
        [Curve("loss", [(0, 4), (50, 2)])], ("step", "loss"), "said", last=100, band=Band(1, 2, "expected")
    )

    path = next(drawn(svg).iter("path")).get("d", "")
    xs = [float(one) for one in re.findall(r"[ML](\S+)", path)]
    assert xs == pytest.approx([44, 44 + (360 - 14 - 44) / 2])
    assert "expected" in texts(svg)


def test_texts_of_anybody_are_no_markup() -> None:
    svg = bars([Bar("<script>alert(1)</script>", 1, '"><img>')], '"><script>')

    assert "<script" not in svg
    assert texts(svg) == ["<script>alert(1)</script>", '"><img>']
