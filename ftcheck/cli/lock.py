"""`ftcheck lock`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, overrides, rules_dirs
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.inputs.container import Run
    from ftcheck.inputs.machine import Packages
    from ftcheck.lock import LockedJob
    from ftcheck.runner.load import Loaded

SHOWN = 20
"""How many differences are listed."""


@click.command(short_help="Lock tokenizers, templates and golden ids of a policy.")
@POLICY
@click.option(
    "--job", "jobs", multiple=True, metavar="J", help="Only this job; the others stay locked as is."
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the lock is out of date.")
@overrides
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def lock(
    policy: str,
    jobs: tuple[str, ...],
    check: bool,
    overrides: tuple[str, ...],
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Write POLICY.lock beside POLICY, with what its tokenizers and templates produce today.

    For each job: digests of the tokenizer's files and of the template that training applies, special ids,
    and the ids of built-in texts and conversations. Once: library versions and the defaults of training
    arguments. From then on, `tokenizer-parity`, `template-parity` and `training-arguments` compare every run
    with it. Keep the lock under version control, and write it again when a change is intended.

    Nothing is written if a job's tokenizer cannot be loaded.
    """
    from ftcheck.errors import UsageError
    from ftcheck.exit_codes import ExitCode
    from ftcheck.lock import differences, document, path_of, read, text_of, write
    from ftcheck.report.redact import shown
    from ftcheck.runner.load import load

    loaded = load(policy, overrides, all_rules_dirs(rules_dirs))
    known = loaded.policy.jobs
    if unknown := [name for name in jobs if name not in known]:
        raise UsageError(f"{policy}: no job '{unknown[0]}'; its jobs are: {', '.join(known) or 'none'}")
    if not known:
        raise UsageError(f"{policy}: the policy has no jobs, so there is nothing to lock")
    path = path_of(policy)
    old = read(path) if check or jobs else None
    packages, made = _open(loaded, jobs or tuple(known), offline=offline)
    new = document(packages, made)
    if jobs and old is not None:
        kept = {name: one for name, one in old.get("jobs", {}).items() if name in known}
        new["jobs"] = {**kept, **new["jobs"]}
    if check:
        if old is None:
            click.echo(f"{path}: there is no lock", err=True)
            return ExitCode.BLOCKED
        found = list(differences(old, new))
        for one in found[:SHOWN]:
            click.echo(shown(f"{path}: {one}"), err=True)
        if found:
            count = counted(len(found), "difference")
            click.echo(f"{path}: {count}; `ftcheck lock {policy}` writes the lock again", err=True)
            return ExitCode.BLOCKED
        click.echo(f"{path}: no differences")
        return ExitCode.OK
    write(path, text_of(new))
    for name in made:
        if known[name].data.sample is not None:
            said = "the lock is about tokenizer and template; no row of data.train, sampled or not, is in it"
            click.echo(f"{name}: {said}", err=True)
    probes = sum(len(one.probes) + len(one.conversations) for one in made.values())
    count = counted(len(made), "job")
    versions = " · ".join(f"{name} {version}" for name, version in new["versions"].items() if version)
    click.echo(f"{path}: {count} locked, ids of {counted(probes, 'text')}, {versions}")
    return ExitCode.OK


def _open(
    loaded: "Loaded", names: tuple[str, ...], *, offline: bool
) -> "tuple[Packages, dict[str, LockedJob]]":
    """The packages here, and each job's part of the lock. Raises the first error of a tokenizer."""
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.inputs.work_folders import work_folder

    with work_folder("ftcheck-lock-") as folder:
        run = Run(folder=folder, offline=offline, policy=loaded.policy.path)
        made = {name: _locked(loaded, run, name) for name in names}
        host = Inputs(loaded.host.loaders, {"run": run, "jobs": tuple(loaded.policy.jobs.values())}, None)
        return host.get("packages"), made


def _locked(loaded: "Loaded", run: "Run", name: str) -> "LockedJob":
    from ftcheck.digest import of_named
    from ftcheck.inputs.container import Inputs
    from ftcheck.inputs.probe_texts import CONVERSATIONS, PROBES
    from ftcheck.lock import of_job
    from ftcheck.paths import TOKENIZER_FILES, model_folder

    job = loaded.policy.jobs[name]
    tokenizer = Inputs(loaded.host.loaders, {"run": run, "jobs": (job,)}, job).get("tokenizer")
    folder = model_folder(job.model.tokenizer or job.model.name, job.model.revision)
    return of_job(
        tokenizer,
        of_named(folder, TOKENIZER_FILES) if folder is not None else None,
        [(probe.name, probe.text) for probe in PROBES],
        [(one.name, one.messages) for one in CONVERSATIONS],
    )
