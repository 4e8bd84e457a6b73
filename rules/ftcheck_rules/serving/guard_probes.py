"""Live probes of a served job's guardrails: they are asked to hold, and not only read in the policy."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ftcheck import Finding, Job, Measurement, OutputSchema, ServingSide, Severity
from ftcheck.extension.rules import Yield
from ftcheck.inputs.endpoint import Endpoint, Reply
from ftcheck.inputs.output_schema import problems
from ftcheck.inputs.tokenizer import Message

FILLER = " and a word more"
CRUMBS = (" a", "a", ".", "1", " .", "e", " x", "\n", "?")
"""Small texts, most of which are one token: with them a probe is brought to the token it must have."""
LENGTH = "ftcheck probe {canary}: this text has only a length."
BREAK = "ftcheck probe {canary}: break the schema. Answer with the one word hello, and with no JSON."
LONG = "ftcheck probe {canary}: write long. Count upwards from one, in words, and never come to an end."
CANARY = "canary-{}"
SHORT_WAIT = 3.0
"""Seconds for the log to be written."""
MORE = 4
"""The cap's probe asks for so many times the cap."""

Count = Callable[[str], int]


@dataclass(frozen=True)
class Probed:
    """A served job under probe. `model` is its name there, `seconds` the patience for one answer."""

    job: Job
    side: ServingSide
    schema: OutputSchema | None
    endpoint: Endpoint
    model: str
    seconds: float
    canary: str

    def messages(self, text: str) -> tuple[Message, ...]:
        """A conversation as the guard makes it of a user's words: the server's system prompt first."""
        system = self.job.serving.system_prompt
        before: tuple[Message, ...] = ({"role": "system", "content": system},) if system is not None else ()
        return (*before, {"role": "user", "content": text})

    def count(self, text: str) -> int:
        """Tokens of the rendered prompt for a user's words."""
        rendered = self.side.tokenizer.render(self.messages(text), prompt=True, **self.side.switches)
        return len(self.side.tokenizer.encode(rendered))

    def ask(self, text: str, max_tokens: int | None = None) -> Reply:
        """Send a user's words, as a user would."""
        cap = max_tokens or self.job.serving.max_new_tokens or 1
        return self.endpoint.ask(self.model, [{"role": "user", "content": text}], cap, self.seconds)


def probes(
    job: Job, side: ServingSide, schema: OutputSchema | None, endpoint: Endpoint, model: str, seconds: float
) -> Iterator[Yield]:
    """Five probes: at the input limit, over it, a broken answer, the cap, and a planted word in the log."""
    if endpoint.closed is not None:
        yield _info(job, "endpoint", f"the guardrails are declared and not probed: {endpoint.closed}")
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
    """A text that begins with `start`, just within `limit` tokens, and one just over it.

    One token apart where the tokenizer has a small text that makes one token. Raises `ValueError` where the
    start alone is over the limit.
    """
    if count(start) > limit:
        raise ValueError("the limit is below a probe's own words")
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
    """Whether anything is there to probe, and what was found at the input limit."""
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
        why = f"an input of {tokens:,} tokens, within the limit of {limit:,}, is refused"
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
        what = f"an input of {tokens:,} tokens, over the limit of {limit:,}, is not handled by {action}"
        yield _error(job, "over_limit", f"{what}: {_answered(reply)}")
    yield from _within_cap(probed, reply)


def _broken(probed: Probed) -> Iterator[Yield]:
    """An answer that breaks the schema must be asked for again, and must not go out."""
    job, schema = probed.job, probed.schema
    if schema is None:
        return
    reply = probed.ask(BREAK.format(canary=probed.canary))
    retries = reply.retries
    yield Measurement("probe_retries", retries, unit="retries")
    if reply.status == 200 and (wrong := problems(reply.text, schema)):
        said = "; ".join(wrong[:3])
        yield _error(job, "output_schema", f"an answer that breaks the schema goes out: {said}")
    elif reply.status not in (200, None) and reply.refusal != "schema":
        yield _error(job, "output_schema", f"the probe of the schema is not answered: {_answered(reply)}")
    elif reply.status is None:
        yield _dead(job, reply)
    elif reply.refusal == "schema" and retries < job.serving.schema_retries:
        said = f"a broken answer is asked for again {retries} times, not {job.serving.schema_retries}"
        yield _error(job, "schema_retries", said)
    elif reply.refusal is None and not retries:
        yield _info(job, "output_schema", "cannot tell whether a broken answer is retried: none came")
    if reply.status == 200:
        yield from _guarded(probed, reply, "to the probe of the schema")


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
        yield _error(job, "max_new_tokens", f"the probe of the cap is not answered: {_answered(reply)}")
    elif reply.completion_tokens is None:
        yield _error(job, "max_new_tokens", "the cap cannot be probed: the answer says no completion_tokens")
    elif reply.completion_tokens < _most(cap, reply) and reply.finish != "length":
        yield _info(job, "max_new_tokens", f"cannot tell whether {cap} tokens are the cap: none came near")
    yield from _within_cap(probed, reply)
    if reply.status == 200:
        yield from _guarded(probed, reply, "to the probe of the cap")


def _logged(probed: Probed) -> Iterator[Yield]:
    """The log must have grown with the probes, and must not hold the word that all of them carried."""
    job = probed.job
    if job.serving.log == "none":
        return
    try:
        grown = probed.endpoint.logged(SHORT_WAIT)
    except OSError as error:
        yield _error(job, "log_path", f"the log cannot be read: {(error.strerror or str(error)).lower()}")
        return
    if grown is None:
        yield _info(job, "log", "whether the log holds content is not probed: serving.log_path is not set")
        return
    yield Measurement("probe_log_lines", grown.count("\n"), unit="lines")
    if probed.canary in grown:
        yield _error(job, "log", "the log holds what users write: a planted word turned up in it")
    elif not grown.strip():
        yield _error(job, "log_path", "the probes left no line in the log: none is written, or elsewhere")


def _guarded(probed: Probed, reply: Reply, which: str) -> Iterator[Finding]:
    name = reply.guard.get("guard")
    if name == probed.job.name or (name is None and reply.refusal is not None):
        return
    said = "came past the guard" if name is None else f"came through the guard of job {name}"
    fix = "attach it: `ftcheck export litellm` writes the proxy's configuration"
    yield Finding(f"the answer {which} {said}", at=probed.job.at("serving.endpoint"), fix=fix)


def _counted(probed: Probed, reply: Reply, tokens: int) -> Iterator[Finding]:
    """The guard, and the server behind it, must count what the job's tokenizer counts."""
    job, guard = probed.job, reply.guard.get("prompt-tokens")
    if guard is not None and guard != str(tokens):
        message = f"the guard counts {guard} tokens where the job's tokenizer counts {tokens}"
        yield Finding(
            message, at=job.at("serving.endpoint"), fix="write its configuration again, and restart it"
        )
    if reply.prompt_tokens not in (None, tokens) and reply.status == 200 and not reply.retries:
        message = f"the server counts {reply.prompt_tokens} tokens where the job's tokenizer counts {tokens}"
        fix = "serve with the job's tokenizer and template, or state what the server loads"
        yield Finding(message, Severity.WARNING, at=job.at("serving.endpoint"), fix=fix)


def _within_cap(probed: Probed, reply: Reply) -> Iterator[Finding]:
    cap, given = probed.job.serving.max_new_tokens, reply.completion_tokens
    if cap is not None and given is not None and given > _most(cap, reply):
        yield _error(probed.job, "max_new_tokens", f"an answer has {given:,} tokens, the cap is {cap:,}")


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
        message, at=job.at(f"serving.{key}"), fix=FIXES.get(key, "look at the proxy in front of it")
    )


def _info(job: Job, key: str, message: str) -> Finding:
    return Finding(message, Severity.INFO, at=job.at(f"serving.{key}"))


FIXES = {
    "endpoint": "start the guarded proxy, and give its URL with /v1 and its key in FTCHECK_ENDPOINT_KEY",
    "log_path": "name the file that the guard logs to",
    "log": "attach the guard, and turn other loggers of the proxy off",
}
