"""The rule on the server's parser of tool calls: does it read what training teaches the model to write?"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from ftcheck import (
    Change,
    Finding,
    GoldSet,
    InputError,
    Inputs,
    Job,
    Location,
    Measurement,
    ModelConfig,
    Prepared,
    ServingSide,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
    tables,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import call_texts, tool_parsers
from ftcheck.inputs.row_texts import RowTexts
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_parsers import Format, FunctionCall, Unreadable
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.template.templates import training_text

AT_A_TIME = 200
"""Rows that are read again at once."""
FEW = 50
"""Rows that are looked at where nothing is to be judged."""
TWICE = "the arguments come back as a text: they are encoded twice"
SHOWN_WORDS = 400
"""Characters of a call that are shown where content may be."""


@dataclass(frozen=True)
class ToolParser:
    """Parameters of `tool-parser`."""

    max_lost_share: float = 0.01
    """Share of calls that the parser may read otherwise, or not at all, before it is an error."""
    max_turns: int = 500
    """Turns with calls that are parsed back; of more, so many are taken evenly from all rows."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that calls tools: its calls, its text as training renders it, the tools, and where it stands."""

    calls: tuple[FunctionCall, ...]
    text: str
    tools: Any
    at: Location


@dataclass(frozen=True, slots=True)
class Lost:
    """A turn whose calls are not read back as they were written, and why, in words without content."""

    turn: Turn
    why: str


@rule(
    "tool-parser",
    family="serving",
    cases="ftcheck_rules.serving.cases.tool_parser",
    only=("serving.tool_parser", "serving.engine"),
)
def tool_parser(
    job: Job,
    prepared: Prepared,
    tokenizer: Tokenizer,
    serving: ServingSide,
    model: ModelConfig,
    gold: GoldSet | None,
    inputs: Inputs,
    params: ToolParser,
) -> Iterator[Yield]:
    """The server's tool parser reads the calls that training teaches the model to write.

    A parser for another format finds no call in a perfect answer: users get the call as text, the tool is
    never run, and nothing in training shows it.

    Checked where serving.tool_parser is set: calls of gold items and of training rows are rendered with the
    training template, cut at the stop token, and parsed by that format's rules (the dated table
    tool_parsers.json, for vLLM's and SGLang's names); functions and arguments must come back, keys and
    parallel calls in any order, null arguments left aside. An error where more than max_lost_share of the
    calls do not, a warning below that, with the parser that reads them if there is one; and an error where
    vLLM would not start, because the tokenizer lacks the parser's token. Skipped for a parser that the
    table does not know. Tool rows for vLLM or SGLang without serving.tool_parser are `info`. Parameters:
    max_lost_share (default 0.01), max_turns (default 500).
    """
    engine, parser = job.serving.engine, job.serving.tool_parser
    engines = tables.load("tool_parsers")["engines"]
    if engine is not None and engine not in engines:
        yield Skip(f"serving.tool_parser is a setting of vLLM and SGLang; serving.engine is {engine}")
        return
    if parser is None:
        yield from _undeclared(job, prepared, tokenizer, model, inputs, params)
        return
    has_token = partial(call_texts.has_token, serving.tokenizer)
    form = tool_parsers.format_of(parser, engine, has_token)
    if form is None:
        known = " and ".join(one["name"] for key, one in engines.items() if engine in (None, key))
        as_of = tables.load("tool_parsers")["as_of"]
        reason = f"ftcheck does not know this tool parser of {known} (table of {as_of}), so it checks nothing"
        yield Skip(f"{reason}; it knows {', '.join(sorted(_known(engines, engine)))}")
        return
    turns, unreadable = _turns(prepared, tokenizer, gold, inputs, params)
    if not turns:
        yield Skip("no training row and no gold item calls a tool")
        return
    yield from _tokens(job, form, has_token)
    stops = serving.tokenizer.stop_ids | model.stop_ids
    lost = _lost(form, turns, serving.tokenizer, stops)
    calls, missed = sum(len(one.calls) for one in turns), sum(len(one.turn.calls) for one in lost)
    yield Measurement("calls", calls, unit="calls")
    yield Measurement("calls_lost", missed, unit="calls", limit=f"<= {params.max_lost_share:g} of them")
    yield Measurement("calls_unreadable", unreadable, unit="turns")
    yield Summary(f"{parser} reads {calls - missed:,} of {counted(calls, 'call')} as they were written")
    if lost:
        better = _better(job, turns, serving.tokenizer, stops)
        yield _finding(job, lost, calls, missed, better, params)


def _known(engines: Mapping[str, Any], engine: str | None) -> set[str]:
    return {name for key, one in engines.items() if engine in (None, key) for name in one["parsers"]}


def _undeclared(
    job: Job,
    prepared: Prepared,
    tokenizer: Tokenizer,
    model: ModelConfig,
    inputs: Inputs,
    params: ToolParser,
) -> Iterator[Yield]:
    """Tool rows, an engine that parses calls, and no parser: told, not judged."""
    turns, _ = _turns(prepared, tokenizer, None, inputs, replace(params, max_turns=FEW))
    if turns:
        assert job.serving.engine is not None
        name = tables.load("tool_parsers")["engines"][job.serving.engine]["name"]
        formats = call_texts.written_by(tokenizer, _render(tokenizer), model.stop_ids)
        parsers = [one for form in formats[:1] for one in tool_parsers.parsers_of(job.serving.engine, form)]
        fix = f"set serving.tool_parser: {parsers[0]}" if parsers else "set serving.tool_parser"
        yield Finding(
            f"training rows call tools, and serving.tool_parser is not set: {name} returns calls as text"
            " unless it is started with --tool-call-parser",
            Severity.INFO,
            at=job.at("serving.engine"),
            fix=fix,
        )
    yield Skip("serving.tool_parser is not set")


def _tokens(job: Job, form: Format, has_token: Callable[[str], bool]) -> Iterator[Finding]:
    missing = [one for one in form.tokens if not has_token(one)]
    if missing and job.serving.engine != "sglang":
        verb = agreeing(len(missing), "is not a token", "are not tokens")
        named = " and ".join(f"'{one}'" for one in missing)
        message = f"{named} {verb} of the served tokenizer, and the tool parser {job.serving.tool_parser}"
        fix = "serve the tokenizer that this parser is made for, or set the parser of the training template"
        yield Finding(
            f"{message} needs {agreeing(len(missing), 'it', 'them')}",
            at=job.at("serving.tool_parser"),
            fix=fix,
            why="vLLM looks the token up when it starts, and stops with an error where there is none.",
        )


# --- turns with calls -------------------------------------------------------------------------------------


def _render(tokenizer: Tokenizer, switches: Mapping[str, Any] | None = None) -> call_texts.Render:
    """Renders as training does, with what the row itself passes to the template."""

    def render(messages: Sequence[Message], prompt: bool, tools: Any) -> str:
        given = {**(switches or {}), **({} if tools is None else {"tools": tools})}
        return training_text(tokenizer, messages, prompt=prompt, **given)

    return render


def _turns(
    prepared: Prepared,
    tokenizer: Tokenizer,
    gold: GoldSet | None,
    inputs: Inputs,
    params: ToolParser,
) -> tuple[list[Turn], int]:
    """Gold items and training turns with calls; and how many cannot be rendered, or declare no real call."""
    found = chain(_of_gold(tokenizer, gold), _of_rows(prepared, tokenizer, inputs, params.max_turns))
    made = list(islice(found, params.max_turns))
    turns = [one for one in made if one is not None]
    return turns, len(made) - len(turns)


def _of_gold(tokenizer: Tokenizer, gold: GoldSet | None) -> Iterator[Turn | None]:
    for item in gold.items if gold is not None else ():
        if item.call_message is not None:
            yield _turn(_render(tokenizer), item.messages, item.call_message, item.tools, item.at)


def _of_rows(prepared: Prepared, tokenizer: Tokenizer, inputs: Inputs, most: int) -> Iterator[Turn | None]:
    """Turns with calls of at most so many rows, evenly taken from those that hold more than plain words."""
    candidates = [
        row for row in prepared.rows.remarks.get("structured", ()) if row not in prepared.row_errors
    ]
    chosen = candidates[:: max(1, -(-len(candidates) // most))]
    texts: RowTexts = inputs.get("row_texts")
    for start in range(0, len(chosen), AT_A_TIME):
        for row in texts.read(chosen[start : start + AT_A_TIME]):
            render, at = _render(tokenizer, row.template_kwargs), prepared.rows.at(row.index)
            for place, message in enumerate(row.messages):
                if message.get("role") == "assistant" and message.get("tool_calls"):
                    yield _turn(render, row.messages[:place], message, row.tools, at)


def _turn(
    render: call_texts.Render, before: Sequence[Message], answer: Message, tools: Any, at: Location
) -> Turn | None:
    try:
        calls = tool_parsers.declared(answer)
        text = call_texts.answer_text(render, before, answer, tools)
    except (InputError, Unreadable):
        return None
    return Turn(calls, text, tools, at)


# --- parsed back ------------------------------------------------------------------------------------------


def _lost(form: Format, turns: Sequence[Turn], served: Tokenizer, stops: Collection[int]) -> list[Lost]:
    found = ((turn, _why_lost(form, turn, served, stops)) for turn in turns)
    return [Lost(turn, why) for turn, why in found if why is not None]


def _why_lost(form: Format, turn: Turn, served: Tokenizer, stops: Collection[int]) -> str | None:
    """Why the parser does not read a turn's calls as they were written; None if it does."""
    text = call_texts.as_served(served, turn.text, stops, form)
    try:
        calls = tool_parsers.read(form, text, turn.tools)
    except Unreadable as error:
        return str(error)
    wanted, given = [[_without_nulls(one) for one in some] for some in (turn.calls, calls)]
    if tool_parsers.same_calls(wanted, given):
        return None
    if not calls:
        return tool_parsers.why_none(form, text)
    if sorted(one.name for one in wanted) != sorted(one.name for one in given):
        return "it reads other functions, or another number of calls"
    if any(isinstance(one.arguments, str) for one in given):
        return TWICE
    return "the arguments come back with other values"


def _without_nulls(call: FunctionCall) -> FunctionCall:
    if not isinstance(call.arguments, Mapping):
        return call
    return FunctionCall(call.name, {key: value for key, value in call.arguments.items() if value is not None})


def _better(job: Job, turns: Sequence[Turn], served: Tokenizer, stops: Collection[int]) -> str | None:
    """The engine's parser that reads all of these turns; None where it has none."""
    engine = job.serving.engine or "vllm"
    for form in tool_parsers.formats().values():
        names = tool_parsers.parsers_of(engine, form)
        whole = all(call_texts.has_token(served, one) for one in form.tokens) or engine == "sglang"
        if names and whole and not _lost(form, turns, served, stops):
            return names[0]
    return None


def _finding(
    job: Job, lost: Sequence[Lost], calls: int, missed: int, better: str | None, params: ToolParser
) -> Finding:
    parser = job.serving.tool_parser
    why, _ = Counter(one.why for one in lost).most_common(1)[0]
    first = next(one for one in lost if one.why == why)
    severity = Severity.ERROR if missed > params.max_lost_share * calls else Severity.WARNING
    read = "does not read" if missed == calls else f"misreads {missed:,} of"
    message = f"the tool parser {parser} {read} the {counted(calls, 'call')} as training writes them: {why}"
    change = None
    if why == TWICE:
        fix = "write the arguments of calls as JSON objects in the rows, not as JSON text"
    elif better is not None:
        fix = f"set serving.tool_parser: {better}, which reads all of them"
        change = Change(f"jobs.{job.name}.serving.tool_parser", parser, better)
    else:
        fix = (
            "train with the chat template that this parser is made for, or declare the template's own parser"
        )
    return Finding(
        message,
        severity,
        at=first.turn.at,
        fix=fix,
        change=change,
        why="The server returns such an answer as text, and no tool is called.",
        content=first.turn.text[:SHOWN_WORDS],
    )
