"""Plots of a plan's lengths as PNG and SVG: histogram, cumulative curve, what truncation would lose."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import MissingDependency, UsageError
from ftcheck.planning.records import JobPlan, Lengths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
PERCENTILES = (50, 95, 99)
SIZE, DPI = (8.0, 4.0), 120
COLOURS = ("#0e7490", "#b45309", "#b91c1c", "#6b7280")


def check() -> None:
    """Raises `MissingDependency` where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependency("--plots needs matplotlib", "report") from error


def write(plans: Sequence[JobPlan], folder: Path) -> tuple[Path, ...]:
    """Three plots a job, each as PNG and SVG, into `folder` (made if it is not there): the paths.

    Raises `UsageError` where the folder cannot be written. The same plan gives the same bytes.
    """
    check()
    draw = {"lengths": _histogram, "cumulative": _cumulative, "truncation": _truncation}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(
            path
            for plan in plans
            for name, drawn in draw.items()
            for path in _saved(drawn, plan, folder / f"{_file_name(plan.job)}-{name}")
        )
    except OSError as error:
        raise UsageError(f"--plots {folder}: {error.strerror or error}") from error


def _file_name(job: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in job)


def _saved(draw: Any, plan: JobPlan, stem: Path) -> list[Path]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "ftcheck", "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        draw(axes, plan)
        axes.spines[["top", "right"]].set_visible(False)
        paths = []
        for kind in FORMATS:
            path = stem.with_name(f"{stem.name}.{kind}")
            about = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(path, format=kind, metadata=about)
            paths.append(path)
    return paths


def _histogram(axes: "Axes", plan: JobPlan) -> None:
    import numpy as np

    found = plan.lengths
    width = max(1, -(-(found.total.longest + 1) // 120))
    binned = found.total.bins(120)
    axes.bar(np.arange(len(binned)) * width, binned, width=width, align="edge", color=COLOURS[0])
    _marks(axes, found, plan)
    axes.set_xlabel("tokens per row")
    axes.set_ylabel("rows" if width == 1 else f"rows per {width} tokens")
    axes.set_title(f"{plan.job}: {found.total.sequences:,} rows")


def _marks(axes: "Axes", found: Lengths, plan: JobPlan) -> None:
    for colour, one in zip(COLOURS[1:], PERCENTILES, strict=False):
        length = found.total.percentile(one)
        axes.axvline(length, color=colour, linestyle="--", linewidth=1, label=f"p{one} {length:,}")
    limit = plan.packing.length if plan.packing is not None and not plan.packing.used else None
    if limit is not None and limit <= 2 * found.total.longest:
        axes.axvline(limit, color="black", linewidth=1, label=f"max_length {limit:,}")
    axes.legend(frameon=False)


def _cumulative(axes: "Axes", plan: JobPlan) -> None:
    import numpy as np

    for name, colour, counts in (
        ("total", COLOURS[0], plan.lengths.total),
        ("prompt", COLOURS[1], plan.lengths.prompt),
        ("completion", COLOURS[2], plan.lengths.completion),
    ):
        if counts is not None and counts.sequences:
            share = 100 * np.cumsum(counts.counts) / counts.sequences
            axes.step(np.arange(len(share)), share, where="post", color=colour, label=name)
    axes.set_ylim(0, 101)
    axes.set_xlabel("tokens")
    axes.set_ylabel("% of rows with at most as many")
    axes.set_title(f"{plan.job}: cumulative lengths")
    axes.legend(frameon=False)


def _truncation(axes: "Axes", plan: JobPlan) -> None:
    import numpy as np

    trained = plan.lengths.trained
    beyond = np.concatenate([[0], np.cumsum(trained.counts[::-1])])[::-1]
    lost = 100 * beyond / max(1, trained.total)
    axes.plot(np.arange(len(lost)), lost, color=COLOURS[2])
    axes.axhline(1, color=COLOURS[3], linestyle="--", linewidth=1, label="1 %")
    needed = plan.lengths.unpacked.needed
    axes.axvline(needed, color=COLOURS[1], linestyle="--", linewidth=1, label=f"{needed:,} needed")
    axes.set_ylim(0, 101)
    axes.set_xlabel("max_length")
    axes.set_ylabel("% of trained tokens lost to truncation")
    axes.set_title(f"{plan.job}: what truncation would lose")
    axes.legend(frameon=False)
