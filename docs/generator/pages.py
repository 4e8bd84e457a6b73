"""All generated pages, by their address below `docs/`. The same code gives the same text."""

from docs.generator import (
    command_line,
    exit_codes,
    gate,
    hooks,
    inputs,
    policy,
    python_api,
    report_schema,
    rules,
)


def pages() -> dict[str, str]:
    """The pages of the reference, as Markdown."""
    return {
        "reference/command-line.md": command_line.page(),
        "reference/exit-codes.md": exit_codes.page(),
        "reference/gate.md": gate.page(),
        "reference/hooks.md": hooks.page(),
        "reference/inputs.md": inputs.page(),
        "reference/policy.md": policy.page(),
        "reference/python.md": python_api.page(),
        "reference/report.md": report_schema.page(),
        **rules.pages(),
    }
