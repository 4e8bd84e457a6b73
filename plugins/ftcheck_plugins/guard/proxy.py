"""LiteLLM's hooks: the guard of one job as a guardrail of LiteLLM's proxy.

Only LiteLLM imports this module, by the name that `ftcheck export litellm` writes into its configuration.
Whatever goes wrong in here refuses the request, and a guard that cannot be opened keeps the proxy from
starting: LiteLLM itself leaves out a guardrail that raises `ValueError` or `TypeError`, and starts.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from fastapi import HTTPException  # noqa: TID253
from litellm.integrations.custom_guardrail import CustomGuardrail  # noqa: TID253
from litellm.types.guardrails import GuardrailEventHooks  # noqa: TID253

from ftcheck import tables
from ftcheck_plugins.guard import log
from ftcheck_plugins.guard.counting import admitted, capped
from ftcheck_plugins.guard.flow import answered, checked
from ftcheck_plugins.guard.opening import job_of, opened
from ftcheck_plugins.guard.records import STATUS, Answer, Code, Decision, Guard, Messages, Question, Refused

CHAT = frozenset({"completion", "acompletion"})
"""LiteLLM's names for requests to /chat/completions."""
CAPS = ("max_tokens", "max_completion_tokens")
SENT_AGAIN = (
    "temperature",
    "top_p",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
    "tools",
    "tool_choice",
    "extra_body",
)
"""What goes along when the guard asks on its own: parts of an input, and a retry."""
TICKET = "ftcheck_guard"
"""The key of a request's metadata that names what the guard knows of it; LiteLLM logs metadata."""
JOB = "ftcheck_job"
"""The key of a model's `model_info` in the configuration that names the job."""
UNDER_WAY = 10_000
"""So many requests are remembered; one that was forgotten is refused."""
HEADERS = "x-ftcheck-"


@dataclass
class _Facts:
    """What the guard knows of a request under way. `given` is the whole answer where the guard made it."""

    question: Question
    started: float
    stream: bool
    given: Answer | None = None
    answer: Answer | None = None


class FtcheckGuard(CustomGuardrail):  # type: ignore[misc]
    """The guard of one job. It concerns requests for the models that it is told, all of them, always."""

    def __init__(
        self,
        guardrail_name: str | None = None,
        event_hook: Any = None,
        default_on: bool | None = None,
        ftcheck: Mapping[str, Any] | None = None,
        models: Any = None,
        **others: Any,
    ) -> None:
        """`ftcheck` is what `settings_of` wrote down; `models` are the proxy's names for the job's model.

        Raises `RuntimeError` for anything that would leave requests unguarded.
        """
        try:
            job = job_of(ftcheck or {})
            self.guard: Guard = opened(job)
        except Exception as error:
            raise RuntimeError(f"guardrail {guardrail_name}: {error}") from error
        self.models = frozenset([models] if isinstance(models, str) else models or [job.name])
        self.log_path = job.serving.log_path
        self.logs = job.serving.log != "none"
        hooks = [GuardrailEventHooks.pre_call, GuardrailEventHooks.post_call]
        stated = {str(getattr(one, "value", one)) for one in (event_hook or [])}
        if stated != {"pre_call", "post_call"} or default_on is not True:
            raise RuntimeError(
                f"guardrail {guardrail_name}: mode must be [pre_call, post_call], default_on true"
            )
        self._under_way: dict[str, _Facts] = {}
        super().__init__(
            guardrail_name=guardrail_name, supported_event_hooks=hooks, event_hook=hooks, default_on=True
        )

    def should_run_guardrail(self, data: Any, event_type: GuardrailEventHooks) -> bool:
        """Always: no request, key or team switches the guard off; its hooks look which models it concerns."""
        return event_type in (GuardrailEventHooks.pre_call, GuardrailEventHooks.post_call)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Count, decide, cap; answer here what the model is not to answer whole. Raises `HTTPException`."""
        started = time.monotonic()
        try:
            if not self._concerns(data):
                return data
            return await self._admitted(data, call_type, started)
        except Exception as error:
            self._refuse(error, data, started)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any]:
        """Refuse what would reach the job's server past the count: aliases, fallbacks of the router."""
        job = (kwargs.get("model_info") or {}).get(JOB)
        if job == self.guard.job and self._known(kwargs) is None:
            self._refuse(
                Refused(Code.NOT_GUARDED, "this request bypassed the guard"), kwargs, time.monotonic()
            )
        return kwargs

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        """Check the answer, ask again once if it breaks the schema. Raises `HTTPException`."""
        started = time.monotonic()
        try:
            if not self._concerns(data):
                return response
            facts = self._facts(data)
            started = facts.started
            facts.answer = facts.given or await self._checked(facts.question, response, data)
            if facts.given is None:
                _put(response, facts.answer)
            self._log(facts)
            return response
        except Exception as error:
            self._refuse(error, data, started)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Let a stream through, and count what went by: a stream that must be checked was answered before."""
        if not self._concerns(request_data):
            async for item in response:
                yield item
            return
        facts = self._facts(request_data)
        said: list[str] = []
        async for item in response:
            said.append(_said(item))
            yield item
        counted = await asyncio.to_thread(self.guard.tokenizer.encode, "".join(said))
        facts.answer = facts.given or Answer("", completion_tokens=len(counted))
        self._log(facts)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Log a request that the server behind the proxy did not answer; what the guard refused is logged."""
        facts = self._known(request_data) if self._concerns(request_data) else None
        if facts is None or isinstance(original_exception, HTTPException):
            return
        seconds = time.monotonic() - facts.started
        one = log.record(
            self.guard.job,
            facts.question,
            None,
            status=STATUS[Code.UPSTREAM],
            reason=Code.UPSTREAM,
            stream=facts.stream,
            seconds=seconds,
        )
        self._forget(facts)
        if self.logs:
            log.write(self.log_path, one)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
    ) -> dict[str, str] | None:
        """Say in headers that the guard was there, what it decided and what it counted."""
        facts = self._known(data) if self._concerns(data) else None
        if facts is None:
            return None
        answer = facts.answer or facts.given
        return {
            f"{HEADERS}guard": self.guard.job,
            f"{HEADERS}decision": facts.question.decision.value,
            f"{HEADERS}prompt-tokens": str(facts.question.tokens),
            f"{HEADERS}max-new-tokens": str(facts.question.cap),
            f"{HEADERS}retries": str(answer.retries if answer else 0),
            f"{HEADERS}chunks": str(answer.chunks if answer else 0),
        }

    def _concerns(self, data: Mapping[str, Any]) -> bool:
        """Whether a request may reach the job's model: it names it, or names it to fall back to."""
        others = [data.get(key) for key in tables.load("guard")["fallback_keys"]]
        return data.get("model") in self.models or bool(self.models & set(_strings(others)))

    def _known(self, data: Mapping[str, Any]) -> _Facts | None:
        metadata = data.get("metadata")
        return self._under_way.get(str(metadata.get(TICKET))) if isinstance(metadata, Mapping) else None

    def _facts(self, data: Mapping[str, Any]) -> _Facts:
        facts = self._known(data)
        if facts is None:
            raise Refused(Code.FAILED, "this request was not counted")
        return facts

    def _forget(self, facts: _Facts | None) -> None:
        """What users wrote is not kept longer than it is needed."""
        if facts is not None:
            facts.question = replace(facts.question, messages=(), tools=None)
            facts.given = replace(facts.given, text="") if facts.given else None
            facts.answer = replace(facts.answer, text="") if facts.answer else None

    def _remember(self, facts: _Facts) -> str:
        """A name that nobody can guess, under which the later hooks find what was decided."""
        while len(self._under_way) >= UNDER_WAY:
            self._under_way.pop(next(iter(self._under_way)))
        name = secrets.token_hex(16)
        self._under_way[name] = facts
        return name

    async def _admitted(self, data: dict[str, Any], call_type: str, started: float) -> dict[str, Any]:
        if call_type not in CHAT:
            raise Refused(Code.NOT_GUARDED, "only /chat/completions is guarded for this model")
        if data.get("model") not in self.models:
            raise Refused(Code.NOT_GUARDED, "this model cannot be used as a fallback; request it directly")
        _plain(data)
        asked = [capped(data.pop(key, None), self.guard.max_new_tokens) for key in CAPS]
        messages, tools = data.get("messages"), data.get("tools")
        question = await asyncio.to_thread(admitted, self.guard, messages, min(asked), tools)
        facts = _Facts(question, started, stream=bool(data.get("stream")))
        data["metadata"] = {**(data.get("metadata") or {}), TICKET: self._remember(facts)}
        data.update(messages=[dict(one) for one in question.messages], max_tokens=question.cap)
        if self.guard.switches:
            switches = {"chat_template_kwargs": dict(self.guard.switches)}
            data["extra_body"] = {**(data.get("extra_body") or {}), **switches}
        whole = facts.stream and self.guard.schema is not None
        if whole or question.decision is not Decision.PASS:
            facts.given = await answered(self.guard, question, self._ask(data))
            data["mock_response"] = _response(facts.given, question, str(data["model"]))
        return data

    async def _checked(self, question: Question, response: Any, data: dict[str, Any]) -> Answer:
        if len(response.choices) != 1:
            raise Refused(Code.UPSTREAM, "the server behind the proxy returned no answer, or more than one")
        return await checked(self.guard, question, _answer(response), self._ask(data))

    def _ask(self, data: Mapping[str, Any]) -> Callable[[Messages, int], Any]:
        """What sends messages to the job's model, past the proxy's hooks but through its router."""

        async def ask(messages: Messages, cap: int) -> Answer:
            from litellm.proxy import proxy_server

            kept = {key: data[key] for key in SENT_AGAIN if data.get(key) is not None}
            kept["metadata"] = {TICKET: data["metadata"][TICKET]}
            sent = [dict(one) for one in messages]
            try:
                response = await proxy_server.llm_router.acompletion(
                    model=data["model"], messages=sent, max_tokens=cap, stream=False, **kept
                )
            except Exception as error:
                kind = type(error).__name__
                raise Refused(
                    Code.UPSTREAM, f"the server behind the proxy did not answer ({kind})"
                ) from error
            return _answer(response)

        return ask

    def _refuse(self, error: Exception, data: Mapping[str, Any], started: float) -> NoReturn:
        """Raise what LiteLLM makes an HTTP error of; an error of the guard itself refuses too."""
        if not isinstance(error, Refused):
            error = Refused(Code.FAILED, f"the guard failed ({type(error).__name__}): refused")
        facts = self._known(data)
        question = facts.question if facts else None
        self._forget(facts)
        one = log.record(
            self.guard.job,
            question,
            error.answer,
            status=error.status,
            reason=error.reason,
            stream=bool(data.get("stream")),
            seconds=time.monotonic() - started,
        )
        if self.logs:
            log.write(self.log_path, one)
        body: dict[str, Any] = {"error": str(error), "type": "ftcheck_guard", "code": error.reason.value}
        if error.answer is not None:
            tokens = error.answer.completion_tokens
            body |= {"retries": error.answer.retries, "completion_tokens": tokens}
        raise HTTPException(status_code=error.status, detail=body) from None

    def _log(self, facts: _Facts) -> None:
        self._forget(facts)
        if self.logs:
            seconds = time.monotonic() - facts.started
            one = log.record(
                self.guard.job, facts.question, facts.answer, stream=facts.stream, seconds=seconds
            )
            log.write(self.log_path, one)


def _plain(data: Mapping[str, Any]) -> None:
    """Refuse what would make the server read another prompt, or write more, than was counted."""
    table = tables.load("guard")
    given = {**data, **(data["extra_body"] if isinstance(data.get("extra_body"), dict) else {})}
    for key in sorted(
        set(table["refused_keys"]) & {key for key, value in given.items() if value is not None}
    ):
        raise Refused(Code.NOT_COUNTED, f"'{key}' changes the input that was counted: remove it")
    extra = data.get("extra_body") or {}
    for key in sorted({"model", "messages", "stream", "n", "tools", *CAPS} & set(extra)):
        raise Refused(Code.NOT_COUNTED, f"'{key}' is in extra_body: put it into the request itself")
    if data.get("n") not in (None, 1):
        raise Refused(Code.NOT_COUNTED, "'n' requests several answers: the guard supports one")


def _strings(value: Any) -> list[str]:
    """Every text in a nested value, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for one in pair for text in _strings(one)]
    return [text for one in value for text in _strings(one)] if isinstance(value, list | tuple) else []


def _answer(response: Any) -> Answer:
    """An answer of LiteLLM's. Raises `Refused` for a response that holds none."""
    try:
        one, usage = response.choices[0], getattr(response, "usage", None)
        text, finish = one.message.content or "", one.finish_reason
    except (AttributeError, IndexError, TypeError) as error:
        raise Refused(Code.UPSTREAM, "the server behind the proxy returned no answer") from error
    prompt, completion = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(text, finish, prompt, completion)


def _put(response: Any, answer: Answer) -> None:
    """Write an answer that was asked for again into the response."""
    if not answer.retries:
        return
    response.choices[0].message.content = answer.text
    response.choices[0].finish_reason = answer.finish or "stop"
    usage = response.usage
    usage.prompt_tokens, usage.completion_tokens = answer.prompt_tokens or 0, answer.completion_tokens or 0
    usage.total_tokens = usage.prompt_tokens + usage.completion_tokens


def _response(answer: Answer, question: Question, model: str) -> Any:
    """A whole answer as LiteLLM's own record; as text it would be taken for an instruction in places."""
    from litellm import ModelResponse, Usage

    prompt, completion = answer.prompt_tokens or 0, answer.completion_tokens or 0
    message = {"role": "assistant", "content": answer.text}
    return ModelResponse(
        model=model,
        choices=[{"index": 0, "finish_reason": answer.finish or "stop", "message": message}],
        usage=Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion),
    )


def _said(item: Any) -> str:
    """The text of a piece of a stream."""
    choices = getattr(item, "choices", None) or []
    return "".join(getattr(getattr(one, "delta", None), "content", None) or "" for one in choices)
