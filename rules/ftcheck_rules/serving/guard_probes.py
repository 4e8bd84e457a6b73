"""Live probes of a served job's guardrails: the guardrails are tested, not only read in the policy."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ftcheck import Finding, Job, Measurement, OutputSchema, ServingSide, Severity
from ftcheck.extension.rules import Yield
from ftcheck.inputs.endpoint import Endpoint, Reply
from ftcheck.inputs.output_schema import problems
from ftcheck.inputs.tokenizer import Message
from ftcheck.plurals import counted

FILLER = " and a word more"
CRUMBS = (" a", "a", ".", "1", " .", "e", " x", "\n", "?")
"""Small texts, most of them one token, that bring a probe to its exact number of tokens."""
LENGTH = "ftcheck probe {canary}: this text has only a length."
BREAK = "ftcheck probe {canary}: break the schema. Answer with the one word hello, and with no JSON."
LONG = "ftcheck probe {canary}: write long. Count upwards from one, in words, and never come to an end."
CANARY = "canary-{}"
SHORT_WAIT = 3.0
"""Seconds that the log has to be written."""
MORE = 4
"""The probe of the cap asks for this multiple of the cap."""

Count = Callable[[str], int]


@dataclass(frozen=True)
class Probed:
    """A served job under test. `model` is its name there, `seconds` the timeout of one answer."""

    job: Job
    side: ServingSide
    schema: OutputSchema | None
    endpoint: Endpoint
    model: str
    seconds: float
    canary: str

    def messages(self, text: str) -> tuple[Message, ...]:
        """A conversation as the guard builds it from a user's text: the server's system prompt first."""
        system = self.job.serving.system_prompt
        before: tuple[Message, ...] = ({"role": "system", "content": system},) if system is not None else ()
        return (*before, {"role": "user", "content": text})

    def count(self, text: str) -> int:
        """Tokens of the rendered prompt for a user's text."""
        rendered = self.side.tokenizer.render(self.messages(text), prompt=True, **self.side.switches)
        return len(self.side.tokenizer.encode(rendered))

    def ask(self, text: str, max_tokens: int | None = None) -> Reply:
        """Send a user's text, as a user would."""
        cap = max_tokens or self.job.serving.max_new_tokens or 1
        return self.endpoint.ask(self.model, [{"role": "user", "content": text}], cap, self.seconds)


def probes(
    job: Job, side: ServingSide, schema: OutputSchema | None, endpoint: Endpoint, model: str, seconds: float
) -> Iterator[Yield]:
    """Five probes: at the input limit, above it, an invalid answer, the cap, a planted word in the log."""
    if endpoint.closed is not None:
        yield _info(job, "endpoint", f"the guardrails are declared, but were not probed: {endpoint.closed}")
        return
    probed = Probed(job, side, schema, endpoint, model, seconds, CANARY.format(secrets.token_hex(8)))
    alive, said = _at_limit(probed)
    yield from said
    if not alive:
        yield Measurement("probes", 1, unit="probes")
        return
    yield from _over_limit(probed)
    yield from _broken(probed)
    yield from _long(probed)
    yield from _logged(probed)
    yield Measurement("probes", 3 + (schema is not None), unit="probes")


def filled(start: str, count: Count, limit: int) -> tuple[str, str]:
    """A text that starts with `start`, just within `limit` tokens, and one just above it.

    They are one token apart where the tokenizer has a small text of one token. Raises `ValueError` where the
    start alone exceeds the limit.
    """
    if count(start) > limit:
        raise ValueError("the limit is below the length of a probe's own text")
    low, high = 0, 1
    while count(start + FILLER * high) <= limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(start + FILLER * middle) <= limit else (low, middle)
    text = start + FILLER * low
    while more := next((text + one for one in CRUMBS if count(text) < count(text + one) <= limit), None):
        text = more
    over = min((text + one for one in (*CRUMBS, FILLER) if count(text + one) > limit), key=count)
    return text, over


def _at_limit(probed: Probed) -> tuple[bool, list[Yield]]:
    """Whether the endpoint can be probed, and what was found at the input limit."""
    job, limit = probed.job, probed.job.serving.max_input_tokens or 0
    try:
        text, _ = filled(LENGTH.format(canary=probed.canary), probed.count, limit)
    except ValueError as error:
        return True, [_error(job, "max_input_tokens", f"the input limit cannot be probed: {error}")]
    tokens, reply = probed.count(text), probed.ask(text)
    said: list[Yield] = [Measurement("probe_at_limit", tokens, unit="tokens", limit=f"<= {limit}")]
    if reply.status is None:
        return False, [*said, _dead(job, reply)]
    if reply.status != 200 and reply.refusal != "schema":
        why = f"an input of {tokens:,} tokens is rejected, although max_input_tokens is {limit:,}"
        return True, [*said, _error(job, "endpoint", f"{why}: {_answered(reply)}")]
    return True, [*said, *_guarded(probed, reply, "at the limit"), *_counted(probed, reply, tokens)]


def _over_limit(probed: Probed) -> Iterator[Yield]:
    job, limit, action = probed.job, probed.job.serving.max_input_tokens or 0, probed.job.serving.over_limit
    try:
        _, text = filled(LENGTH.format(canary=probed.canary), probed.count, limit)
    except ValueError:
        return
    reply = probed.ask(text)
    tokens = probed.count(text)
    yield Measurement("probe_over_limit", tokens, unit="tokens", limit=f"> {limit}")
    decision = reply.guard.get("decision")
    held = {
        "reject": reply.status == 400 and reply.refusal == "over-limit",
        "rules": reply.status == 200 and decision == "rules",
        "chunk": decision == "chunk" and (reply.chunks > 1 or reply.refusal == "schema"),
    }
    if action is not None and not held[action]:
        what = f"an input of {tokens:,} tokens, above max_input_tokens {limit:,}"
        yield _error(job, "over_limit", f"over_limit is {action}, but {what}, got: {_answered(reply)}")
    yield from _within_cap(probed, reply)


def _broken(probed: Probed) -> Iterator[Yield]:
    """An answer that violates the schema must be retried, and must not be returned."""
    job, schema = probed.job, probed.schema
    if schema is None:
        return
    reply = probed.ask(BREAK.format(canary=probed.canary))
    retries = reply.retries
    yield Measurement("probe_retries", retries, unit="retries")
    if reply.status == 200 and (wrong := problems(reply.text, schema)):
        said = "; ".join(wrong[:3])
        yield _error(job, "output_schema", f"an answer that violates the schema is returned: {said}")
    elif reply.status not in (200, None) and reply.refusal != "schema":
        yield _error(job, "output_schema", f"the schema probe got no answer: {_answered(reply)}")
    elif reply.status is None:
        yield _dead(job, reply)
    elif reply.refusal == "schema" and retries < job.serving.schema_retries:
        said = f"an invalid answer is retried {counted(retries, 'time')}, schema_retries is"
        yield _error(job, "schema_retries", f"{said} {job.serving.schema_retries}")
    elif reply.refusal is None and not retries:
        said = "it is unknown whether an invalid answer is retried: the model returned a valid one"
        yield _info(job, "output_schema", said)
    if reply.status == 200:
        yield from _guarded(probed, reply, "to the schema probe")


def _long(probed: Probed) -> Iterator[Yield]:
    """An answer must end at the cap, whatever the request asks for."""
    job, cap = probed.job, probed.job.serving.max_new_tokens
    if cap is None:
        return
    reply = probed.ask(LONG.format(canary=probed.canary), MORE * cap)
    yield Measurement("probe_answer", reply.completion_tokens, unit="tokens", limit=f"<= {_most(cap, reply)}")
    if reply.status is None:
        yield _dead(job, reply)
    elif reply.status != 200 and reply.refusal != "schema":
        yield _error(job, "max_new_tokens", f"the probe of the cap got no answer: {_answered(reply)}")
    elif reply.completion_tokens is None:
        said = "the cap cannot be probed: the answer contains no completion_tokens"
        yield _error(job, "max_new_tokens", said)
    elif reply.completion_tokens < _most(cap, reply) and reply.finish != "length":
        said = f"it is unknown whether answers end at max_new_tokens {cap}: the model's answer was shorter"
        yield _info(job, "max_new_tokens", said)
    yield from _within_cap(probed, reply)
    if reply.status == 200:
        yield from _guarded(probed, reply, "to the probe of the cap")


def _logged(probed: Probed) -> Iterator[Yield]:
    """The log must have grown with the probes, and must not contain the word that all of them carried."""
    job = probed.job
    if job.serving.log == "none":
        return
    try:
        grown = probed.endpoint.logged(SHORT_WAIT)
    except OSError as error:
        yield _error(job, "log_path", f"the log cannot be read: {(error.strerror or str(error)).lower()}")
        return
    if grown is None:
        said = "it is unknown whether the log contains user text: serving.log_path is not set"
        yield _info(job, "log", said)
        return
    yield Measurement("probe_log_lines", grown.count("\n"), unit="lines")
    if probed.canary in grown:
        yield _error(job, "log", "the log contains user text: a word of the probes was found in it")
    elif not grown.strip():
        said = "the probes left no line in the log: it is not written, or written elsewhere"
        yield _error(job, "log_path", said)


def _guarded(probed: Probed, reply: Reply, which: str) -> Iterator[Finding]:
    name = reply.guard.get("guard")
    if name == probed.job.name or (name is None and reply.refusal is not None):
        return
    said = "bypassed the guard" if name is None else f"came through the guard of job {name}"
    fix = "attach the guard: `ftcheck export litellm` writes the proxy's configuration"
    why = "Without its guard, none of the declared guardrails applies."
    yield Finding(f"the answer {which} {said}", at=probed.job.at("serving.endpoint"), fix=fix, why=why)


def _counted(probed: Probed, reply: Reply, tokens: int) -> Iterator[Finding]:
    """The guard, and the server behind it, must count what the job's tokenizer counts."""
    job, guard = probed.job, reply.guard.get("prompt-tokens")
    if guard is not None and guard != str(tokens):
        message = f"the guard counts {guard} tokens, the job's tokenizer counts {tokens}"
        fix = "export the guard's configuration again (`ftcheck export litellm`), and restart the proxy"
        why = "The guard applies the input limit to a wrong count."
        yield Finding(message, at=job.at("serving.endpoint"), fix=fix, why=why)
    if reply.prompt_tokens not in (None, tokens) and reply.status == 200 and not reply.retries:
        message = f"the server counts {reply.prompt_tokens} tokens, the job's tokenizer counts {tokens}"
        fix = (
            "serve with the job's tokenizer and template, or set serving.tokenizer and serving.chat_template"
        )
        why = "The server prompts the model with other tokens than it was trained on."
        yield Finding(message, Severity.WARNING, at=job.at("serving.endpoint"), fix=fix, why=why)


def _within_cap(probed: Probed, reply: Reply) -> Iterator[Finding]:
    cap, given = probed.job.serving.max_new_tokens, reply.completion_tokens
    if cap is not None and given is not None and given > _most(cap, reply):
        said = f"an answer has {counted(given, 'token')}, max_new_tokens is {cap:,}"
        yield _error(probed.job, "max_new_tokens", said)


def _most(cap: int, reply: Reply) -> int:
    """The cap, once for every time that the model was asked."""
    return cap * (max(reply.chunks, 1) + reply.retries)


def _answered(reply: Reply) -> str:
    if reply.status is None:
        return reply.trouble or "no answer"
    decision = reply.guard.get("decision")
    return f"HTTP {reply.status}" + (f", {reply.refusal or decision}" if reply.refusal or decision else "")


def _dead(job: Job, reply: Reply) -> Finding:
    return _error(job, "endpoint", f"the endpoint cannot be probed: {reply.trouble or 'no answer'}")


def _error(job: Job, key: str, message: str) -> Finding:
    return Finding(
        message, at=job.at(f"serving.{key}"), fix=FIXES.get(key, "check the configuration of the proxy")
    )


def _info(job: Job, key: str, message: str) -> Finding:
    return Finding(message, Severity.INFO, at=job.at(f"serving.{key}"))


FIXES = {
    "endpoint": "start the guarded proxy; set serving.endpoint to its URL with /v1, and its key in"
    " FTCHECK_ENDPOINT_KEY",
    "log_path": "set serving.log_path to the file that the guard logs to",
    "log": "attach the guard, and turn off the proxy's other loggers",
}
