"""The versions of libraries that ftcheck is tested with: `version_windows.json`, in words."""

from collections.abc import Mapping

from ftcheck import tables


def window_text(window: Mapping[str, str]) -> str:
    """A window of versions: `>= 5.3, < 6`."""
    return f">= {window['from']}" + (f", < {window['below']}" if "below" in window else "")


def tested_with(*packages: str) -> str:
    """The versions of some packages that the trainer is tested with, and the day of the table."""
    table = tables.load("version_windows")
    windows = {**table["stacks"]["check"], **table["stacks"]["qlora"]}
    stated = " and ".join(f"{name} {window_text(windows[name])}" for name in packages)
    return f"{stated} (as of {table['as_of']})"
