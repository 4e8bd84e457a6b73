"""What rules may ask of a served job: one question at a time, and what its log has grown by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_parsers import FunctionCall

GUARDED = "x-ftcheck-"
"""What the names of the headers begin with that ftcheck's guard adds to its answers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the HTTP status and, if it was 200, the answer with the tokens that the server counted.

    `status` is None where nothing, or nothing that can be read, came back; `trouble` says why, in words that
    quote no content. `guard` are the guard's headers without their beginning, `refusal` its code where it
    refused (`over-limit`, `schema`), `retries` how often it had asked again by then, `chunks` how many parts
    it made of the input (0: it was left whole). `calls` are the tool calls that the server has parsed.
    """

    status: int | None
    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    guard: Mapping[str, str] = field(default_factory=dict)
    refusal: str | None = None
    retries: int = 0
    chunks: int = 0
    trouble: str | None = None
    calls: tuple[FunctionCall, ...] = ()


class Endpoint(Protocol):
    """The served job, as its users ask it. `closed` says why it is not asked in this run; None: it is."""

    @property
    def closed(self) -> str | None:
        """Why nothing is sent."""

    def ask(
        self,
        model: str,
        messages: Sequence[Message],
        max_tokens: int,
        seconds: float,
        switches: Mapping[str, Any] | None = None,
        tools: Any = None,
    ) -> Reply:
        """Ask once and wait so long at most. Never raises. `switches` are sent as chat_template_kwargs."""

    def logged(self, seconds: float) -> str | None:
        """What the job's log has grown by since it was opened; waits so long for the first of it.

        None where there is no log to look into: `serving.log_path` is not set. Raises `OSError`.
        """
