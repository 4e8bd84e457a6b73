"""Special tokens as text: what people wrote, and the tokenizer takes for control tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ftcheck import Finding, Measurement, Prepared, Rows, Severity, Skip, Summary, Tokenizer, rule
from ftcheck.extension.rules import Yield

WRITTEN = re.compile(
    r"</?(think|tool_call|tool_response|tools|tool|answer|reasoning|thinking)>", re.IGNORECASE
)
"""Added tokens that models write as text: thoughts and tool calls stand in answers on purpose."""


@dataclass(frozen=True)
class Marks:
    """Parameters of `special-tokens-in-text`."""

    meant_share: float = 0.1
    """A token in more than this share of the rows is meant, if the template does not write it itself."""


@rule("special-tokens-in-text", family="data", cases="ftcheck_rules.data.cases.special_tokens_in_text")
def special_tokens_in_text(prepared: Prepared, tokenizer: Tokenizer, params: Marks) -> Iterator[Yield]:
    """No row holds the text of a control token, such as a quoted end of turn.

    The tokenizer makes the control token of the text: a quoted `<|eot_id|>` ends the turn in the middle
    of a sentence, what follows is read as nobody's words, and a user who writes one does the same to the
    served model.

    Looks at the words of every row, before the template, for the tokenizer's special and added tokens;
    those for thoughts and tool calls are not looked at. Plain text may hold them on purpose, and so may
    prompts and completions that were rendered by hand (most rows hold them): that is `info`. So is a
    token that the template never writes and that stands in more than a tenth of the rows. Parameters:
    meant_share (default 0.1).
    """
    rows = prepared.rows
    total = len(rows) - len(rows.row_errors)
    if total == 0:
        yield Skip("there is no row that can be read")
        return
    found = {mark: where for mark, where in rows.marks.items() if not WRITTEN.fullmatch(mark)}
    marked = {row for where in found.values() for row in where}
    yield Measurement("rows_with_special_tokens", len(marked), unit="rows", limit="0")
    yield Measurement("special_tokens", len(found), unit="tokens")
    yield Summary(f"{len(marked):,} of {total:,} rows")
    ours = _control(tokenizer)
    for mark, where in sorted(found.items(), key=lambda one: one[1][0]):
        yield _finding(mark, where, _severity(mark in ours, len(where) / total, rows, params), rows, total)


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


def _finding(mark: str, where: tuple[int, ...], severity: Severity, rows: Rows, total: int) -> Finding:
    count = len(where)
    hold = "row holds" if count == 1 else "rows hold"
    message = f"{count:,} {hold} {mark} as text, of {total:,}: the tokenizer makes the control token of it"
    fix = "take it out, or write it another way (a space inside is enough)"
    return Finding(message, severity, at=rows.at(where[0]), fix=fix)
