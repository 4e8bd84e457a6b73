"""The rule-based fallback: answers from a file, for inputs that are too long for the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.evaluation import OutputSchema
from ftcheck.inputs.output_schema import problems
from ftcheck.inputs.tokenizer import Message
from ftcheck.settings import Job

KEYS = frozenset({"if_any", "answer"})


@dataclass(frozen=True, slots=True)
class FallbackRule:
    """An answer for inputs that hold one of these words, letter case aside; without words for every input."""

    words: tuple[str, ...]
    answer: str

    def holds(self, text: str) -> bool:
        """Whether the rule concerns a text, which is casefolded already."""
        return not self.words or any(word in text for word in self.words)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Rules in order; the last one holds always."""

    rules: tuple[FallbackRule, ...]

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer of the first rule that holds for what the user wrote last."""
        said = [str(one.get("content") or "") for one in messages if one.get("role") == "user"]
        text = said[-1].casefold() if said else ""
        return next(rule.answer for rule in self.rules if rule.holds(text))


def read(job: Job, schema: OutputSchema | None) -> Fallback:
    """The rules of a job's `serving.rules`: a JSON list of `{"if_any": [words], "answer": …}`.

    The last rule has no `if_any`, so that there is always an answer; each answer must satisfy the schema.
    Raises `InputError`.
    """
    path = job.serving.rules
    if path is None:
        raise _failure(job, "serving.over_limit is rules, but serving.rules is not set")
    try:
        given = bounded.read_json(path)
    except OSError as error:
        raise _failure(job, f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _failure(job, f"{path}: not readable JSON ({bounded.told(error)})") from error
    if not isinstance(given, list) or not given:
        raise _failure(
            job, f"{path}: must be a list of objects with 'answer' and, in all but the last, 'if_any'"
        )
    rules = tuple(_rule(job, number, one, schema) for number, one in enumerate(given, start=1))
    if [bool(rule.words) for rule in rules] != [*[True] * (len(rules) - 1), False]:
        raise _failure(job, f"{path}: only the last rule must be without 'if_any'")
    return Fallback(rules)


def _rule(job: Job, number: int, given: Any, schema: OutputSchema | None) -> FallbackRule:
    where = f"{job.serving.rules}: rule {number}"
    if not isinstance(given, dict) or "answer" not in given or not set(given) <= KEYS:
        raise _failure(job, f"{where}: must be an object with 'answer' and, in all but the last, 'if_any'")
    words = given.get("if_any", [])
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise _failure(job, f"{where}: 'if_any' must be a list of words")
    if "if_any" in given and not words:
        raise _failure(job, f"{where}: 'if_any' is empty")
    value = given["answer"]
    if schema is not None and (wrong := problems(value, schema)):
        raise _failure(job, f"{where}: the answer violates {schema.path}: {'; '.join(wrong[:3])}")
    answer = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return FallbackRule(tuple(word.casefold() for word in words), answer)


def _failure(job: Job, why: str) -> InputError:
    place = job.at("serving.rules")
    message = f"serving.rules of job {job.name}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
