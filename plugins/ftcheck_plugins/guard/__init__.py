"""The serving guardrails of a job, as a library: count, decide, cap, cut up, check, ask again, log counts.

    guard = opened(job)                                            # tokenizer, schema, fallback rules
    question = admitted(guard, messages, cap=request_max_tokens)   # counted, decided, capped; or Refused
    answer = await answered(guard, question, ask)                  # ask(messages, cap) sends to the model
    write(path, record(job.name, question, answer))                # counts, never content

`ftcheck_plugins.guard.proxy` plugs it into LiteLLM's proxy; `ftcheck export litellm` writes the
configuration. Everything but `ask`, `write` and `opened` is a pure function.
"""

from ftcheck_plugins.guard.chunks import merge, split
from ftcheck_plugins.guard.counting import admitted, capped, count, decide, normalised
from ftcheck_plugins.guard.flow import answered, checked, parts, stricter
from ftcheck_plugins.guard.log import Record, record, write
from ftcheck_plugins.guard.opening import job_of, opened, settings_of, wanting
from ftcheck_plugins.guard.records import Answer, Code, Decision, Guard, Question, Refused

__all__ = [
    "Answer",
    "Code",
    "Decision",
    "Guard",
    "Question",
    "Record",
    "Refused",
    "admitted",
    "answered",
    "capped",
    "checked",
    "count",
    "decide",
    "job_of",
    "merge",
    "normalised",
    "opened",
    "parts",
    "record",
    "settings_of",
    "split",
    "stricter",
    "wanting",
    "write",
]
