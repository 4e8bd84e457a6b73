"""What renders a report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.report.record import Report


@dataclass(frozen=True)
class Reporter:
    """Renders a report as text for `-o NAME[=PATH]`; `suffix` is the usual file suffix."""

    name: str
    render: Callable[["Report"], str]
    suffix: str = ""
