"""Reads a policy: files, `extends`, `--set` and `defaults` merged into one tree, and all that is wrong."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from ftcheck.errors import Problem
from ftcheck.importers.records import FRAMEWORKS, NAMES, Imported
from ftcheck.policy import contradictions, imports, layers, limits, overrides, paths
from ftcheck.policy.layers import Layer
from ftcheck.policy.made import Made
from ftcheck.policy.nodes import (
    Node,
    merge,
    ordered,
    places,
    problem,
    with_items,
)
from ftcheck.policy.validation import adapter, pruned, validated
from ftcheck.records import Location
from ftcheck.settings import GateSettings, Job, JobSettings, Policy, PolicySettings


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy as far as it could be read without knowing the plugins.

    `tree` is all files merged, `defaults` and what `from` imports laid under each job; `policy` is there when
    nothing is wrong. `imports` are what `from` read, by job.
    `plugins` is to be given to `make_host`; `files` are all files read, by their path in messages. It
    is not `complete` if a file could not be read: what then seems to be missing may stand there.
    """

    path: str
    plugins: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    overrides: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tree: Node | None = None
    policy: Policy | None = None
    layers: tuple[Layer, ...] = ()
    imports: Mapping[str, Imported] = field(default_factory=dict)
    complete: bool = True

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that were read, by their path in messages."""
        return {layer.shown: layer.file for layer in self.layers}

    def folders_of(self, job: str) -> paths.Folders:
        """Where the paths of each file begin: those of a file that the job imports, where that is started."""
        where = paths.folders(self.files)
        record = self.imports.get(job)
        return where if record is None else {**where, record.path: Path(record.folder)}


def draft(
    path: str | Path | Made,
    given: Sequence[str] = (),
    *,
    presets: Path | None = None,
    today: date | None = None,
) -> Draft:
    """Read a policy with its overrides. What is wrong is in `problems`; nothing is raised for it."""
    source = path if isinstance(path, Made) else Path(path)
    stack = layers.load(source, presets)
    shown = source.arguments if isinstance(source, Made) else layers.shown_path(source)
    if not stack.layers or stack.layers[-1].shown != shown:
        return Draft(shown, problems=stack.problems, overrides=tuple(given), complete=False)
    if (other := _of_framework(stack.layers[-1])) is not None:
        return Draft(shown, problems=(other,), overrides=tuple(given), complete=False)
    merged = layers.merged(stack.layers)
    settable, wrong = overrides.applied(merged, given, complete=stack.complete)
    tree, read, unread = imports.laid_under(with_defaults(settable), settable, stack.layers)
    found = Draft(
        path=shown,
        plugins=layers.plugins_of(tree),
        overrides=tuple(given),
        removed=removed_checks(tree),
        tree=tree,
        layers=stack.layers,
        imports=read,
        complete=stack.complete and not unread,
    )
    return _settled(found, [*stack.problems, *wrong, *unread], today)


def _of_framework(top: Layer) -> Problem | None:
    """What to do with a file that is another framework's configuration, and no policy."""
    if {"ftcheck", "jobs", "checks", "extends"} & set(top.tree.items):
        return None
    from ftcheck.importers.detect import detect

    found = detect(top.tree)
    if found is None:
        return None
    file = shlex.quote(top.shown)
    remedy = f": ftcheck check {file} checks it, and ftcheck init {file} writes its policy"
    said = f"is a configuration of {NAMES[found]}, not a policy{remedy if found in FRAMEWORKS else ''}"
    return problem(said, Location(top.shown))


def _settled(found: Draft, problems: Sequence[Problem], today: date | None) -> Draft:
    """The draft with its policy, or with the problems that keep it from being one."""
    settings, wrong = _settings(found, today)
    everything = ordered([*problems, *wrong])
    if everything or settings is None:
        return replace(found, problems=everything)
    return replace(found, policy=_policy(found, settings))


def with_defaults(tree: Node) -> Node:
    """The tree with `defaults` laid under every job."""
    items = dict(tree.items)
    defaults = items.pop("defaults", None)
    jobs = items.get("jobs")
    if defaults is not None and jobs is not None and jobs.items and isinstance(defaults.value, Mapping):
        items["jobs"] = with_items(jobs, {name: _over(defaults, job) for name, job in jobs.items.items()})
    elif defaults is not None:
        items["defaults"] = defaults
    return with_items(tree, items)


def _over(defaults: Node, job: Node) -> Node:
    return replace(merge(defaults, job), at=job.at, key=job.key)


def removed_checks(tree: Node) -> tuple[str, ...]:
    """The checks that are `false`."""
    checks = tree.items.get("checks")
    return tuple(name for name, node in checks.items.items() if node.value is False) if checks else ()


def without_removed(tree: Node) -> Node:
    """The tree without the checks that are `false`."""
    checks = tree.items.get("checks")
    if checks is None or not checks.items:
        return tree
    kept = {name: node for name, node in checks.items.items() if node.value is not False}
    return with_items(tree, {**tree.items, "checks": with_items(checks, kept)})


def _settings(found: Draft, today: date | None) -> tuple[PolicySettings | None, list[Problem]]:
    assert found.tree is not None
    tree = without_removed(found.tree)
    outcome = validated(PolicySettings, tree)
    problems = [
        _of_import(found, one)
        for one in outcome.problems
        if found.complete or not one.message.startswith("missing key")
    ]
    problems.extend(limits.problems_of(tree, today=today))
    problems.extend(contradictions.problems_of(tree))
    if found.complete:
        problems.extend(_absent(found))
    return outcome.value, problems


def _of_import(found: Draft, one: Problem) -> Problem:
    """The problem; where a configuration should have stated what is missing, in words that say so."""
    jobs = found.tree.items["jobs"].items if found.tree is not None and found.imports else {}
    for name, record in found.imports.items():
        job, model = jobs[name], jobs[name].items.get("model")
        missing = ("model", job) if model is None else ("name", model)
        if one == problem(f"missing key '{missing[0]}'", missing[1].place):
            remedy = "state model.name beside 'from' (--model of ftcheck check)"
            return replace(one, message=f"{record.path} names no base model that ftcheck can read: {remedy}")
    return one


def _absent(found: Draft) -> list[Problem]:
    """What a whole policy must have, beyond the keys that its sections ask for."""
    assert found.tree is not None
    top = found.layers[-1].tree
    problems = []
    if "ftcheck" not in top.items and "ftcheck" in found.tree.items:
        problems.append(problem("missing key 'ftcheck': a policy starts with 'ftcheck: 1'", top.at))
    jobs = found.tree.items.get("jobs")
    if jobs is None or jobs.value == {}:
        place = jobs.place if jobs else replace(top.at, yaml_path=None)
        problems.append(problem("the policy has no jobs: define at least one under 'jobs'", place))
    return problems


def _policy(found: Draft, settings: PolicySettings) -> Policy:
    assert found.tree is not None
    file = found.layers[-1].file
    jobs = found.tree.items["jobs"].items
    everywhere = places(found.tree)
    everywhere[""] = Location(path=found.path, line=1, column=1)
    return Policy(
        path=found.path,
        name=settings.name or file.stem,
        stage=settings.stage,
        jobs={
            name: replace(
                _job(name, node, found.folders_of(name), file.parent), imported=found.imports.get(name)
            )
            for name, node in jobs.items()
        },
        checks=settings.checks,
        removed=found.removed,
        waivers=settings.waivers,
        gate=_gate(found, settings.gate),
        plugins=settings.plugins,
        overrides=found.overrides,
        places=everywhere,
    )


def _gate(found: Draft, settings: GateSettings) -> GateSettings:
    """The section `gate`, its paths absolute."""
    node = found.tree.items.get("gate") if found.tree is not None else None
    if node is None or not node.items:
        return settings
    raw = json.dumps(pruned(GateSettings, paths.resolved_gate(node, paths.folders(found.files))))
    resolved: GateSettings = adapter(GateSettings).validate_json(raw, strict=True)
    return resolved


def _job(name: str, node: Node, where: paths.Folders, folder: Path) -> Job:
    absolute = paths.resolved(node, where)
    raw = json.dumps(pruned(JobSettings, absolute))
    settings: JobSettings = adapter(JobSettings).validate_json(raw, strict=True)
    plain: dict[str, Any] = adapter(JobSettings).dump_python(settings, mode="json", by_alias=True)
    sections = {field.name: getattr(settings, field.name) for field in fields(JobSettings)}
    return Job(name=name, canonical=paths.relative(plain, folder), places=places(node), **sections)
