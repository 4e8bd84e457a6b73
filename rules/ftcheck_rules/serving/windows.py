"""The context window that the declared server really has: as stated, or by the engine's own default."""

from dataclasses import dataclass
from typing import Any

from ftcheck import Job, tables

RAISED = "start the server with a max_model_len of at least {tokens}"
"""How most servers get a larger context."""


@dataclass(frozen=True, slots=True)
class Window:
    """A server's context: `tokens`, what it is called, the setting it belongs to, and how to raise it."""

    tokens: int
    name: str
    key: str
    raise_it: str = RAISED

    def remedy(self, tokens: int) -> str:
        """What to do so that so many tokens fit."""
        return self.raise_it.format(tokens=tokens)


def server_window(job: Job) -> Window | None:
    """serving.max_model_len, else the engine's dated default; None where nothing is known of it."""
    stated = job.serving.max_model_len
    known: dict[str, Any] | None = tables.load("serving_engines")["context_defaults"].get(
        job.serving.engine or ""
    )
    if stated is not None:
        raised = f"{known['fix']}, and serving.max_model_len too" if known is not None else RAISED
        return Window(stated, "serving.max_model_len", "serving.max_model_len", raised)
    if known is None:
        return None
    tokens = _default(job, known)
    name = f"{known['name']}'s default context ({known['option']} is not set)"
    return Window(
        tokens, name, "serving.engine", f"{known['fix']}, and set serving.max_model_len: {{tokens}}"
    )


def _default(job: Job, known: dict[str, Any]) -> int:
    """The default of the stated version; of the newest where none is stated, for the least memory."""
    stated = job.serving.engine_version
    fitting = [one for one in known["defaults"] if stated is None or not before(stated, one["from"])]
    tokens: int = (fitting or known["defaults"][:1])[-1]["tokens"]
    return tokens


def version(stated: str) -> tuple[int, ...]:
    """`4.55.0` as numbers; what is not a number counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in stated.split(".")[:3])


def before(stated: str, first: str) -> bool:
    """Whether a stated version is older than `first`."""
    return version(stated) < version(first)
