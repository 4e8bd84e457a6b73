"""Lists the built-in rules."""

from ftcheck import Rule, hookimpl


@hookimpl
def ftcheck_rules() -> list[Rule]:
    """Offer every built-in rule."""
    return []
