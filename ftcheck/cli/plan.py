"""`ftcheck plan`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcheck.cli.options import (
    SOURCES,
    DataFlags,
    all_rules_dirs,
    data_flags,
    overrides,
    policy_of,
    rules_dirs,
)
from ftcheck.inputs import bounded
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.cli.pages.screen import Screen
    from ftcheck.inputs.container import Inputs
    from ftcheck.inputs.probe import Probe
    from ftcheck.planning import Asked, JobPlan, Unplanned
    from ftcheck.runner.load import Loaded
    from ftcheck.settings import Job

    Prober = Callable[[Job, Inputs], Probe]

FORMATS = ("html", "json", "markdown")


@click.command(short_help="Plan lengths, packing, memory, time and cost; find better settings.")
@SOURCES
@data_flags
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job; repeatable.")
@overrides
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FORMAT[=PATH]",
    help="Write the plan as json, markdown or html; repeatable; without a path, to stdout.",
)
@click.option("--plots", metavar="DIR", help="Write plots of the lengths as PNG and SVG (extra: report).")
@click.option("--write", "config", metavar="CONFIG.json", help="Write the optimised training configuration.")
@click.option(
    "--max-lost",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PERCENT",
    help="Percentage of the trained tokens that better settings may lose.",
)
@click.option(
    "--probe", is_flag=True, help="Run some steps of the largest batch on this machine, and plan with them."
)
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@click.option("-v", "--verbose", is_flag=True, help="Show the assumptions of every estimate, and all counts.")
@rules_dirs
def plan(
    sources: tuple[str, ...],
    data: DataFlags,
    jobs: tuple[str, ...],
    overrides: tuple[str, ...],
    outputs: tuple[str, ...],
    plots: str | None,
    config: str | None,
    max_lost: float,
    probe: bool,
    offline: bool,
    verbose: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Plan the jobs of POLICY, or a training on DATA or by CONFIG, as `ftcheck check` takes them.

    Shows lengths, also by role and turn, and what a max_length would cost; packing, steps, memory, time and
    cost, disk, the policy's targets, and better settings with their trade-offs. Estimates are intervals;
    what is unknown is marked as such.
    """
    from ftcheck.errors import UsageError
    from ftcheck.exit_codes import ExitCode
    from ftcheck.planning import Asked, Unplanned
    from ftcheck.runner.load import load
    from ftcheck.runner.outputs import parse_outputs

    written = parse_outputs(outputs, FORMATS)
    if plots is not None:
        from ftcheck.cli.pages import plots as drawing

        drawing.check()
    named = policy_of(sources, data)
    loaded, policy = load(named, overrides, all_rules_dirs(rules_dirs)), str(named)
    file = named if isinstance(named, str) else None
    chosen = tuple(dict.fromkeys(jobs)) or tuple(loaded.policy.jobs)
    for name in chosen:
        if name not in loaded.policy.jobs:
            raise UsageError(f"{policy}: no job '{name}'; its jobs are: {', '.join(loaded.policy.jobs)}")
    if not chosen:
        click.echo(f"{policy}: the policy has no jobs to plan", err=True)
        return ExitCode.NOTHING
    _begin(written, policy, config)
    taken = any(one.path is None for one in written)
    screen = _screen(stderr=taken)
    asked = Asked(max_lost / 100, _percentile(loaded))
    probes = {name: _prober(loaded, name) for name in chosen} if probe else {}
    pages = _pages(loaded, chosen, asked, screen, probes, offline=offline)
    commands: dict[str, str] = {}
    for number, page in enumerate(pages):
        if number:
            screen.blank()
        command = _write_it(page, policy, overrides, fixes=file is not None)
        commands |= {page.job: command} if command is not None else {}
        _show(page, screen, command, verbose=verbose)
    made = [page for page in pages if not isinstance(page, Unplanned)]
    about = (policy, loaded.policy.name, commands)
    names = [*_finish(written, pages, *about), *_plots(made, plots), *_config(made, config, policy)]
    if names:
        screen.blank()
        screen.put([("written: ", "bold")], "  ".join(names))
    return ExitCode.OK if len(made) == len(pages) else ExitCode.INCOMPLETE


def _screen(*, stderr: bool) -> "Screen":
    from rich.console import Console

    from ftcheck.cli.pages.screen import Screen

    return Screen(Console(stderr=stderr, highlight=False, emoji=False, markup=False))


def _percentile(loaded: "Loaded") -> float:
    """The percentile that the policy's own check demands."""
    check = loaded.policy.checks.get("percentile-seq-len")
    stated = check.params.get("percentile", 95.0) if check is not None else 95.0
    return float(stated)


def _prober(loaded: "Loaded", name: str) -> "Prober":
    """What probes a job: its trainer, if that can."""
    from ftcheck.errors import UsageError

    use = loaded.policy.jobs[name].trainer.use
    trainer = loaded.host.trainers.get(use)
    if trainer is None or trainer.probe is None:
        raise UsageError(f"--probe: the trainer '{use}' of job {name} does not support single steps")
    return trainer.probe


def _pages(
    loaded: "Loaded",
    chosen: Sequence[str],
    asked: "Asked",
    screen: "Screen",
    probes: "Mapping[str, Prober]",
    *,
    offline: bool,
) -> "list[JobPlan | Unplanned]":
    """The plan of each job, with bars on a terminal while rows are prepared."""
    from ftcheck.cli.pages.progress_bars import Bars

    bars = Bars(screen)
    try:
        return [_page(loaded, name, asked, bars.show, probes.get(name), offline=offline) for name in chosen]
    finally:
        bars.stop()


def _page(
    loaded: "Loaded", name: str, asked: "Asked", report: Any, probe: "Prober | None", *, offline: bool
) -> "JobPlan | Unplanned":
    from ftcheck.errors import FtcheckError, UsageError
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.inputs.work_folders import work_folder
    from ftcheck.planning import Unplanned
    from ftcheck.planning import plan as planned

    job = loaded.policy.jobs[name]
    with work_folder("ftcheck-plan-") as folder:
        run = Run(folder=folder, offline=offline, report=report, cache=True)
        inputs = Inputs(loaded.host.loaders, {"run": run, "jobs": (job,)}, job)
        try:
            return planned(job, inputs, asked, None if probe is None else probe(job, inputs))
        except UsageError:
            raise
        except FtcheckError as error:
            return Unplanned(name, str(error))


def _show(
    page: "JobPlan | Unplanned",
    screen: "Screen",
    command: str | None,
    *,
    verbose: bool,
) -> None:
    from ftcheck.cli.pages import plan_page
    from ftcheck.planning import Unplanned

    if isinstance(page, Unplanned):
        plan_page.show_unplanned(page, screen)
    else:
        plan_page.show(page, screen, verbose=verbose, fix=command)


def _write_it(
    page: "JobPlan | Unplanned", policy: str, overrides: tuple[str, ...], *, fixes: bool
) -> str | None:
    """The command that writes what is better: `fix` where a check fails over it, else the configuration.

    What no file states cannot be fixed there: `fixes` is False, and `policy` are a shell's words.
    """
    from ftcheck.planning import Unplanned

    if isinstance(page, Unplanned) or not page.changes:
        return None
    failing = any(one.holds is False for one in page.targets)
    words = [
        "--job",
        page.job,
        *(["--unsafe", "--diff"] if failing and fixes else ["--write", "CONFIG.json"]),
        *(word for one in overrides for word in ("--set", one)),
    ]
    named = shlex.quote(policy) if fixes else policy
    command = "fix" if failing and fixes else "plan"
    return f"ftcheck {command} {named} {shlex.join(words)}"


def _begin(written: Sequence[Any], policy: str, config: str | None) -> None:
    """Say `started` in every file, so that a plan that is killed leaves none that looks whole."""
    from ftcheck.cli.pages import plan_html
    from ftcheck.errors import UsageError
    from ftcheck.runner.outputs import begin

    if config is not None and not Path(bounded.expanded(config)).resolve().parent.is_dir():
        raise UsageError(f"--write {config}: its folder does not exist")
    makers = {
        "json": lambda: '{"schema": "ftcheck.plan/1", "status": "started"}\n',
        "markdown": lambda: "ftcheck plan: started\n",
        "html": lambda: plan_html.started(policy),
    }
    begin(written, makers)


def _finish(
    written: Sequence[Any],
    pages: "Sequence[JobPlan | Unplanned]",
    policy: str,
    name: str,
    commands: Mapping[str, str],
) -> Sequence[str]:
    from ftcheck.cli.pages import plan_html, plan_page
    from ftcheck.runner.assemble import now
    from ftcheck.runner.outputs import write

    makers = {
        "json": lambda: plan_page.as_json(pages, policy),
        "markdown": lambda: plan_page.markdown(pages),
        "html": lambda: plan_html.page(pages, plan_html.Planned(policy, name, now(), commands)),
    }
    return write(written, makers)


def _plots(made: "Sequence[JobPlan]", folder: str | None) -> Sequence[str]:
    if folder is None or not made:
        return ()
    from ftcheck.cli.pages import plots

    count = len(plots.write(made, Path(folder)))
    return [f"{counted(count, 'plot')} in {folder}"]


def _config(made: "Sequence[JobPlan]", path: str | None, policy: str) -> Sequence[str]:
    """Write the optimised training configuration of every job that has a plan."""
    if path is None or not made:
        return ()
    from ftcheck.cli.pages import plan_page
    from ftcheck.runner.outputs import Output, write

    folder = Path(bounded.expanded(path)).resolve().parent
    text = plan_page.configuration(made, policy, folder)
    return write([Output("config", path)], {"config": lambda: text})
