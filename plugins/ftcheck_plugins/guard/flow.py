"""What the guard does with a request: asks, cuts up, falls back, checks, asks again once, puts together."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ftcheck.inputs.output_schema import problems
from ftcheck_plugins.guard import chunks
from ftcheck_plugins.guard.counting import MAX_CHUNKS, count
from ftcheck_plugins.guard.records import Answer, Code, Decision, Guard, Messages, Question, Refused

ONLY = "Answer with one JSON value and nothing else."

Ask = Callable[[Messages, int], Awaitable[Answer]]
"""Sends messages with an output cap to the model; raises `Refused` (upstream) where nothing comes back."""


async def answered(guard: Guard, question: Question, ask: Ask) -> Answer:
    """The whole answer to a question, checked. Raises `Refused` where there is none that may go out."""
    if question.decision is Decision.RULES:
        return _fallen_back(guard, question)
    if question.decision is Decision.CHUNK:
        return await _chunked(guard, question, ask)
    return await checked(guard, question, await ask(question.messages, question.cap), ask)


async def checked(guard: Guard, question: Question, answer: Answer, ask: Ask) -> Answer:
    """The answer, if it keeps its cap and the schema; else one that was asked for again, more strictly.

    Asked again `guard.schema_retries` times. Raises `Refused` if the last one breaks the schema too.
    """
    _within(question, answer)
    for _ in range(guard.schema_retries if guard.schema is not None else 0):
        wrong = _wrong(guard, answer)
        again = stricter(guard, question, wrong) if wrong else None
        if again is None:
            break
        answer = _with(answer, await ask(again, question.cap))
        _within(question, answer)
    if wrong := _wrong(guard, answer):
        tried = f"after {answer.retries} retr{'y' if answer.retries == 1 else 'ies'}"
        raise Refused(
            Code.SCHEMA, f"the answer violates its JSON Schema {tried}: {'; '.join(wrong[:3])}", answer
        )
    return answer


def stricter(guard: Guard, question: Question, wrong: list[str]) -> Messages | None:
    """The question again, with what is asked of the answer behind the user's last words.

    The schema itself is named where the guard's limit leaves room for it; None where it leaves no room at
    all, or nothing was asked by a user. What was wrong is said in the schema's words.
    """
    last = last_of_user(question.messages)
    if last is None or guard.schema is None:
        return None
    schema = json.dumps(guard.schema.schema, ensure_ascii=False, separators=(",", ":"))
    told = f"The last answer was not valid ({'; '.join(wrong[:3])}). {ONLY}"
    for words in (f"{told} It must satisfy this JSON Schema: {schema}", told, ONLY):
        said = _told(str(question.messages[last].get("content") or ""), words)
        messages = with_content(question.messages, last, said)
        if count(guard, messages, question.tools) <= max(guard.max_input_tokens, guard.room):
            return messages
    return None


def _told(text: str, words: str) -> str:
    return f"{text}\n\n{words}"


def last_of_user(messages: Messages) -> int | None:
    """The index of the last message of a user; None if there is none."""
    return next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "user"), None)


def with_content(messages: Messages, index: int, content: str) -> Messages:
    """The conversation with another text in one message."""
    return (*messages[:index], {**messages[index], "content": content}, *messages[index + 1 :])


def _within(question: Question, answer: Answer) -> None:
    """Servers there are that do not keep to max_tokens: what is longer does not go out."""
    calls = answer.retries + 1
    if answer.completion_tokens is not None and answer.completion_tokens > question.cap * calls:
        counted = f"it returned {answer.completion_tokens:,} tokens, the limit is {question.cap:,}"
        raise Refused(Code.OVER_CAP, f"the server ignored max_tokens: {counted}", answer)


def _wrong(guard: Guard, answer: Answer) -> list[str]:
    return problems(answer.text, guard.schema) if guard.schema is not None else []


def _with(first: Answer, second: Answer) -> Answer:
    """The second answer, with the tokens of both."""
    return replace(
        second,
        prompt_tokens=_sum(first.prompt_tokens, second.prompt_tokens),
        completion_tokens=_sum(first.completion_tokens, second.completion_tokens),
        retries=first.retries + 1,
    )


def _sum(*counts: int | None) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None


def _fallen_back(guard: Guard, question: Question) -> Answer:
    if guard.fallback is None:
        raise Refused(Code.FAILED, "there are no rules to fall back to")
    return Answer(guard.fallback.answer(question.messages), "stop", prompt_tokens=0, completion_tokens=0)


async def _chunked(guard: Guard, question: Question, ask: Ask) -> Answer:
    answers = [await answered(guard, part, ask) for part in parts(guard, question)]
    merged = Answer(
        chunks.merge([one.text for one in answers]),
        "length" if any(one.finish == "length" for one in answers) else "stop",
        _sum(*(one.prompt_tokens for one in answers)),
        _sum(*(one.completion_tokens for one in answers)),
        sum(one.retries for one in answers),
        len(answers),
    )
    if wrong := _wrong(guard, merged):
        said = f"the merged answers of {merged.chunks} parts violate the schema: {'; '.join(wrong[:3])}"
        raise Refused(Code.SCHEMA, said, merged)
    return merged


def parts(guard: Guard, question: Question) -> list[Question]:
    """The question once for each part of what the user wrote last; every one is within the input limit.

    What comes before that message is sent with every part, and each leaves room to be asked again more
    strictly, where answers have a schema. Raises `Refused` where it leaves no room, and
    for an input of more than 16 parts.
    """
    last = last_of_user(question.messages)
    if last is None:
        said = "the input is over the limit, and it contains no user message that can be split"
        raise Refused(Code.OVER_LIMIT, said)

    def asked(text: str) -> Messages:
        return with_content(question.messages, last, text)

    again = guard.schema is not None and guard.schema_retries > 0

    def fits(text: str) -> bool:
        longest = asked(_told(text, ONLY) if again else text)
        return count(guard, longest, question.tools) <= guard.max_input_tokens

    try:
        texts = chunks.split(str(question.messages[last].get("content") or ""), fits)
    except ValueError as error:
        said = f"the messages before the last one leave no room within {guard.max_input_tokens:,} tokens"
        raise Refused(Code.OVER_LIMIT, said) from error
    texts = [text for text in texts if text.strip()]
    if not 0 < len(texts) <= MAX_CHUNKS:
        said = f"the input would be split into {len(texts)} parts; the limit is {MAX_CHUNKS}"
        raise Refused(Code.OVER_LIMIT, said)
    cut = [(asked(text), count(guard, asked(text), question.tools)) for text in texts]
    return [Question(one, tokens, Decision.PASS, question.cap, question.tools) for one, tokens in cut]
