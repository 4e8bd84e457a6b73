"""Turns with tool calls: do they end in a stop token that is in the loss, and are the results outside it?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck import (
    Change,
    Finding,
    Job,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
    tables,
    templates,
)
from ftcheck.extension.rules import Yield
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count, Share
from ftcheck_rules.labels.labels import unknown_stops

END = "call-end:"
TRAINED = "result-trained:"


@dataclass(frozen=True)
class StopAfterCall:
    """Parameters of `stop-after-call`."""

    min_stop_share: float = 0.99
    """Share of the rows with calls whose calls must end in a stop token in the loss, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """The special tokens behind a call, each with whether it is in the loss, and the rows that have it."""

    tokens: tuple[tuple[str, bool], ...]
    rows: tuple[int, ...]


@rule("stop-after-call", family="labels", cases="ftcheck_rules.labels.cases.stop_after_call")
def stop_after_call(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, model: ModelConfig, params: StopAfterCall
) -> Iterator[Yield]:
    """Each tool call ends in a token at which serving stops, in the loss, and no result is in the loss.

    A model that does not learn to stop after a call writes the result itself: the tool is never asked. A
    model that is trained on results learns to invent them.

    Looks behind each call that another message follows, in the rendered text of every row: between the call
    and the next message's words a stop token must stand (the tokenizer's EOS, what the template writes after
    an answer, eos_token_id of generation_config.json), in the loss as the trainer masks. A token that ends
    calls in the models that have it (`<|call|>`, `<|eom_id|>`, `<|observation|>`), and that generation_config
    .json does not list, is a warning. Results in the loss are an error with assistant_only_loss, and a
    warning in completions; where everything is in the loss, `trained-tokens` says so. How rows end that end
    in a call is left to `trained-tokens`. Parameter: min_stop_share (default 0.99).
    """
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    rows = _rows(prepared, "call-ends")
    unclear = _rows(prepared, "calls-unclear")
    if not rows:
        reason = "no row has a tool call that another message follows"
        if unclear:
            reason = f"the calls of {counted(len(unclear), 'row')} are not found in the rendered text"
        yield Skip(reason)
        return
    endings = _endings(prepared)
    stops = {tokenizer.show([one]) for one in tokenizer.stop_ids | model.stop_ids}
    bad = {
        row
        for one in endings
        if not any(token in stops and trained for token, trained in one.tokens)
        for row in one.rows
    }
    yield Measurement("rows_with_calls", len(rows), unit="rows", statistic=Count())
    share = round(1 - len(bad) / len(rows), 6)
    limit, among = f">= {params.min_stop_share:g}", Share(len(rows) - len(bad), len(rows))
    yield Measurement("stop_trained", share, limit=limit, statistic=among)
    yield from _without_stop(tokenizer, prepared, model, endings, stops, len(rows), params)
    yield from _results(job, tokenizer, prepared, len(rows))
    good = len(rows) - len(bad)
    has = agreeing(len(rows), "stops after its calls", "stop after their calls")
    yield Summary(f"{good:,} of {counted(len(rows), 'row')} with tool calls {has}")


def _rows(prepared: Prepared, code: str) -> list[int]:
    return [row for row in prepared.rows.remarks.get(code, ()) if row not in prepared.row_errors]


def _endings(prepared: Prepared) -> list[_Ending]:
    """What stands behind the calls of the rows, each with its rows."""
    found = []
    for code in prepared.rows.remarks:
        if code.startswith(END):
            tokens = tuple((one[1:], one[0] == "+") for one in code[len(END) :].split(" ") if one)
            found.append(_Ending(tokens, tuple(_rows(prepared, code))))
    return [one for one in found if one.rows]


def _without_stop(
    tokenizer: Tokenizer,
    prepared: Prepared,
    model: ModelConfig,
    endings: Sequence[_Ending],
    stops: set[str],
    total: int,
    params: StopAfterCall,
) -> Iterator[Finding]:
    """Calls behind which no stop token is in the loss, by what stands there instead."""
    groups: dict[tuple[str, str], set[int]] = {}
    listed = tables.load("call_stops")["tokens"]
    for one in endings:
        if any(token in stops and trained for token, trained in one.tokens):
            continue
        masked = next((token for token, _ in one.tokens if token in stops), None)
        other = next((token for token, trained in one.tokens if token in listed and trained), None)
        key = ("masked", masked) if masked else ("unknown", other) if other else ("none", "")
        groups.setdefault(key, set()).update(one.rows)
    told = unknown_stops(tokenizer, prepared)
    for (kind, token), found in sorted(groups.items()):
        rows = sorted(found)
        many = 1 - len(rows) / total < params.min_stop_share
        if kind == "unknown":
            if not any(tokenizer.show([one]) == token for one in told):
                yield _not_listed(tokenizer, prepared, model, token, rows, total)
            continue
        what = f"the calls of {len(rows):,} of {counted(total, 'row')}"
        yield Finding(
            f"{what} end with {token}, which is not in the loss"
            if kind == "masked"
            else f"{what} do not end with a stop token",
            Severity.ERROR if many else Severity.WARNING,
            at=prepared.at(rows[0]),
            fix=f"move {token} into the template's {{% generation %}} block, for turns with calls too"
            if kind == "masked"
            else f"write a stop token ({', '.join(sorted(stops)) or 'none is known'}) behind the calls in the"
            " template (model.chat_template), inside its {% generation %} block",
            why="The model does not learn to stop after a call: it goes on and invents the result.",
        )


def _not_listed(
    tokenizer: Tokenizer, prepared: Prepared, model: ModelConfig, token: str, rows: Sequence[int], total: int
) -> Finding:
    """A token that ends calls elsewhere, and at which this generation may not stop."""
    number = next(iter(tokenizer.encode(token)), None)
    listed = "does not list it" if model.stop_ids else "is not known: whether generation stops there is open"
    return Finding(
        f"the calls of {len(rows):,} of {counted(total, 'row')} end with {token}, and eos_token_id of"
        f" generation_config.json {listed}",
        Severity.WARNING if model.stop_ids else Severity.INFO,
        at=prepared.at(rows[0]),
        fix=f"add {number} ({token}) to eos_token_id in generation_config.json; do not change the rows",
        why="Generation does not stop after a call: the model goes on and invents the result.",
    )


def _results(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, total: int
) -> Iterator[Finding | Measurement]:
    """Words of other roles behind a call that are in the loss although the policy masks them."""
    found = {
        code[len(TRAINED) :]: _rows(prepared, code)
        for code in prepared.rows.remarks
        if code.startswith(TRAINED)
    }
    rows = sorted({row for some in found.values() for row in some})
    yield Measurement("rows_with_results_in_loss", len(rows), unit="rows", limit="0", statistic=Count())
    if not rows:
        return
    assistant = job.training.assistant_only_loss
    template = templates.applied(tokenizer.chat_template, assistant_only_loss=True) or ""
    can = templates.has_markers(template)
    change = Change(f"jobs.{job.name}.training.assistant_only_loss", False, True, safe=False)
    set_it = "set assistant_only_loss: true: completion_only_loss masks the prompt alone"
    yield Finding(
        f"what the tools return is in the loss, in {len(rows):,} of {counted(total, 'row')} with tool calls"
        if {"tool", "ipython", "function"} & found.keys()
        else f"messages behind a call that are not the assistant's are in the loss, in {len(rows):,} of"
        f" {counted(total, 'row')} with tool calls",
        Severity.ERROR if assistant else Severity.WARNING,
        at=prepared.at(rows[0]),
        fix="end the template's {% generation %} block before the results, and begin it again behind them"
        if assistant
        else set_it
        if can
        else f"add {{% generation %}} markers to the template and {set_it}",
        change=change if can and not assistant else None,
        why="The model learns to write the results of tools itself, and invents them in serving.",
    )
