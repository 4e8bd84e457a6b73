"""Tool calls: are calls, results and definitions rendered as they stand in the rows, and do they agree?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ftcheck import (
    Finding,
    InputError,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import tool_calls as calling
from ftcheck.inputs import tool_remedies, tool_schemas
from ftcheck.inputs.arrow_nulls import fills_keys
from ftcheck.inputs.row_texts import ReadRow, RowTexts
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_rendering import Difference, look
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count
from ftcheck_rules.data.data import which
from ftcheck_rules.template.templates import training_text

NAMED = 5
"""So many names are listed in a finding."""
NO_SUPPORT = (
    "use a template that renders tool calls (model.chat_template), or write calls and definitions into the"
    " messages as text"
)


class Loss(NamedTuple):
    """How a finding tells of what a template does to tools: severity, what it says, and why it matters."""

    severity: Severity
    what: str
    why: str


LOSSES: Mapping[str, Loss] = {
    "tools:dropped-call": Loss(
        Severity.ERROR,
        "the template drops tool calls",
        "The call is not in the text: the model learns to answer with nothing where it should call.",
    ),
    "tools:dropped-definition": Loss(
        Severity.ERROR,
        "the template drops tool definitions",
        "The model learns to call functions that its prompt does not show.",
    ),
    "tools:dropped-result": Loss(
        Severity.ERROR,
        "the template drops the results of tool calls",
        "The model learns to answer without having read what the tool returned: it makes results up.",
    ),
    "tools:encoded-twice-argument": Loss(
        Severity.ERROR,
        "the template encodes the arguments of tool calls a second time",
        'The model learns to write arguments as quoted JSON ("{\\"…"), which tool parsers reject.',
    ),
    "tools:as-repr-argument": Loss(
        Severity.ERROR,
        "the template writes the arguments of tool calls as Python prints them ({'a': True})",
        "That is no JSON: tool parsers reject the calls that the model learns to write.",
    ),
    "tools:braced-argument": Loss(
        Severity.ERROR,
        "the template puts arguments that are texts between braces of its own ({{…}})",
        "It writes objects in another notation: the model learns calls that no parser of its format takes.",
    ),
    "tools:escaped-call": Loss(
        Severity.ERROR,
        "the template escapes the quotes around tool calls as in HTML (&#34;)",
        "The model learns to write entities instead of quotes: tool parsers reject its calls.",
    ),
    "tools:dropped-argument": Loss(
        Severity.ERROR,
        "the template drops arguments of tool calls",
        "The model learns to make calls without these arguments.",
    ),
    "tools:doubled-call": Loss(
        Severity.ERROR,
        "the template writes tool calls twice",
        "The model learns to make each call twice.",
    ),
    "tools:as-none-content": Loss(
        Severity.ERROR,
        "the template writes a content that is null as the word None, beside tool calls",
        "The model learns to say None before it calls a tool.",
    ),
    "tools:reordered-call": Loss(
        Severity.WARNING,
        "the template writes tool calls in another order",
        "Results no longer stand in the order of their calls.",
    ),
    "tools:reordered-result": Loss(
        Severity.WARNING,
        "the template writes the results of tool calls in another order",
        "Results no longer stand in the order of their calls.",
    ),
    "tools:as-none-argument": Loss(
        Severity.WARNING,
        "the template writes null arguments of tool calls as None or null",
        "The model learns to write the word, which is no value of the argument.",
    ),
    "tools:dropped-parameter": Loss(
        Severity.WARNING,
        "the template drops parameters from tool definitions",
        "The model learns to use arguments that its prompt does not show.",
    ),
    "tools:dropped-description": Loss(
        Severity.INFO,
        "the template drops descriptions from tool definitions",
        "The model cannot learn to choose by words that it does not see.",
    ),
}
"""By the code of the remark. The first that hold stand first."""
VANISHED = ("tools:dropped-call", "tools:dropped-definition", "tools:dropped-result")
"""Dropped together, these are one cause: the template knows no tools."""


@dataclass(frozen=True)
class ToolCalls:
    """Parameters of `tool-calls`."""

    max_wrong_share: float = 0.05
    """Share of the rows with calls that may contradict their definitions; above it, that is an error."""


@rule("tool-calls", family="data", cases="ftcheck_rules.data.cases.tool_calls")
def tool_calls(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs, params: ToolCalls
) -> Iterator[Yield]:
    """Tool calls, results and definitions are rendered as they stand in the rows, and agree with each other.

    Templates drop calls, encode arguments twice or print null, and raise nothing: the model learns to answer
    with nothing where it should call, or writes calls that no parser takes. Calls without definitions teach
    it to invent functions.

    In the text of every row with tools, each call (name, and each argument's value), each result and each
    definition is found again. Calls must be of functions that `tools` of the row defines (a column of another
    name is never read), with the required arguments, and valid by the declared JSON Schema (without its
    patterns; null keys of Parquet and Arrow files are left to `arrow-nulls`); each call but the last has its
    result, each result its call. Where another way to write the row is rendered rightly (arguments as
    objects or texts, one call per message, ids of nine characters), found by rendering it, that is the
    remedy. Rows on which the template raises are told by chat-template, with the same remedies. What 193 real
    templates do with tools: `python -m tests.faults.tools`. Skipped where no row has tools. Parameters:
    max_wrong_share (default 0.05): above that share of the calling rows, undeclared functions and wrong
    arguments are errors, up to it warnings.
    """
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    remarks = prepared.rows.remarks
    rows = set(remarks.get("tool-rows", ()))
    alone = remarks.get("calls:written-alone", ())
    raised = {row for row in rows if row in prepared.row_errors}
    yield Measurement("tool_rows", len(rows), unit="rows", statistic=Count())
    if not rows and not alone and not remarks.get("definitions:elsewhere"):
        yield Skip("no row has tool calls, results or definitions")
        return
    if rows and raised == rows and not alone:
        yield Skip(f"the template raises on all {counted(len(rows), 'row')} with tools: see chat-template")
        return
    calling_rows = set(remarks.get("calls", ()))
    for name, found in (("rows_with_calls", calling_rows), ("rows_raised", raised)):
        yield Measurement(name, len(found), unit="rows", statistic=Count())
    texts = len(remarks.get("arguments:text", ()))
    yield Measurement("text_arguments", texts, unit="rows", statistic=Count())
    looked = _Rows(tokenizer, prepared, inputs)
    findings = [
        *_losses(looked),
        *_undefined(looked),
        *_contradictions(looked, params, len(calling_rows)),
        *_definitions(looked),
        *_results(looked),
        *_written(looked),
    ]
    findings.sort(key=lambda one: -one.severity.rank)
    yield from findings
    said = f"{counted(len(rows), 'row')} with tools, {len(calling_rows):,} with calls"
    yield Summary(said + (f" · the template raises on {len(raised):,}" if raised else ""))


class _Rows:
    """Rows by code, and single ones read again to name things."""

    def __init__(self, tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs) -> None:
        self._tokenizer, self.prepared, self._inputs = tokenizer, prepared, inputs
        self._read: dict[int, ReadRow] = {}

    def having(self, code: str) -> list[int]:
        """Rows with this code, in order; those that are in trouble are told elsewhere."""
        found = self.prepared.rows.remarks.get(code, ())
        return [row for row in found if row not in self.prepared.row_errors]

    @cached_property
    def arrow(self) -> bool:
        """Whether keys may be null because other rows have them: `arrow-nulls` tells of those."""
        return any(map(fills_keys, self.prepared.rows.files))

    def read(self, row: int) -> ReadRow:
        """The row as it stands in its file. Raises `InputError` where that changed since."""
        if row not in self._read:
            texts: RowTexts = self._inputs.get("row_texts")
            [self._read[row]] = texts.read([row])
        return self._read[row]

    def render(self, row: ReadRow) -> tool_remedies.Render:
        """Renders other messages and tools as this row is rendered."""

        def render(messages: Sequence[Message], tools: Any) -> str:
            given = {} if tools is None else {"tools": tools}
            return training_text(self._tokenizer, messages, **given, **row.template_kwargs)

        return render

    def differences(self, row: int) -> list[Difference]:
        """What the template made of the row's tools."""
        read = self.read(row)
        try:
            text = self.render(read)(read.messages, read.tools)
        except InputError:
            return []
        return list(look(read.messages, read.tools, text).differences)

    def remedy(self, row: int) -> tool_remedies.Remedy | None:
        """Another way to write the row's tools with which nothing is lost."""
        read = self.read(row)
        return tool_remedies.remedy(read.messages, read.tools, self.render(read))

    def finding(
        self,
        rows: Sequence[int],
        what: str,
        severity: Severity,
        fix: str,
        why: str,
        content: str | None = None,
    ) -> Finding:
        """A finding about rows, at the first of them."""
        message = f"{what}{which(rows, self.prepared.rows)}"
        return Finding(message, severity, at=self.prepared.at(rows[0]), fix=fix, why=why, content=content)


def _names(names: Sequence[str]) -> tuple[str, str | None]:
    """` (get_weather, open_case)` for names that may be said; those that may be content, apart."""
    distinct = list(dict.fromkeys(names))
    known = [one for one in distinct if calling.said(one) is not None]
    others = [one for one in distinct if one not in known]
    more = ", …" if len(known) > NAMED else ""
    listed = f": {', '.join(known[:NAMED])}{more}" if known else ""
    return listed, ", ".join(others[:NAMED]) or None


# --- what the template makes of them -------------------------------------------------------------------


def _losses(looked: _Rows) -> Iterator[Finding]:
    """What the template drops, doubles, reorders or writes otherwise."""
    found = {code: rows for code in LOSSES if (rows := looked.having(code))}
    if "tools:dropped-call" in found and found.keys() >= {"tools:dropped-definition"}:
        yield _vanished(looked, {code: found.pop(code) for code in VANISHED if code in found})
    for code, rows in found.items():
        loss = LOSSES[code]
        if code == "tools:as-none-argument":
            # Told once: where the definition does not allow null, the finding about that tells of it.
            told = {*looked.having("arguments:null")}
            rows = [] if looked.arrow else [row for row in rows if row not in told]
        if not rows:
            continue
        kind, _, part = code.removeprefix("tools:").rpartition("-")
        shown = [one for one in looked.differences(rows[0]) if (one.kind, one.part) == (kind, part)]
        names, unsaid = _names([_called(one) for one in shown])
        remedy = looked.remedy(rows[0]) if loss.severity is Severity.ERROR else None
        fix = remedy.words if remedy is not None else _fix(code)
        words = [one.words for one in shown if one.words]
        content = "; ".join(filter(None, [unsaid, *words[:NAMED]])) or None
        yield looked.finding(rows, loss.what + names, loss.severity, fix, loss.why, content)


def _called(one: Difference) -> str:
    """What a difference is about, as one name: the function, its argument, or its parameter."""
    return f"{one.name}.{one.path}" if one.path else one.name


def _fix(code: str) -> str:
    if code == "tools:as-none-argument":
        return "remove null arguments from the calls, unless null is what the function is to be given"
    if code == "tools:as-none-content":
        return 'write content: "" beside tool_calls'
    if code.startswith("tools:dropped-definition"):
        return "use a template that renders tools, or write the definitions into the system message"
    return NO_SUPPORT


def _vanished(looked: _Rows, found: Mapping[str, Sequence[int]]) -> Finding:
    """Calls and definitions dropped together: one cause."""
    parts = {
        "tools:dropped-call": "tool calls",
        "tools:dropped-definition": "tool definitions",
        "tools:dropped-result": "results",
    }
    rows = found["tools:dropped-call"]
    listed = [f"the {parts[code]} of {counted(len(some), 'row')}" for code, some in found.items()]
    differences = looked.differences(rows[0])
    names, unsaid = _names([one.name for one in differences if one.part == "call"])
    remedy = looked.remedy(rows[0])
    loss = LOSSES["tools:dropped-call"]
    content = (
        "; ".join(filter(None, [unsaid, *[one.words for one in differences if one.words][:NAMED]])) or None
    )
    what = f"the template drops {', '.join(listed[:-1])} and {listed[-1]}{names}"
    return looked.finding(
        rows, what, loss.severity, remedy.words if remedy else NO_SUPPORT, loss.why, content
    )


# --- calls against definitions ----------------------------------------------------------------------------


def _undefined(looked: _Rows) -> Iterator[Finding]:
    """Calls in rows without definitions; definitions in a column that nothing reads."""
    elsewhere = looked.having("definitions:elsewhere")
    undefined = looked.having("calls:undefined")
    rows = sorted({*elsewhere, *undefined})
    if not rows:
        return
    total = len({*looked.having("tool-rows"), *rows})
    columns = sorted(
        code.removeprefix("definitions:in:")
        for code in looked.prepared.rows.remarks
        if code.startswith("definitions:in:")
    )
    why = "The definitions are not in the prompt: the model learns to call functions that it is not shown."
    share = f"{len(rows):,} of {counted(total, 'row')} with tools {agreeing(len(rows), 'has', 'have')} no"
    if elsewhere:
        named = f"the column {', '.join(columns)}" if columns else "another column"
        what = f"{share} definitions in tools: they are in {named}, which is not read"
        every = len(rows) == total
        severity = Severity.ERROR if every else Severity.WARNING
        fix = "rename the column to tools" if every else "copy the definitions into the column tools"
        yield looked.finding(rows, what, severity, fix, why)
        return
    null = looked.read(rows[0])
    empty = ": tools is null" if "tools" in null.data else ""
    what = f"{share} definitions of the functions that they call{empty}"
    fix = "write the definitions of the functions into tools, in every row that calls one"
    yield looked.finding(rows, what, Severity.WARNING, fix, why)


def _contradictions(looked: _Rows, params: ToolCalls, calling_rows: int) -> Iterator[Finding]:
    """Calls of undeclared functions, and arguments that are not what their function declares."""
    rows = looked.having("calls:undeclared")
    if rows:
        names, unsaid = _names(_undeclared(looked.read(rows[0])))
        yield looked.finding(
            rows,
            f"calls of a function that tools of the row does not define{names}",
            _above(len(rows), calling_rows, params.max_wrong_share),
            "add the definition to tools of these rows, or correct the name in the call",
            "The model learns to invent functions.",
            unsaid,
        )
    for kind, (what, fix, why) in WRONG.items():
        rows = looked.having(f"arguments:{kind}")
        if not rows or (kind == "null" and looked.arrow):
            continue
        names, content = _faulty(looked.read(rows[0]), kind)
        severity = (
            Severity.ERROR
            if kind == "not-json"
            else Severity.WARNING
            if kind in ("unknown", "null")
            else _above(len(rows), calling_rows, params.max_wrong_share)
        )
        yield looked.finding(rows, f"{what}{names}", severity, fix, why, content)


WRONG: Mapping[str, tuple[str, str, str]] = {
    "not-json": (
        "the arguments of calls are not a JSON object",
        'write them as an object: {"city": "Berlin"}',
        "The model learns to write calls that no parser takes.",
    ),
    "required": (
        "calls lack an argument that their function requires",
        "add the argument, or remove it from required in the definition",
        "The model learns to make calls that fail.",
    ),
    "schema": (
        "arguments of calls are not valid by the JSON Schema that their function declares",
        "correct the value in the call, or the schema in the definition",
        "The model learns to make calls that fail, and to ignore what a definition says.",
    ),
    "unknown": (
        "calls have arguments that their function does not declare",
        "declare the argument in the definition, or remove it from the call",
        "The model learns to invent arguments.",
    ),
    "null": (
        "arguments of calls are null, which the definition does not allow",
        "remove the keys that are null from the calls, or allow null in the definition",
        "The model learns to write null for what it should leave out.",
    ),
}
"""By what is wrong with arguments: what a finding says, fix and why."""


def _above(count: int, total: int, share: float) -> Severity:
    return Severity.ERROR if count > share * total else Severity.WARNING


def _undeclared(row: ReadRow) -> list[str]:
    defined = {one.name for one in calling.definitions(row.tools)}
    return [call.name for call in calling.calls(row.messages) if call.name not in defined]


def _faulty(row: ReadRow, kind: str) -> tuple[str, str | None]:
    """The names of arguments that are wrong, and the words about them."""
    parameters = {one.name: one.parameters for one in calling.definitions(row.tools)}
    told = [
        (call, fault)
        for call in calling.calls(row.messages)
        for fault in tool_schemas.faults(call.arguments, parameters.get(call.name))
        if fault.kind == kind
    ]
    names, unsaid = _names([f"{call.name}.{fault.path}" if fault.path else call.name for call, fault in told])
    words = [fault.words for _, fault in told if fault.words]
    return names, "; ".join(filter(None, [unsaid, *words[:NAMED]])) or None


def _definitions(looked: _Rows) -> Iterator[Finding]:
    """Definitions that are no JSON Schema, or that a server writes otherwise."""
    rows = looked.having("definitions:types")
    if rows:
        read = looked.read(rows[0])
        strange = {
            name: tool_schemas.TYPES.get(name.lower(), name.lower())
            for one in calling.definitions(read.tools)
            for name in tool_schemas.of(one.parameters).strange
        }
        known = {name: meant for name, meant in strange.items() if name.lower() in tool_schemas.KNOWN}
        listed = ", ".join(known)
        fixes = ", ".join(f"{name} as {meant or 'no type at all'}" for name, meant in known.items())
        yield looked.finding(
            rows,
            f"tool definitions have types that JSON Schema does not know{f': {listed}' if listed else ''}",
            Severity.WARNING,
            f"write {fixes}" if fixes else "use object, array, string, number, integer, boolean or null",
            "A server that validates tools refuses these definitions, so requests have others than training.",
            ", ".join(name for name in strange if name not in known) or None,
        )
    rows = looked.having("definitions:invalid")
    if rows:
        read = looked.read(rows[0])
        found = [
            (one.name, invalid)
            for one in calling.definitions(read.tools)
            if (invalid := tool_schemas.of(one.parameters).invalid) is not None
        ]
        names, unsaid = _names([name for name, _ in found])
        yield looked.finding(
            rows,
            f"parameters of tool definitions are not valid JSON Schema{names}",
            Severity.WARNING,
            "correct parameters: an object with type, properties and required",
            "A server that validates tools refuses these definitions, so requests have others than training.",
            "; ".join(filter(None, [unsaid, *[words for _, words in found]])) or None,
        )
    yield from _bare(looked)


def _bare(looked: _Rows) -> Iterator[Finding]:
    """Definitions without OpenAI's wrapper, where the template writes them otherwise with it."""
    rows = looked.having("definitions:bare")
    if not rows or any(one.part == "definition" for one in looked.differences(rows[0])):
        return
    read = looked.read(rows[0])
    render = looked.render(read)
    messages, tools = tool_remedies.wrapped(read.messages, read.tools)
    try:
        same = render(messages, tools) == render(read.messages, read.tools)
    except InputError:
        return
    if same or not tool_remedies.renders(messages, tools, render):
        return
    yield looked.finding(
        rows,
        'tool definitions have no wrapper {"type": "function", "function": ...}, and the template writes them'
        " otherwise with it",
        Severity.WARNING,
        'write each definition as {"type": "function", "function": {...}}',
        "Servers with OpenAI's API send definitions with the wrapper: prompts differ from the training rows.",
    )


# --- results and texts ------------------------------------------------------------------------------------

UNMATCHED: Mapping[str, tuple[str, str, str]] = {
    "results:none": (
        "tool calls are followed by another message without their result",
        "add the message with the result (role: tool), or end the row at the call",
        "The model learns to go on without waiting for what the tool returns.",
    ),
    "results:uncalled": (
        "results (role: tool) have no call before them",
        "add the call (tool_calls) to the assistant message before the result",
        "The model reads results of calls that it did not make, and does not learn to make them.",
    ),
    "results:ids": (
        "the tool_call_id of results is the id of no call before them",
        "give each result the id of its call",
        "Where several calls are made at once, the model learns to take one result for another.",
    ),
}
"""By code: what a finding says, fix and why."""


def _results(looked: _Rows) -> Iterator[Finding]:
    for code, (what, fix, why) in UNMATCHED.items():
        if rows := looked.having(code):
            yield looked.finding(rows, what, Severity.WARNING, fix, why)


def _written(looked: _Rows) -> Iterator[Finding]:
    """Calls that stand in answers as text."""
    rows = looked.having("calls:written")
    if rows:
        yield looked.finding(
            rows,
            "answers hold tool calls as text, in rows with tools",
            Severity.WARNING,
            "write the calls under tool_calls: the template writes them in the format that servers parse",
            "The calls that the model learns may not be in the format that the server's tool parser reads.",
        )
    alone = looked.having("calls:written-alone")
    if alone:
        yield looked.finding(
            alone,
            "answers hold tool calls as text, in rows without tools",
            Severity.INFO,
            "write calls under tool_calls and definitions under tools, unless this format is meant",
            "The calls that the model learns may not be in the format that the server's tool parser reads.",
        )
