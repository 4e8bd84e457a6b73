"""What LiteLLM is relied on for, held against the LiteLLM that is installed."""

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from ftcheck.runner.load import load

pytest.importorskip("litellm.proxy.proxy_cli", reason="the extra [guard] is not installed")

from fastapi import HTTPException
from ftcheck_plugins.guard import proxy, settings_of
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.proxy.guardrails.init_guardrails import init_guardrails_v2

from tests.places import CHECKOUT

POLICY = CHECKOUT / "policies" / "night_before.yaml"
pytestmark = [pytest.mark.guard, pytest.mark.filterwarnings("ignore")]
"""LiteLLM's own warnings are not ours."""

HOOKS = (
    "async_pre_call_hook",
    "async_post_call_success_hook",
    "async_pre_call_deployment_hook",
    "async_post_call_streaming_iterator_hook",
    "async_post_call_failure_hook",
    "async_post_call_response_headers_hook",
    "should_run_guardrail",
)


def stated(**changes: Any) -> dict[str, Any]:
    params = {
        "guardrail": "ftcheck_plugins.guard.proxy.FtcheckGuard",
        "mode": ["pre_call", "post_call"],
        "default_on": True,
        "ftcheck": settings_of(load(POLICY).policy.jobs["mapper"]),
    }
    return {"guardrail_name": "ftcheck-mapper", "litellm_params": {**params, **changes}}


@pytest.mark.parametrize("hook", HOOKS)
def test_litellm_calls_the_hooks_with_the_arguments_that_the_guard_takes(hook: str) -> None:
    theirs = inspect.signature(getattr(CustomGuardrail, hook)).parameters
    ours = inspect.signature(getattr(proxy.FtcheckGuard, hook)).parameters

    assert [name for name in theirs if name != "litellm_call_info"] == list(ours)


@pytest.mark.parametrize(
    "changes",
    [
        {"ftcheck": None},
        {"ftcheck": {"job": "mapper", "model": {"name": "/nowhere"}, "serving": {}}},
        {"ftcheck": {"job": "mapper"}},
        {"mode": "pre_call"},
        {"mode": ["pre_call"]},
        {"mode": "logging_only"},
        {"default_on": False},
    ],
)
def test_a_proxy_does_not_start_without_its_guard(changes: dict[str, Any], tmp_path: Path) -> None:
    """LiteLLM leaves out a guardrail that raises ValueError or TypeError, and starts: ours raises neither."""
    with pytest.raises(RuntimeError, match="guardrail ftcheck-mapper"):
        init_guardrails_v2([stated(**changes)], config_file_path=str(tmp_path / "config.yaml"))


def test_what_goes_wrong_in_the_guard_refuses_the_request_and_says_no_word_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = proxy.FtcheckGuard(**_arguments())

    def broken(*given: Any) -> None:
        raise KeyError("secret heron")

    monkeypatch.setattr(proxy, "admitted", broken)
    data = {"model": "mapper", "messages": [{"role": "user", "content": "secret heron"}]}
    with pytest.raises(HTTPException) as caught:
        asyncio.run(guard.async_pre_call_hook(None, None, data, "acompletion"))

    assert caught.value.status_code == 500
    assert "heron" not in str(caught.value.detail)
    assert "heron" not in capsys.readouterr().err


def test_an_answer_to_a_request_that_was_not_counted_does_not_go_out() -> None:
    guard = proxy.FtcheckGuard(**_arguments())

    with pytest.raises(HTTPException) as caught:
        asyncio.run(guard.async_post_call_success_hook({"model": "mapper"}, None, object()))

    assert caught.value.status_code == 500


def test_what_users_wrote_is_forgotten_when_the_request_is_done() -> None:
    guard = proxy.FtcheckGuard(**_arguments())
    data = {"model": "mapper", "messages": [{"role": "user", "content": "secret heron " * 400}]}
    asked = asyncio.run(guard.async_pre_call_hook(None, None, data, "acompletion"))
    asyncio.run(guard.async_post_call_success_hook(asked, None, asked["mock_response"]))

    assert "heron" not in str(guard._under_way)
    assert "heron" not in str({key: asked[key] for key in ("metadata", "mock_response")})


def test_requests_for_other_models_are_left_alone() -> None:
    guard = proxy.FtcheckGuard(**_arguments())
    data = {"model": "other", "messages": "anything", "max_tokens": 9_000}

    assert asyncio.run(guard.async_pre_call_hook(None, None, dict(data), "acompletion")) == data


def _arguments() -> dict[str, Any]:
    params = stated()["litellm_params"]
    return {
        "guardrail_name": "ftcheck-mapper",
        "event_hook": params["mode"],
        "default_on": True,
        "ftcheck": params["ftcheck"],
    }
