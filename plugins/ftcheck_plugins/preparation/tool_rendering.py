"""What the template made of tool rows, as codes with rows; and what to do where it raised on one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ftcheck.inputs import tool_remedies, tool_rendering
from ftcheck.inputs.prepared import RowError
from ftcheck_plugins.reading import tool_rows
from ftcheck_plugins.reading.row_formats import Example


def rendered_tools(examples: Sequence[Example], texts: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    """`tools:KIND-PART` for each way in which a row's tools are rendered otherwise than they stand there."""
    for row, (example, text) in enumerate(zip(examples, texts, strict=True)):
        if text is None or not tool_rows.has_tools(example):
            continue
        found = tool_rendering.look(example.turns, example.tools, text).differences
        yield from ((code, row) for code in sorted({f"tools:{one.kind}-{one.part}" for one in found}))


def written_calls(examples: Sequence[Example], texts: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    """`calls:written-alone`: an answer holds a call as text, in a row that has no tools otherwise."""
    joined = "\n".join(text for text in texts if text is not None)
    if not any(sign in joined for sign in tool_rows.SIGNS):
        return
    for row, example in enumerate(examples):
        if texts[row] is None or tool_rows.has_tools(example):
            continue
        if any(tool_rows.written(turn) for turn in example.turns):
            yield "calls:written-alone", row


def with_remedies(
    examples: Sequence[Example],
    row_errors: Mapping[int, RowError],
    render: Callable[[Example], tool_remedies.Render],
) -> dict[int, RowError]:
    """Errors of the template, with what to do where another way to write the row's calls is rendered.

    Tried on the first row of each message; `render` renders a row's messages with its own switches.
    """
    known: dict[str, str | None] = {}
    made = dict(row_errors)
    for row, trouble in row_errors.items():
        example = examples[row]
        if trouble.code != "template" or not tool_rows.has_tools(example):
            continue
        if trouble.message not in known:
            found = tool_remedies.remedy(example.turns, example.tools, render(example))
            known[trouble.message] = found.words if found is not None else None
        made[row] = replace(trouble, fix=known[trouble.message] or trouble.fix)
    return made
