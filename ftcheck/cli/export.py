"""`ftcheck export`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, no_cache, one_job, overrides, rules_dirs, the_job
from ftcheck.inputs import bounded
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.extension.exporters import ExportedIds, IdsExporter
    from ftcheck.gate.ticket import Refusal, Ticket
    from ftcheck.records import Progress
    from ftcheck.runner.load import Loaded


@click.group(short_help="Export a guard's configuration, or checked ids, for other programs.")
def export() -> None:
    """Export what other programs read: a guard's configuration, checked ids, a model card's section.

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


@export.command(short_help="Export what a report says as the section of a model card.")
@click.argument("report", type=click.Path(path_type=str), metavar="REPORT")
@click.option("-o", "--output", metavar="FILE", help="Write here instead of stdout.")
def card(report: str, output: str | None) -> None:
    """Write the section of a model card (Markdown) that says what a stored JSON REPORT checked.

    It names data, ids and template by their digests, packing, the share of right gold answers with its
    interval (of a report of stage after), waivers, the gate, and what was not checked; no text of rows.
    """
    from ftcheck.errors import UsageError
    from ftcheck.gate.stored import read_report
    from ftcheck.gate.ticket import Reason
    from ftcheck.report.card import card as section

    found = read_report(report)
    if isinstance(found, Reason):
        raise UsageError(found.message)
    if output in (None, "-"):
        click.echo(section(found), nl=False)
        return
    click.echo(f"{_written(output or '', 'card.md', section(found))} written", err=True)


@export.command(short_help="Export the ids of a job as the folder that TRL, axolotl or LLaMA-Factory reads.")
@POLICY
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--to", "trainer", required=True, metavar="TRAINER", help="trl, axolotl or llama-factory.")
@one_job("The job")
@click.option(
    "--report", metavar="R", help="Export only if this stored JSON report opens the gate, else exit 5."
)
@click.option("--force", is_flag=True, help="Replace an earlier export in DIR.")
@overrides
@no_cache
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def ids(
    policy: str,
    folder: Path,
    trainer: str,
    job: str | None,
    report: str | None,
    force: bool,
    overrides: tuple[str, ...],
    no_cache: bool,
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Write the token ids and labels of a job of POLICY into DIR, for a trainer that reads them as they are.

    The rows are those that the checks look at: cut, without those that are dropped, packed where the trainer
    does not pack. Evaluation rows come along where the job evaluates. The lines of configuration that make
    the trainer read DIR are printed, and stand in DIR/config.yml; DIR/ftcheck.json states the digests.
    """
    from ftcheck.cli.gate import show_refusal
    from ftcheck.exit_codes import ExitCode
    from ftcheck.gate.ticket import Refusal
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.inputs.work_folders import work_folder
    from ftcheck.runner.load import load

    loaded = load(policy, overrides, all_rules_dirs(rules_dirs))
    exporter = _ids_exporter(loaded, trainer)
    name = the_job(policy, loaded.policy.jobs, job)
    found = loaded.policy.jobs[name]
    ticket = _ticket(loaded, name, report)
    if isinstance(ticket, Refusal):
        show_refusal(ticket, policy)
        return ExitCode.REFUSED
    with work_folder("ftcheck-export-") as work, _progress() as show:
        run = Run(folder=work, offline=offline, cache=not no_cache, report=show)
        inputs = Inputs(loaded.host.loaders, {"run": run, "jobs": (found,)}, found)
        exported = exporter.export(found, inputs, folder, ticket=ticket, force=force)
    _say(exported, name, gated=ticket is not None)
    return ExitCode.OK


def _ids_exporter(loaded: "Loaded", name: str) -> "IdsExporter":
    from ftcheck.errors import UsageError

    known = loaded.host.ids_exporters
    if name not in known:
        raise UsageError(f"--to {name}: no such trainer; ids can be exported to: {', '.join(known)}")
    return known[name]


def _ticket(loaded: "Loaded", job: str, report: str | None) -> "Ticket | Refusal | None":
    """The gate's word on a stored report; None where no report is given."""
    from ftcheck.gate.stored import check_stored

    if report is None:
        return None
    return check_stored(report, loaded.policy, loaded.checks, job, during=loaded.during)


@contextlib.contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """Bars on a terminal, beside what is printed."""
    from rich.console import Console

    from ftcheck.cli.pages.progress_bars import Bars
    from ftcheck.cli.pages.screen import Screen

    bars = Bars(Screen(Console(stderr=True, highlight=False, emoji=False, markup=False)))
    try:
        yield bars.show
    finally:
        bars.stop()


def _say(exported: "ExportedIds", job: str, *, gated: bool) -> None:
    """What was written, beside the lines of configuration, which go to stdout alone."""
    for name, split in exported.splits.items():
        what = counted(split.examples, "block" if split.packed else "row")
        tokens = f"{split.tokens:,} tokens, {split.trained_tokens:,} in the loss"
        click.echo(f"{name}: {what} · {tokens}", err=True)
    click.echo(f"ids: {exported.ids}", err=True)
    if not gated:
        click.echo(f"not gated: no report says that {job} passed its checks (--report R)", err=True)
    click.echo(f"{exported.folder} written; its lines of configuration, also in config.yml there:", err=True)
    click.echo(exported.config, nl=False)
