"""The plugin host: loads plugins in a fixed order, checks their names, and types what they offer."""

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import pluggy

from ftcheck import distribution
from ftcheck.errors import PluginError
from ftcheck.extension import hookspecs
from ftcheck.extension.exporters import Exporter, IdsExporter
from ftcheck.extension.hookspecs import hookimpl
from ftcheck.extension.reporters import Reporter
from ftcheck.extension.rules import Rule
from ftcheck.extension.trainers import Trainer
from ftcheck.inputs import bounded
from ftcheck.inputs.container import GIVEN
from ftcheck.inputs.loader import Loader
from ftcheck.records import Check, Progress, Result
from ftcheck.report.record import PluginInfo, Report

GROUP = "ftcheck"
BUILT_IN = {
    "plugins": "ftcheck_plugins.plugin",
    "rules": "ftcheck_rules.plugin",
    "trainers": "ftcheck_trainers.plugin",
}

RENAMED = {
    "trained": "run_artifacts",
    "answers": "generations",
    "base_answers": "base_generations",
    "spoken": "role_tokens",
    "surroundings": "environment",
}
"""Inputs by the names they had before 0.2."""


class Named(Protocol):
    """What an offer has in common: a name (a rule calls it id)."""

    @property
    def name(self) -> str:
        """The name that policies use."""


Offer = TypeVar("Offer", bound=Any)


@dataclass(frozen=True, slots=True)
class HookFailure:
    """A plugin's event hook that raised."""

    plugin: str
    hook: str
    error: Exception

    def __str__(self) -> str:
        """One line for the report."""
        said = " ".join(str(self.error).split())
        return f"plugin '{self.plugin}': {self.hook} raised {type(self.error).__name__}: {said}"


@dataclass(frozen=True)
class Host:
    """Loaded plugins and what they offer, by name. Made by `make_host`; tests make their own.

    `owner` says, for each offer (`rule:percentile-seq-len`), which plugin it comes from. `failures` are the
    plugins whose event hooks raised, by name: a run that has any is not complete.
    """

    manager: pluggy.PluginManager
    plugins: tuple[PluginInfo, ...]
    rules: Mapping[str, Rule]
    loaders: Mapping[str, Loader]
    reporters: Mapping[str, Reporter]
    trainers: Mapping[str, Trainer]
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    ids_exporters: Mapping[str, IdsExporter] = field(default_factory=dict)
    owner: Mapping[str, PluginInfo] = field(default_factory=dict)
    failures: dict[str, HookFailure] = field(default_factory=dict)

    def watch(self, observer: object) -> None:
        """Let an object with event hooks see this run."""
        self.manager.register(observer, name=f"{type(observer).__name__} {len(self.manager.get_plugins())}")
        _check_hooks(self.manager)

    def run_started(self, checks: tuple[Check, ...]) -> None:
        """Tell the watchers that the ledger is fixed."""
        self._tell("ftcheck_run_started", checks=checks)

    def progress(self, progress: Progress) -> None:
        """Tell the watchers how far long work has come."""
        self._tell("ftcheck_progress", progress=progress)

    def check_finished(self, result: Result) -> None:
        """Tell the watchers what became of a check."""
        self._tell("ftcheck_check_finished", result=result)

    def run_finished(self, report: Report) -> None:
        """Tell the watchers that the report is complete."""
        self._tell("ftcheck_run_finished", report=report)

    def _tell(self, hook: str, **news: Any) -> None:
        """Call an event hook of each plugin. One that raises is told nothing more, and is a failure."""
        for one in getattr(self.manager.hook, hook).get_hookimpls():
            name, plugin = one.plugin_name, one.plugin
            if name in self.failures:
                continue
            others = [other for other in self.manager.get_plugins() if other is not plugin]
            try:
                self.manager.subset_hook_caller(hook, others)(**news)
            except Exception as error:
                self.failures[name] = HookFailure(name, hook, error)


def make_host(
    plugins: Sequence[str] = (),
    rules_dirs: Sequence[Path] = (),
    extra: Mapping[str, object] | None = None,
) -> Host:
    """Load the built-in plugins, the installed ones named in `plugins`, and folders of rules.

    `extra` are plugin objects by name, for tests and for programs that embed ftcheck. Raises
    `PluginError`: unknown plugin, failed import, unknown hook, a name offered twice.
    """
    manager = pluggy.PluginManager("ftcheck")
    manager.add_hookspecs(hookspecs)
    infos: dict[str, PluginInfo] = {}
    for info, plugin in _ordered(_found(plugins, rules_dirs, extra or {})):
        _register(manager, info, plugin, infos)
    _check_hooks(manager)
    owner: dict[str, PluginInfo] = {}
    collect = _collector(manager, infos, owner)
    host = Host(
        manager=manager,
        plugins=tuple(infos.values()),
        rules=collect("ftcheck_rules", "rule", Rule, lambda rule: rule.id),
        loaders=collect("ftcheck_loaders", "loader", Loader, lambda loader: loader.name),
        reporters=collect("ftcheck_reporters", "reporter", Reporter, lambda reporter: reporter.name),
        trainers=collect("ftcheck_trainers", "trainer", Trainer, lambda trainer: trainer.name),
        exporters=collect("ftcheck_exporters", "exporter", Exporter, lambda exporter: exporter.name),
        ids_exporters=collect("ftcheck_ids_exporters", "exporter of ids", IdsExporter, lambda one: one.name),
        owner=owner,
    )
    _check_inputs(host)
    return host


def _check_inputs(host: Host) -> None:
    """Every input that a rule or a loader asks for must be offered by somebody."""
    asked = [(f"rule '{rule.id}'", rule.inputs) for rule in host.rules.values()]
    asked += [(f"loader '{loader.name}'", loader.needs) for loader in host.loaders.values()]
    known = GIVEN | set(host.loaders)
    for who, names in asked:
        for name in names:
            if name not in known:
                if name in RENAMED:
                    raise PluginError(f"{who} asks for the input '{name}', which is now '{RENAMED[name]}'")
                close = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"; did you mean '{close[0]}'?" if close else f"; available: {', '.join(sorted(known))}"
                )
                raise PluginError(f"{who} asks for the input '{name}', which no loader provides{hint}")


Found = tuple[PluginInfo, object]


def _found(
    plugins: Sequence[str], rules_dirs: Sequence[Path], extra: Mapping[str, object]
) -> Iterable[Found]:
    for name, module in BUILT_IN.items():
        plugin = _imported(module, f"plugin '{name}'")
        yield PluginInfo(name, "ftcheck", distribution.version(), _code_of(plugin)), plugin
    yield from _installed([name for name in plugins if name not in BUILT_IN])
    for folder in rules_dirs:
        yield from _folder(Path(folder))
    for name, plugin in extra.items():
        yield PluginInfo(name, "(object)", "0"), plugin


def _ordered(found: Iterable[Found]) -> list[Found]:
    return sorted(found, key=lambda pair: (pair[0].distribution, pair[0].name))


def _installed(names: Sequence[str]) -> Iterable[Found]:
    if not names:
        return
    points = sorted(
        metadata.entry_points(group=GROUP),
        key=lambda point: (point.dist.name if point.dist else "", point.name),
    )
    for name in dict.fromkeys(names):
        mine = [point for point in points if point.name == name and _distribution(point) != "ftcheck"]
        if not mine:
            known = sorted({point.name for point in points} - set(BUILT_IN))
            listed = f"; installed: {', '.join(known)}" if known else "; no plugin is installed"
            raise PluginError(f"plugin '{name}' is not installed (entry-point group '{GROUP}'){listed}")
        if len(mine) > 1:
            sides = " and ".join(_distribution(point) for point in mine)
            raise PluginError(f"plugin '{name}' is offered by {sides}: uninstall one of them")
        version = mine[0].dist.version if mine[0].dist else "0"
        distribution = _distribution(mine[0])
        plugin = _imported(mine[0].value, f"plugin '{name}' of {distribution} {version}")
        yield PluginInfo(name, distribution, version, _code_of(plugin)), plugin


def _distribution(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


@cache
def _code_in(folder: Path) -> str:
    """A digest of the Python and JSON files below a folder, 12 hex digits."""
    hasher = hashlib.sha256()
    for path in sorted(one for kind in ("*.py", "*.json") for one in folder.rglob(kind)):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        hasher.update(hashlib.sha256(bounded.read(path)).digest())
    return hasher.hexdigest()[:12]


def _code_of(plugin: object) -> str:
    """The code of a plugin's whole top-level package; of its file alone where it is a single module."""
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(type(plugin).__module__)
    top = sys.modules.get(module.__name__.partition(".")[0]) if module is not None else None
    file = getattr(top, "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    try:
        if path.name == "__init__.py":
            return _code_in(path.parent)
        return hashlib.sha256(bounded.read(path)).hexdigest()[:12]
    except OSError:
        return ""


def _imported(dotted: str, what: str) -> object:
    module, _, attribute = dotted.partition(":")
    try:
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} could not be loaded: {type(error).__name__}: {error}") from error


def _folder(folder: Path) -> Iterable[Found]:
    if not folder.is_dir():
        raise PluginError(f"{folder}: no such folder of rules (--rules-dir)")
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", "test_")))
    if not files:
        raise PluginError(f"{folder}: contains no .py file with rules (--rules-dir)")
    for path in files:
        content = bounded.read(path)
        code = _code_in(folder)
        info = PluginInfo(path.stem, str(folder), hashlib.sha256(content).hexdigest()[:12], code)
        module = _with_rules(_from_file(path))
        if not any(name.startswith("ftcheck_") for name in vars(module)):
            raise PluginError(f"{path}: defines no rule (a function under @rule) and no hook (--rules-dir)")
        yield info, module


def _with_rules(module: ModuleType) -> ModuleType:
    """A module of a rules folder, offering the rules it defines; its own hooks stay as they are."""
    rules = [value for value in vars(module).values() if isinstance(value, Rule)]
    own = tuple(rule for rule in rules if rule.func.__module__ == module.__name__)
    if own and not hasattr(module, "ftcheck_rules"):

        def ftcheck_rules() -> tuple[Rule, ...]:
            return own

        vars(module)["ftcheck_rules"] = hookimpl(ftcheck_rules)
    return module


def _from_file(path: Path) -> ModuleType:
    name = f"ftcheck_rules_dir_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"{path}: could not be loaded: {type(error).__name__}: {error}") from error
    return module


def _register(
    manager: pluggy.PluginManager, info: PluginInfo, plugin: object, infos: dict[str, PluginInfo]
) -> None:
    taken = infos.get(info.name)
    if taken is not None:
        raise PluginError(
            f"two plugins are called '{info.name}': {taken.distribution} and {info.distribution}"
        )
    try:
        manager.register(plugin, name=info.name)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"plugin '{info.name}' of {info.distribution}: {_one_line(error)}") from error
    infos[info.name] = info


def _check_hooks(manager: pluggy.PluginManager) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(_one_line(error)) from error
    for name, plugin in manager.list_name_plugin():
        for attribute in dir(plugin) if plugin is not None else ():
            if attribute.startswith("ftcheck_") and not hasattr(hookspecs, attribute):
                if isinstance(getattr(plugin, attribute, None), ModuleType):
                    continue
                raise PluginError(f"plugin '{name}': unknown hook '{attribute}'")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _collector(
    manager: pluggy.PluginManager, infos: Mapping[str, PluginInfo], owner: dict[str, PluginInfo]
) -> Callable[[str, str, type[Offer], Callable[[Offer], str]], dict[str, Offer]]:
    def collect(
        hook: str, kind: str, expected: type[Offer], name_of: Callable[[Offer], str]
    ) -> dict[str, Offer]:
        offers: dict[str, Offer] = {}
        for info in infos.values():
            for offer in _offered(manager, hook, info):
                if not isinstance(offer, expected):
                    raise PluginError(f"plugin '{info.name}': {hook} returned {offer!r}, not a {kind}")
                name = name_of(offer)
                if name in offers:
                    first = owner[f"{kind}:{name}"]
                    raise PluginError(
                        f"two plugins offer the {kind} '{name}': '{first.name}' of {first.distribution}"
                        f" and '{info.name}' of {info.distribution}"
                    )
                offers[name] = offer
                owner[f"{kind}:{name}"] = info
        return dict(sorted(offers.items()))

    return collect


def _offered(manager: pluggy.PluginManager, hook: str, info: PluginInfo) -> list[Any]:
    others = [plugin for name, plugin in manager.list_name_plugin() if name != info.name]
    caller = manager.subset_hook_caller(hook, others)
    try:
        return [offer for offers in caller() for offer in offers]
    except Exception as error:
        message = f"plugin '{info.name}' of {info.distribution}: {hook} raised"
        raise PluginError(f"{message} {type(error).__name__}: {error}") from error
