import pytest

from ftcheck.report.html.scale import Scale, label, ticks, top
from tests.report.html import worked


@pytest.mark.parametrize(("asked", "expected"), worked.TICKS.items())
def test_ticks_are_round_numbers_within_the_ends(
    asked: tuple[float, float, int], expected: list[float]
) -> None:
    assert ticks(*asked) == expected


def test_a_value_outside_stands_at_the_nearer_end() -> None:
    scale = Scale(0, 10, 100, 200)

    assert [scale.at(value) for value in (-5, 0, 2.5, 10, 99)] == [100, 100, 125, 200, 200]


def test_a_scale_without_width_holds_its_value() -> None:
    assert Scale(3, 3, 0, 50).at(3) == 0


@pytest.mark.parametrize(("value", "end"), [(155, 200), (0.93, 1.0), (16, 20), (0, 1.0), (50, 50)])
def test_an_axis_ends_at_the_first_round_number_that_holds_the_value(value: float, end: float) -> None:
    assert top(value) == pytest.approx(end)


@pytest.mark.parametrize(
    ("value", "said"), [(0.2, "0.2"), (1500, "1,500"), (50_000, "50k"), (1_500_000, "1.5M"), (2.0, "2")]
)
def test_ticks_are_written_short(value: float, said: str) -> None:
    assert label(value) == said
