"""Must-fail and must-pass inputs of the rule on answers."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from ftcheck.inputs.row_texts import ReadRow
from ftcheck.testing import Case, inputs, job, prepared, rows, tokenizer


class Texts:
    """Rows of one question and one answer, to be read again."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = answers

    def said(self, rows: Sequence[int]) -> list[str]:
        """Their answers."""
        return [self._answers[row] for row in rows]

    def read(self, rows: Sequence[int]) -> list[ReadRow]:
        """Their messages."""
        asked = {"role": "user", "content": "?"}
        return [ReadRow(row, (asked, {"role": "assistant", "content": self._answers[row]})) for row in rows]


def given(
    answers: Sequence[str] = (), *, count: int = 40, schema: str | None = None, **about: Any
) -> dict[str, Any]:
    """Inputs of rows with these answers (by default all different), or with what `about` says of them."""
    from ftcheck.dedup.fingerprints import fingerprints

    texts = list(answers) or [f"The answer to question {n} is this." for n in range(count)]
    made = rows(
        len(texts),
        answered=fingerprints(texts).tolist(),
        spelled=[crc32(text.encode()) for text in texts],
        **about,
    )
    opened = inputs(row_texts=Texts(texts), tokenizer=tokenizer())
    made_job = job(serving={"output_schema": schema}) if schema is not None else job()
    return {"job": made_job, "prepared": prepared([5] * len(texts), of=made), "inputs": opened}


ONE = "The request could not be answered at this time."

CASES = (
    Case("answers", "one answer to all questions", True, lambda: given([ONE] * 30 + ["No.", "Yes, it is."])),
    Case(
        "answers",
        "placeholders in most answers",
        True,
        lambda: given(remarks={"answer:placeholder": range(36)}),
    ),
    Case(
        "answers",
        "prompts that end in their answers",
        True,
        lambda: given(remarks={"answer:ends-prompt": range(40)}),
    ),
    Case(
        "answers",
        "JSON in fences for a schema",
        True,
        lambda: given(schema="schema.json", remarks={"answer:fenced-json": range(40)}),
    ),
    Case("answers", "answers that all differ", False, given),
    Case("answers", "one label on most rows", False, lambda: given(["ham"] * 36 + ["spam"] * 24)),
    Case(
        "answers", "JSON in fences for no schema", False, lambda: given(remarks={"answer:fenced-json": [3]})
    ),
)
