"""Opens a job's guard: its tokenizer with the serving template, its schema, its fallback rules."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ftcheck.errors import InputError, Problem, UsageError
from ftcheck.inputs.container import Run
from ftcheck.inputs.work_folders import work_folder
from ftcheck.settings import Job, JobSettings
from ftcheck_plugins.guard import fallback
from ftcheck_plugins.guard.records import Decision, Guard

SECTIONS = ("model", "serving")
"""Sections of a job that the guard stands on; of `training`, the tokenizer's `eos_token`."""
NEEDED = ("max_input_tokens", "max_new_tokens", "over_limit")


def wanting(job: Job) -> list[Problem]:
    """What keeps a job from having a guard: limits that are not set, a log of content, no fallback rules."""
    side, said = job.serving, {}
    for key in NEEDED:
        if getattr(side, key) is None:
            said[key] = f"serving.{key} is not set: the guard needs it"
    if side.log == "content":
        said["log"] = "serving.log is content: the guard logs token counts and never content"
    if side.over_limit == "rules" and side.rules is None:
        said["rules"] = "serving.over_limit is rules, but serving.rules is not set"
    return [_problem(job, f"serving.{key}", words) for key, words in said.items()]


def opened(job: Job) -> Guard:
    """The guard of a job. Raises `UsageError` for what the job does not say, `InputError` for its files."""
    from ftcheck_plugins.model.tokenizer import serving, tokenizer
    from ftcheck_plugins.reading.output_schema import output_schema

    if problems := wanting(job):
        raise UsageError(problems[0].message, problems)
    with work_folder("ftcheck-guard-") as folder:
        run = Run(folder=folder)
        side = serving.open(job, run, tokenizer.open(job, run))
    stated = job.serving
    schema = output_schema.open(job)
    if side.tokenizer.chat_template is None:
        raise InputError(
            f"job {job.name}: {side.tokenizer.path} has no chat template: input tokens cannot be counted"
        )
    return Guard(
        job=job.name,
        tokenizer=side.tokenizer,
        max_input_tokens=stated.max_input_tokens or 0,
        max_new_tokens=stated.max_new_tokens or 0,
        over_limit=Decision(stated.over_limit or "reject"),
        switches=side.switches,
        system_prompt=stated.system_prompt,
        schema=schema,
        schema_retries=stated.schema_retries,
        room=(stated.max_model_len or 0) - (stated.max_new_tokens or 0),
        fallback=fallback.read(job, schema) if stated.over_limit == "rules" else None,
    )


def settings_of(job: Job) -> dict[str, Any]:
    """A job as a proxy's configuration holds it: plain data, absolute paths, no defaults."""
    made: dict[str, Any] = {"job": job.name}
    for section in SECTIONS:
        made[section] = _stated(getattr(job, section))
    if job.training.eos_token is not None:
        made["training"] = {"eos_token": job.training.eos_token}
    return made


def job_of(settings: Mapping[str, Any]) -> Job:
    """The job that `settings_of` wrote down. Raises `UsageError`."""
    import json

    from pydantic import ValidationError

    from ftcheck.policy.validation import adapter

    given = dict(settings)
    name = given.pop("job", None)
    if not isinstance(name, str) or not name:
        raise UsageError("the guard's settings contain no job")
    try:
        made: JobSettings = adapter(JobSettings).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"the guard's settings: {where}: {first['msg'].lower()}") from None
    return Job(name=name, **{one.name: getattr(made, one.name) for one in fields(JobSettings)})


def _stated(section: Any) -> dict[str, Any]:
    """A section's values that are not the defaults."""
    usual = {one.name: one.default for one in fields(section)}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(section).items()
        if value not in (usual[key], {}, ())
    }


def _problem(job: Job, key: str, message: str) -> Problem:
    place = job.at(key)
    return Problem(message, place.path, place.line, place.column, place.yaml_path)
