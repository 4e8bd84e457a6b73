"""Writes the configuration of a LiteLLM proxy with the guards of jobs attached."""

from collections.abc import Sequence
from typing import Any

from ftcheck.errors import Problem, UsageError
from ftcheck.extension.exporters import Exporter, yaml_1_1
from ftcheck.inputs import urls
from ftcheck.settings import Job
from ftcheck_plugins.guard.opening import opened, settings_of, wanting

GUARDRAIL = "ftcheck_plugins.guard.proxy.FtcheckGuard"
"""What LiteLLM imports; the proxy's environment needs ftcheck[guard]."""
PROVIDER = "hosted_vllm"
"""LiteLLM's name for an OpenAI-compatible server that needs no key: `openai` would send OPENAI_API_KEY."""
FROM_ENVIRONMENT = "os.environ/"
"""LiteLLM puts the variable's value in the place of a text that begins so."""
HEAD = """\
# A LiteLLM proxy with the guardrails of {jobs}, written by `ftcheck export litellm`; write it again
# when the policy changes. Start it where ftcheck[guard] is installed:
#
#   LITELLM_MASTER_KEY=sk-... litellm --config THIS_FILE --host 127.0.0.1 --port 4000
#
# A key of the server behind it is read from HOSTED_VLLM_API_KEY. The proxy does not start without its guard.
"""


def configuration(jobs: Sequence[Job], endpoint: str | None = None) -> str:
    """The configuration as YAML: a model and a guardrail for each job, named like it.

    `endpoint` is the URL of the server behind the proxy, in the place of each job's `serving.upstream`.
    Raises `UsageError` with everything that keeps a job from having a guard, or `InputError` for its files.
    """
    if endpoint is not None and (wrong := urls.problem(endpoint)):
        raise UsageError(f"--endpoint: {wrong}")
    problems = [one for job in jobs for one in (*wanting(job), *_unusable(job, endpoint))]
    if problems:
        raise UsageError(problems[0].message, problems)
    for job in jobs:
        opened(job)
    made = {
        "model_list": [_model(job, endpoint) for job in jobs],
        "guardrails": [_guardrail(job) for job in jobs],
        "litellm_settings": {
            "turn_off_message_logging": True,
            "log_raw_request_response": False,
            "set_verbose": False,
        },
        "general_settings": {"master_key": f"{FROM_ENVIRONMENT}LITELLM_MASTER_KEY"},
    }
    return HEAD.format(jobs=", ".join(job.name for job in jobs)) + yaml_1_1(made)


def _unusable(job: Job, upstream: str | None) -> list[Problem]:
    place, stated = job.at("serving.upstream"), upstream or job.serving.upstream
    said = []
    if stated is None:
        said.append(f"job {job.name}: the proxy has no server: pass --endpoint URL, or set serving.upstream")
    elif wrong := urls.problem(stated):
        said.append(f"serving.upstream: {wrong}")
    if any(one.startswith(FROM_ENVIRONMENT) for one in _texts(settings_of(job))):
        said.append(f"job {job.name}: a setting starts with {FROM_ENVIRONMENT}, which LiteLLM would replace")
    return [Problem(one, place.path, place.line, place.column, place.yaml_path) for one in said]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _model(job: Job, upstream: str | None) -> dict[str, Any]:
    name = job.serving.upstream_model or job.model.name
    base = (upstream or job.serving.upstream or "").rstrip("/")
    return {
        "model_name": job.name,
        "litellm_params": {"model": f"{PROVIDER}/{name}", "api_base": base},
        "model_info": {"ftcheck_job": job.name},
    }


def _guardrail(job: Job) -> dict[str, Any]:
    return {
        "guardrail_name": f"ftcheck-{job.name}",
        "litellm_params": {
            "guardrail": GUARDRAIL,
            "mode": ["pre_call", "post_call"],
            "default_on": True,
            "models": [job.name],
            "ftcheck": settings_of(job),
        },
    }


EXPORTER = Exporter("litellm", configuration, "litellm.yaml", "litellm --config {file}")
