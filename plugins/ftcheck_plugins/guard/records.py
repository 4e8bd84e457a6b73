"""The guard's records: what a job allows, what was asked and answered, and why something was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ftcheck.errors import FtcheckError
from ftcheck.inputs.evaluation import OutputSchema
from ftcheck.inputs.tokenizer import Message, Tokenizer

if TYPE_CHECKING:
    from ftcheck_plugins.guard.fallback import Fallback

Messages = tuple[Message, ...]


class Decision(StrEnum):
    """What becomes of an input; all but `pass` are for inputs over the limit."""

    PASS = "pass"
    RULES = "rules"
    CHUNK = "chunk"
    REJECT = "reject"


class Code(StrEnum):
    """Why the guard refused. A closed set: it stands in logs, which hold no words of anybody."""

    OVER_LIMIT = "over-limit"
    NOT_COUNTED = "not-counted"
    NOT_GUARDED = "not-guarded"
    SCHEMA = "schema"
    OVER_CAP = "over-cap"
    UPSTREAM = "upstream"
    FAILED = "failed"


STATUS = {Code.SCHEMA: 502, Code.OVER_CAP: 502, Code.UPSTREAM: 502, Code.FAILED: 500}
"""HTTP statuses; any other code is the asker's to mend: 400."""


class Refused(FtcheckError):
    """The guard lets a request or an answer not through. The message quotes neither."""

    def __init__(self, reason: Code, message: str, answer: "Answer | None" = None) -> None:
        """`reason` decides the HTTP status; `answer` is what was not let out, for its counts."""
        super().__init__(message)
        self.reason = reason
        self.answer = answer
        self.status = STATUS.get(reason, 400)


@dataclass(frozen=True)
class Guard:
    """What one job allows, with everything opened. Limits in tokens of the rendered prompt, and of answers.

    `switches` are the template's (`chat_template_kwargs`). `schema` is None where answers are no JSON,
    `fallback` where `over_limit` is not `rules`. A stricter prompt may take up to `room` tokens: what the
    server was started with, less the answer; without it, the input limit.
    """

    job: str
    tokenizer: Tokenizer
    max_input_tokens: int
    max_new_tokens: int
    over_limit: Decision
    switches: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None
    schema: OutputSchema | None = None
    schema_retries: int = 0
    room: int = 0
    fallback: "Fallback | None" = None


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was counted: `tokens` of the rendered prompt, the decision, the cap of its answer."""

    messages: Messages
    tokens: int
    decision: Decision
    cap: int
    tools: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: tokens as the server counted them (None: it did not say), of all calls together."""

    text: str
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retries: int = 0
    chunks: int = 0
