"""Special tokens in text: text in the rows that the tokenizer turns into control tokens."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck import Finding, Measurement, Prepared, Rows, Severity, Skip, Summary, Tokenizer, rule
from ftcheck.extension.rules import Yield
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count

WRITTEN = re.compile(
    r"</?(think|tool_call|tool_response|tools|tool|answer|reasoning|thinking)>", re.IGNORECASE
)
"""Added tokens that models write as text: reasoning and tool calls are in answers on purpose."""


@dataclass(frozen=True)
class Marks:
    """Parameters of `special-tokens-in-text`."""

    meant_share: float = 0.1
    """A token in more than this share of the rows is taken as intended, unless the template writes it."""


@rule(
    "special-tokens-in-text",
    family="data",
    cases="ftcheck_rules.data.cases.special_tokens_in_text",
    texts=True,
)
def special_tokens_in_text(prepared: Prepared, tokenizer: Tokenizer, params: Marks) -> Iterator[Yield]:
    """No row contains the text of a control token, such as a quoted end of turn.

    The tokenizer turns the text into the control token: a quoted `<|eot_id|>` ends the turn in the middle of
    a sentence, and what follows belongs to no role. A user who types one does the same to the served model.

    Searches the contents of every row, before the template is applied, for the tokenizer's special tokens,
    except those for reasoning and tool calls. Added tokens with `special: false` that the template does not
    write (Gemma's `<h1>` and `<table>`) are ordinary text. Plain text may contain them on purpose, and so may
    prompts and completions that were rendered by hand (most rows contain them); that is `info`. So is a token
    that the template never writes and that more than a tenth of the rows contain. Parameters: meant_share
    (default 0.1).
    """
    rows = prepared.rows
    total = len(rows) - len(rows.row_errors)
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    if total == 0:
        yield Skip("no row can be read")
        return
    ours = _control(tokenizer)
    written = {mark: where for mark, where in rows.marks.items() if not WRITTEN.fullmatch(mark)}
    found = {mark: where for mark, where in written.items() if mark in ours or _special(tokenizer, mark)}
    marked = {row for where in found.values() for row in where}
    among = Count(total)
    yield Measurement("rows_with_special_tokens", len(marked), unit="rows", limit="0", statistic=among)
    yield Measurement("special_tokens", len(found), unit="tokens", statistic=AtLeast())
    ordinary = len(written) - len(found)
    yield Measurement("ordinary_added_tokens", ordinary, unit="tokens", statistic=AtLeast())
    contain = agreeing(len(marked), "contains", "contain")
    yield Summary(f"{len(marked):,} of {counted(total, 'row')} {contain} special tokens as text")
    for mark, where in sorted(found.items(), key=lambda one: one[1][0]):
        yield _finding(mark, where, _severity(mark in ours, len(where) / total, rows, params), rows, total)


def _special(tokenizer: Tokenizer, mark: str) -> bool:
    """Whether the tokenizer calls it special; other added tokens (Gemma's `<h1>`) are ordinary text."""
    return mark not in tokenizer.plain(tokenizer.encode(mark))


def _control(tokenizer: Tokenizer) -> frozenset[str]:
    """The special tokens that the template writes, or that begin, end and pad a sequence."""
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *tokenizer.stop_ids}
    named = {tokenizer.show([one]) for one in ids if one is not None}
    template = tokenizer.chat_template or ""
    written = {tokenizer.show([one]) for one in tokenizer.special_ids}
    return frozenset(named | {mark for mark in written if mark and mark in template})


def _severity(control: bool, share: float, rows: Rows, params: Marks) -> Severity:
    by_hand = rows.format == "prompt-completion" and not (rows.turns > 0).any() and share > 0.5
    meant = not control and share > params.meant_share
    return Severity.INFO if rows.format == "text" or by_hand or meant else Severity.WARNING


def _finding(mark: str, where: Sequence[int], severity: Severity, rows: Rows, total: int) -> Finding:
    count = len(where)
    contain = agreeing(count, "contains", "contain")
    message = (
        f"{count:,} of {counted(total, 'row')} {contain} {mark} as text;"
        " the tokenizer turns it into the control token"
    )
    fix = "remove it, or write it differently (a space inside is enough)"
    return Finding(message, severity, at=rows.at(where[0]), fix=fix)
