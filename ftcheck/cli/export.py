"""`ftcheck export`."""

from pathlib import Path

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs
from ftcheck.inputs import bounded


@click.group(short_help="Export configurations for other programs.")
def export() -> None:
    """Export configurations for other programs from a policy.

    The output contains paths of this machine and no secrets.
    """


@export.command(short_help="Export a LiteLLM proxy configuration with the jobs' guardrails.")
@POLICY
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job; default: every job.")
@click.option(
    "-o", "--output", metavar="FILE|DIR", help="Write here (litellm.yaml in a folder) instead of stdout."
)
@click.option("--endpoint", metavar="URL", help="The server behind the proxy; default: serving.upstream.")
@overrides
@rules_dirs
def litellm(
    policy: str,
    jobs: tuple[str, ...],
    output: str | None,
    endpoint: str | None,
    overrides: tuple[str, ...],
    rules_dirs: tuple[Path, ...],
) -> None:
    """Write the configuration of a LiteLLM proxy that guards the jobs of POLICY.

    Each job becomes a model of the proxy, by its name, in front of --endpoint, with a guardrail: inputs are
    counted with the job's tokenizer and template and limited to serving.max_input_tokens (over_limit: rules,
    chunk or reject), answers to max_new_tokens and output_schema, with retries; only token counts are logged.

    `litellm --config FILE` starts it, where ftcheck[guard] is installed. Writing the file needs no LiteLLM.
    """
    from ftcheck.errors import UsageError
    from ftcheck.runner.load import load

    loaded = load(policy, overrides, all_rules_dirs(rules_dirs))
    exporter, known = loaded.host.exporters["litellm"], loaded.policy.jobs
    if unknown := [name for name in jobs if name not in known]:
        raise UsageError(f"{policy}: no job '{unknown[0]}'; its jobs are: {', '.join(known) or 'none'}")
    if not known:
        raise UsageError(f"{policy}: the policy has no jobs, so there is nothing to export")
    text = exporter.export([known[name] for name in dict.fromkeys(jobs or known)], endpoint)
    if output in (None, "-"):
        click.echo(text, nl=False)
        return
    file = _written(output or "", exporter.file, text)
    click.echo(f"{file} written; start the proxy with: {exporter.start.format(file=file)}", err=True)


def _written(output: str, name: str, text: str) -> Path:
    """Put the text in its file, in one step. Raises `UsageError` where that cannot be."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError

    file = Path(bounded.expanded(output))
    file = file / name if file.is_dir() else file
    try:
        replace_file(file.resolve(), text.encode())
    except OSError as error:
        raise UsageError(f"-o {output}: cannot be written: {error.strerror or error}") from error
    return file
