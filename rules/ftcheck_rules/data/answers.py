"""What a person would see in ten minutes of reading the answers, counted on all of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Exclude,
    Finding,
    GoldSet,
    InputError,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Rows,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.dedup import fingerprints
from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.extension.rules import Yield
from ftcheck.inputs.prepared import OPEN
from ftcheck.inputs.row_texts import ReadRow, RowTexts
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count, OfSample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

FEW = 5
"""Rows of a kind up to which they are told as `info`: in a small data set they are a large share."""
SENTENCE, WIDE_SENTENCE = 20, 8
"""Characters from which on an answer is a sentence, not a label; fewer where they are not ASCII."""
TOLD_SHARE = 0.1
"""Share of rows from which on one answer is told of at all."""
LABELS = 200
"""Different answers up to which short ones are labels."""
ROWS_PER_LABEL = 10
"""Rows that a label has on average, at least."""
LONGEST = (0.9, 0.8, 0.7)
"""Where the longest answers begin that are compared with the others, as quantiles of the lengths."""
FEWEST_LONG = 20
"""The longest answers must be so many for their endings to be compared, and so must their neighbours."""
NEIGHBOURS = 0.25
"""Shorter answers are their neighbours from this share of their length on: much shorter ones are of another
kind (labels beside essays)."""
TIMES = 3
"""How much more often the longest answers must stop mid-sentence than their neighbours."""


@dataclass(frozen=True)
class Answers:
    """Parameters of `answers`: shares of rows at which a kind is a warning, and an error (null: never)."""

    same_warning: float = 0.5
    """One sentence as the answer to different questions."""
    same_error: float | None = None
    """The same, as an error."""
    refusal_warning: float = 0.3
    """Answers that begin by declining."""
    refusal_error: float | None = None
    """The same, as an error."""
    as_an_ai_warning: float = 0.15
    """Answers with a phrase such as `as an AI`."""
    as_an_ai_error: float | None = None
    """The same, as an error."""
    mojibake_warning: float = 0.01
    """Answers in a wrong encoding, or with replacement characters."""
    mojibake_error: float | None = None
    """The same, as an error."""
    in_prompt_warning: float = 0.5
    """Answers that their prompts contain."""
    in_prompt_error: float | None = 0.9
    """Answers with which their prompts end."""
    placeholder_warning: float = 0.02
    """Answers with an unfilled `{{name}}`."""
    placeholder_error: float | None = 0.8
    """The same, as an error."""
    bracket_warning: float = 0.05
    """Answers with an unfilled `[Your Name]` or `<YOUR KEY>`."""
    bracket_error: float | None = None
    """The same, as an error."""
    markup_warning: float = 0.005
    """Answers with marks of another model's chat format."""
    markup_error: float | None = None
    """The same, as an error."""
    fence_warning: float = 0.0
    """Answers in a code fence where serving.output_schema wants bare JSON."""
    fence_error: float | None = 0.1
    """The same, as an error."""
    label_warning: float = 0.0
    """Labels that are spelled differently; of the rows, or of the gold answers."""
    label_error: float | None = None
    """The same, as an error."""
    cut_warning: float = 0.3
    """Of the longest answers those that stop mid-sentence."""
    cut_error: float | None = None
    """The same, as an error."""
    personal_warning: float = 0.1
    """Answers with an e-mail address, or with a telephone number."""
    personal_error: float | None = None
    """The same, as an error."""
    key_warning: float = 0.0
    """Answers with what looks like a key of a service."""
    key_error: float | None = None
    """The same, as an error."""


@dataclass(frozen=True)
class Kind:
    """What answers may have in them: the codes of its remarks, and what is said of them."""

    name: str
    codes: tuple[str, ...]
    says: tuple[str, str]
    fix: str
    why: str
    few: int = FEW


KINDS = (
    Kind(
        "placeholder",
        ("answer:placeholder",),
        ("has an unfilled placeholder such as {{name}}", "have unfilled placeholders such as {{name}}"),
        "fill the placeholders in, or remove the rows",
        "The model learns to write the placeholder, braces and all.",
    ),
    Kind(
        "bracket",
        ("answer:bracket",),
        ("has an unfilled placeholder such as [Your Name]", "have unfilled placeholders such as [Your Name]"),
        "fill the placeholders in, or remove the rows; nothing, if templates are what users ask for",
        "The model learns to leave the blanks to its users.",
    ),
    Kind(
        "mojibake",
        ("answer:mojibake", "answer:replacement"),
        (
            "has characters of a wrong encoding (mojibake, U+FFFD) in its answer",
            "have characters of a wrong encoding (mojibake, U+FFFD) in their answers",
        ),
        "read the source as UTF-8 and write the rows again, or repair them with ftfy.fix_encoding; U+FFFD is"
        " lost, and needs the source",
        "The model learns to write the broken characters.",
    ),
    Kind(
        "refusal",
        ("answer:refusal",),
        ("begins its answer by declining", "begin their answers by declining"),
        "remove the rows, unless the model is meant to decline this often",
        "A model that is trained on refusals declines what it could answer.",
    ),
    Kind(
        "as_an_ai",
        ("answer:as-an-ai",),
        (
            "has a phrase such as 'as an AI' in its answer",
            "have a phrase such as 'as an AI' in their answers",
        ),
        "remove the rows, or the phrase, unless the model is meant to say so",
        "The model learns another model's disclaimers.",
    ),
    Kind(
        "personal",
        ("answer:email",),
        ("has an e-mail address in its answer", "have e-mail addresses in their answers"),
        "remove or replace them, unless they are public",
        "The model may repeat them to anybody.",
    ),
    Kind(
        "personal",
        ("answer:phone",),
        ("has a telephone number in its answer", "have telephone numbers in their answers"),
        "remove or replace them, unless they are public",
        "The model may repeat them to anybody.",
    ),
    Kind(
        "key",
        ("answer:key",),
        (
            "has what looks like a key of a service in its answer",
            "have what looks like keys of services in their answers",
        ),
        "revoke the keys, and remove the rows",
        "The model may repeat them to anybody.",
        few=0,
    ),
)


@rule("answers", family="data", cases="ftcheck_rules.data.cases.answers", texts=True)
def answers(job: Job, prepared: Prepared, inputs: Inputs, params: Answers) -> Iterator[Yield]:
    """Answers are answers: no placeholders, no mojibake, few refusals, not one for all rows.

    What stands in the answers is learned as it stands: a placeholder that nobody filled in, a sentence that a
    failed request left in every row, another model's markup. The loss falls all the same.

    Counted on all rows, by patterns and by the phrases of a dated table (answer_phrases), without showing
    them; up to 5 rows of a kind are `info`. Shares of rows in public data: Alpaca (52,002 rows) 0.5 %
    [Your Name], 0.3 % answer in the prompt, 0.02 % e-mail, 0.01 % refusals; glaive_toolcall (en, zh) 9 and
    17 % refusals, 5 and 8 % `as an AI`, one sentence in 13 %; other demo sets of LLaMA-Factory and FastChat
    up to 5 % `as an AI` and 1.3 % U+FFFD; C4 2.3 % e-mail, 1.3 % telephone, 1.7 % mojibake; SNIPS 0.2 %
    mojibake; `{{name}}` in 10 % of v1_sft_demo and 93 % of identity.json. One answer of many rows counts
    where the others are nearly all different (labels are not), and copies of a row count once; the endings of
    the longest answers are compared with those of somewhat shorter ones, labels with one another and with
    data.gold. Marks that the tokenizer knows as tokens are left to special-tokens-in-text. Each kind has a
    share at which it is a warning, and one at which it is an error.
    """
    rows = prepared.rows
    total = len(rows) - len(rows.row_errors)
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    if total == 0:
        yield Skip("no row can be read")
        return
    found = list(_looked(job, prepared, inputs, params, total))
    findings = [one for one in found if isinstance(one, Finding)]
    worse = [one for one in findings if one.severity is not Severity.INFO]
    yield Summary(f"{counted(total, 'row')} · {_kinds(len(worse), len(findings))}")
    yield from found


def _kinds(worse: int, remarked: int) -> str:
    if worse:
        return f"{counted(worse, 'kind')} of unusual answers"
    return "nothing unusual in the answers" + (f", {counted(remarked, 'remark')}" if remarked else "")


def _looked(
    job: Job, prepared: Prepared, inputs: Inputs, params: Answers, total: int
) -> Iterator[Finding | Measurement | Exclude]:
    rows = prepared.rows
    answered = int((rows.answered != NOTHING).sum())
    yield from _in_fences(job, rows, answered, params)
    yield from _in_prompts(rows, answered, params)
    same = _most_frequent(rows, inputs)
    yield from _same(rows, same, params)
    told = {*same.rows} if same is not None else set()
    for kind in KINDS:
        yield from _told(kind, rows, [n for n in _of(rows, kind.codes) if n not in told], total, params)
    yield from _markup(rows, inputs, total, params)
    yield from _cut(prepared, params)
    yield from _labels(job, rows, inputs, params)


def _of(rows: Rows, codes: Iterable[str]) -> list[int]:
    """The rows that have any of these remarks, in order."""
    return sorted({row for code in codes for row in rows.remarks.get(code, ())})


def _severity(count: int, total: int, kind: str, params: Answers, few: int = FEW) -> Severity:
    share = count / total
    error: float | None = getattr(params, f"{kind}_error")
    warning: float = getattr(params, f"{kind}_warning")
    if count <= few:
        return Severity.INFO
    if error is not None and share >= error:
        return Severity.ERROR
    return Severity.WARNING if share >= warning else Severity.INFO


def _share(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'row')} ({count / total:.1%})"


def _told(
    kind: Kind, rows: Rows, found: Sequence[int], total: int, params: Answers
) -> Iterator[Finding | Measurement | Exclude]:
    """One finding for a kind, at its first row."""
    name = kind.codes[0].partition(":")[2].replace("-", "_")
    yield Measurement(f"rows_{name}", len(found), unit="rows", statistic=Count())
    if not found:
        return
    severity = _severity(len(found), total, kind.name, params, kind.few)
    message = f"{_share(len(found), total)} {agreeing(len(found), *kind.says)}; this row is the first"
    yield Finding(message, severity, at=rows.at(found[0]), fix=kind.fix, why=kind.why)
    if severity is not Severity.INFO:
        yield Exclude(list(found), rows.at)


def _in_fences(job: Job, rows: Rows, total: int, params: Answers) -> Iterator[Finding | Measurement]:
    """JSON in a code fence, where serving wants JSON and nothing else."""
    found = _of(rows, ("answer:fenced-json",))
    yield Measurement("rows_fenced_json", len(found), unit="rows", statistic=Count())
    if job.serving.output_schema is None or not found:
        return
    yield Finding(
        f"{_share(len(found), total)} {agreeing(len(found), 'has its', 'have their')} JSON answer in a code"
        " fence (```), but serving.output_schema wants bare JSON; this row is the first",
        _severity(len(found), total, "fence", params, few=0),
        at=rows.at(found[0]),
        fix="write the answers without the fence",
        why="The model learns the fence, and every answer with one is invalid JSON to the server's check.",
    )


def _in_prompts(rows: Rows, total: int, params: Answers) -> Iterator[Finding | Measurement]:
    """Answers that the model need only copy.

    A prompt that ends in one short answer again and again offers a choice (`yes or no`): that is none.
    """
    quoted = _of(rows, ("answer:in-prompt",))
    ends = _of(rows, ("answer:ends-prompt",))
    if not {*ends} & {*quoted} and len({int(rows.answered[row]) for row in ends}) < 2:
        ends = []
    found = sorted({*ends, *quoted})
    yield Measurement("rows_in_prompt", len(found), unit="rows", statistic=Count())
    if not found:
        return
    severity = _severity(len(ends), total, "in_prompt", params) if ends else Severity.INFO
    if severity is not Severity.ERROR:
        some = _severity(len(found), total, "in_prompt", params)
        severity = Severity.WARNING if some is not Severity.INFO else Severity.INFO
    where = "stand at the end of their prompts" if 2 * len(ends) > len(found) else "stand in their prompts"
    yield Finding(
        f"the answers of {_share(len(found), total)} {where}; this row is the first",
        severity,
        at=rows.at((ends if severity is Severity.ERROR else found)[0]),
        fix="remove the answer from the prompt; nothing, if the task is to quote",
        why="The model learns to copy from the prompt; served without the answer, it has nothing to copy.",
    )


# --- one answer on many rows -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Same:
    """One answer, and the rows that give it: `count` different ones of `total`."""

    text: str
    rows: list[int]
    count: int
    total: int


def _most_frequent(rows: Rows, inputs: Inputs) -> Same | None:
    """One sentence as the answer to many questions, where the others are nearly all different.

    Copies of rows count once: `duplicates` tells of them. Labels are no sentences, and come again and again.
    """
    import numpy as np

    has = rows.answered != NOTHING
    if not has.any():
        return None
    pairs = np.unique(np.stack([rows.answered[has], rows.said[has]], axis=1), axis=0)
    values, counts = np.unique(pairs[:, 0], return_counts=True)
    most = int(counts.argmax())
    count, total = int(counts[most]), len(pairs)
    if count <= FEW or count < TOLD_SHARE * total or 2 * (len(values) - 1) < total - count:
        return None
    where = (rows.answered == values[most]).nonzero()[0].tolist()
    text = _answer_of(_read(inputs, where[:1])[0])
    return Same(text, where, count, total) if text is not None and _is_sentence(text) else None


def _same(rows: Rows, same: Same | None, params: Answers) -> Iterator[Finding | Measurement]:
    most = len(same.rows) if same is not None else 0
    yield Measurement("rows_of_one_answer", most, unit="rows", statistic=OfSample())
    if same is None:
        return
    total = int((rows.answered != NOTHING).sum())
    yield Finding(
        f"one sentence is the answer of {_share(len(same.rows), total)}, to different questions; the other"
        " answers differ from row to row; this row is the first",
        _severity(same.count, same.total, "same", params),
        at=rows.at(same.rows[0]),
        fix="look where it comes from (a failed request, a default, a column that was filled down), and write"
        " the answers again or remove the rows",
        why="The model learns to give this answer to everything.",
        content=same.text[:200],
    )


def _is_sentence(text: str) -> bool:
    """Whether an answer is more than a label, a number or JSON."""
    least = SENTENCE if text.isascii() else WIDE_SENTENCE
    return len(text) >= least and not isinstance(_parsed(text), dict | list)


def _parsed(text: str) -> Any:
    """A text as JSON; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(inputs: Inputs, rows: Sequence[int]) -> list[ReadRow]:
    texts: RowTexts = inputs.get("row_texts")
    return texts.read(rows)


def _answer_of(row: ReadRow) -> str | None:
    """The last answer of a row, without white space around it."""
    for message in reversed(row.messages):
        if message.get("role") == "assistant":
            return fingerprints.text_of(message.get("content")).strip()
    completion = row.data.get("completion")
    return completion.strip() if isinstance(completion, str) else None


# --- another model's markup ------------------------------------------------------------------------------


def _markup(
    rows: Rows, inputs: Inputs, total: int, params: Answers
) -> Iterator[Finding | Measurement | Exclude]:
    """Marks that the tokenizer takes for text; those that it knows are told by `special-tokens-in-text`."""
    marks = {
        code.rpartition("answer:markup:")[2]: where
        for code, where in rows.remarks.items()
        if code.startswith("answer:markup:")
    }
    if marks:
        tokenizer: Tokenizer = inputs.get("tokenizer")
        written = (tokenizer.chat_template or "") + (tokenizer.training_template or "")
        marks = {
            mark: where
            for mark, where in marks.items()
            if mark not in rows.marks and mark not in written and len(tokenizer.encode(mark)) > 1
        }
    found = sorted({row for where in marks.values() for row in where})
    yield Measurement("rows_markup", len(found), unit="rows", statistic=Count())
    if not found:
        return
    named = sorted(marks, key=lambda mark: (-len(marks[mark]), mark))
    severity = _severity(len(found), total, "markup", params)
    yield Finding(
        f"{_share(len(found), total)} {agreeing(len(found), 'has', 'have')} marks of another chat format as"
        f" text in the answer: {', '.join(named[:5])}; the tokenizer has no such"
        f" {agreeing(len(named), 'token', 'tokens')}; this row is the first",
        severity,
        at=rows.at(found[0]),
        fix="remove the marks, and what stands behind the end of the answer",
        why="The model learns to write the marks as text, which no server takes for the end of a turn.",
    )
    if severity is not Severity.INFO:
        yield Exclude(found, rows.at)


# --- answers that stop mid-sentence ----------------------------------------------------------------------


def _cut(prepared: Prepared, params: Answers) -> Iterator[Finding | Measurement]:
    """Long answers that stop mid-sentence, where the shorter ones do not: a limit cut them."""
    import numpy as np

    rows = prepared.rows
    has = (rows.answered != NOTHING) & (prepared.length > 0)
    opened = rows.ending == OPEN
    yield Measurement("rows_open_end", int((opened & has).sum()), unit="rows", statistic=Count())
    if not has.any():
        return
    lengths = prepared.answer[has]
    for quantile in LONGEST:
        least = int(np.quantile(lengths, quantile, method="higher"))
        longest = has & (prepared.answer >= least)
        others = has & ~longest & (prepared.answer >= NEIGHBOURS * least)
        count, total = int((longest & opened).sum()), int(longest.sum())
        far_apart = least < NEIGHBOURS * int(lengths.max())
        if total < FEWEST_LONG or others.sum() < FEWEST_LONG or far_apart:
            continue
        among_others = float((others & opened).sum() / others.sum())
        severity = _severity(count, total, "cut", params)
        if severity is Severity.INFO or count / total < TIMES * among_others:
            continue
        what = "answers" if prepared.masked else "rows"
        yield Finding(
            f"{count:,} of the {total:,} longest {what} ({count / total:.0%}; {least:,} tokens or more) stop"
            f" mid-sentence, of those somewhat shorter {among_others:.1%}; this row is the first",
            severity,
            at=rows.at(int((longest & opened).nonzero()[0][0])),
            fix="write the answers again with a higher limit of tokens, or remove the rows",
            why="A limit cut the answers when they were made: the model learns to stop where it struck.",
        )
        return


# --- labels ----------------------------------------------------------------------------------------------


def _labels(job: Job, rows: Rows, inputs: Inputs, params: Answers) -> Iterator[Finding | Measurement]:
    """Labels that differ in case, spaces or punctuation only: among the rows, and from the gold answers."""
    groups = _spellings(rows)
    if groups is None:
        return
    yield Measurement("labels", len(groups), unit="labels", statistic=AtLeast())
    yield from _variants(groups, rows, inputs, params)
    yield from _gold(groups, job, rows, inputs, params)


def _spellings(rows: Rows) -> dict[int, dict[int, list[int]]] | None:
    """Of each label its spellings, each with its number of rows and the first; None where there are none."""
    import numpy as np

    has = rows.answered != NOTHING
    short = has & (rows.spelled != 0)
    if not short.any() or short.sum() < 0.95 * has.sum():
        return None
    pairs = np.stack([rows.answered[short], rows.spelled[short]], axis=1)
    spellings, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    labels = len(np.unique(spellings[:, 0]))
    if labels > LABELS or labels * ROWS_PER_LABEL > len(pairs):
        return None
    where = short.nonzero()[0]
    groups: dict[int, dict[int, list[int]]] = {}
    for (label, spelling), at, count in zip(spellings.tolist(), first.tolist(), counts.tolist(), strict=True):
        groups.setdefault(label, {})[spelling] = [count, int(where[at])]
    return groups


def _variants(
    groups: dict[int, dict[int, list[int]]], rows: Rows, inputs: Inputs, params: Answers
) -> Iterator[Finding]:
    """Labels with several spellings in the rows."""
    rare: list[list[int]] = []
    labels = 0
    names: list[str] = []
    for spellings in groups.values():
        usual, *others = sorted(spellings.values(), reverse=True)
        if not others:
            continue
        texts = [_answer_of(one) or "" for one in _read(inputs, [usual[1], *(row for _, row in others)])]
        differing = [one for one, text in zip(others, texts[1:], strict=True) if _differ(text, texts[0])]
        if differing:
            labels += 1
            rare += differing
            names += texts
    if not rare:
        return
    count, total = sum(one for one, _ in rare), int((rows.answered != NOTHING).sum())
    yield Finding(
        f"{counted(labels, 'label')} of {len(groups):,} {agreeing(labels, 'is', 'are')} spelled in more than"
        f" one way (case, spaces, punctuation):"
        f" {_share(count, total)} {agreeing(count, 'is', 'are')} not spelled"
        " as most; this row is the first",
        _severity(count, total, "label", params),
        at=rows.at(min(row for _, row in rare)),
        fix="spell each label in one way",
        why="The model learns both spellings, and a comparison of texts counts one of them as wrong.",
        content=", ".join(names[:10]),
    )


def _differ(one: str, other: str) -> bool:
    """Whether two answers differ, as JSON where they are JSON: white space in it does not count."""
    return bool(_parsed(one) != _parsed(other))


def _gold(
    groups: dict[int, dict[int, list[int]]], job: Job, rows: Rows, inputs: Inputs, params: Answers
) -> Iterator[Finding | Measurement]:
    """Gold answers that are labels of the rows, but for their spelling."""
    gold = _gold_set(job, inputs)
    if gold is None or not gold.items:
        return
    prints = fingerprints.fingerprints([item.answer for item in gold.items]).tolist()
    known = {label: [row for _, row in spellings.values()] for label, spellings in groups.items()}
    firsts = sorted({row for label in {*prints} & {*known} for row in known[label]})
    texts = {row: _answer_of(one) or "" for row, one in zip(firsts, _read(inputs, firsts), strict=True)}
    other = [
        item
        for item, label in zip(gold.items, prints, strict=True)
        if label in known and all(_differ(item.answer.strip(), texts[row]) for row in known[label])
    ]
    yield Measurement("gold_labels_spelled_otherwise", len(other), unit="items", limit="0")
    if not other:
        return
    count, total = len(other), len(gold.items)
    yield Finding(
        f"{count:,} of {counted(total, 'gold answer')} ({count / total:.1%})"
        f" {agreeing(count, 'is a label', 'are labels')} of the training rows in another spelling (case,"
        " spaces, punctuation); this one is the first",
        _severity(count, total, "label", params, few=0),
        at=other[0].at,
        fix="spell the labels of the training rows and of the gold answers alike",
        why="The model answers as it was trained, and each such answer counts as wrong.",
        content=other[0].answer,
    )


def _gold_set(job: Job, inputs: Inputs) -> GoldSet | None:
    """The gold answers; None where there are none, or they cannot be opened (`gold-set` says so)."""
    if job.data.gold is None or not inputs.has("gold"):
        return None
    try:
        opened: GoldSet | None = inputs.get("gold")
    except InputError:
        return None
    return opened
