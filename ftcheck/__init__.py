"""ftcheck: the gate between "tomorrow we fine-tune" and the GPU bill.

This module is what plugin authors and training scripts import; everything is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.errors import FtcheckError, InputError, MissingDependency, TrainingError
    from ftcheck.extension.exporters import ExportedIds, Exporter, IdsExporter
    from ftcheck.extension.hookspecs import hookimpl
    from ftcheck.extension.reporters import Reporter
    from ftcheck.extension.rules import Case, Rule, rule
    from ftcheck.extension.trainers import Trainer
    from ftcheck.gate.ticket import Refused, Ticket
    from ftcheck.inputs.container import Inputs, Jobs, Run
    from ftcheck.inputs.evaluation import GoldSet, OutputSchema
    from ftcheck.inputs.loader import Loader, loader
    from ftcheck.inputs.machine import Machine, Packages
    from ftcheck.inputs.model import ModelConfig
    from ftcheck.inputs.prepared import Prepared, Rows, Sample
    from ftcheck.inputs.tokenizer import ServingSide, Tokenizer
    from ftcheck.records import (
        Change,
        Exclude,
        Finding,
        Location,
        Measurement,
        Outcome,
        Progress,
        Severity,
        Skip,
        Stage,
        Summary,
    )
    from ftcheck.report.record import Report
    from ftcheck.runner.python_calls import check, run
    from ftcheck.settings import Job
    from ftcheck.training.own_script import callback
    from ftcheck.training.require import require

__version__: str

_HOME = {
    "ftcheck.errors": ("FtcheckError", "InputError", "MissingDependency", "TrainingError"),
    "ftcheck.extension.exporters": ("ExportedIds", "Exporter", "IdsExporter"),
    "ftcheck.extension.hookspecs": ("hookimpl",),
    "ftcheck.extension.reporters": ("Reporter",),
    "ftcheck.extension.rules": ("Case", "Rule", "rule"),
    "ftcheck.extension.trainers": ("Trainer",),
    "ftcheck.gate.ticket": ("Refused", "Ticket"),
    "ftcheck.inputs.container": ("Inputs", "Jobs", "Run"),
    "ftcheck.inputs.evaluation": ("GoldSet", "OutputSchema"),
    "ftcheck.inputs.loader": ("Loader", "loader"),
    "ftcheck.inputs.machine": ("Machine", "Packages"),
    "ftcheck.inputs.model": ("ModelConfig",),
    "ftcheck.inputs.prepared": ("Prepared", "Rows", "Sample"),
    "ftcheck.inputs.tokenizer": ("ServingSide", "Tokenizer"),
    "ftcheck.records": (
        "Change",
        "Exclude",
        "Finding",
        "Location",
        "Measurement",
        "Outcome",
        "Progress",
        "Severity",
        "Skip",
        "Stage",
        "Summary",
    ),
    "ftcheck.report.record": ("Report",),
    "ftcheck.runner.python_calls": ("check", "run"),
    "ftcheck.settings": ("Job",),
    "ftcheck.training.own_script": ("callback",),
    "ftcheck.training.require": ("require",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Case",
    "Change",
    "Exclude",
    "ExportedIds",
    "Exporter",
    "Finding",
    "FtcheckError",
    "GoldSet",
    "IdsExporter",
    "InputError",
    "Inputs",
    "Job",
    "Jobs",
    "Loader",
    "Location",
    "Machine",
    "Measurement",
    "MissingDependency",
    "ModelConfig",
    "Outcome",
    "OutputSchema",
    "Packages",
    "Prepared",
    "Progress",
    "Refused",
    "Report",
    "Reporter",
    "Rows",
    "Rule",
    "Run",
    "Sample",
    "ServingSide",
    "Severity",
    "Skip",
    "Stage",
    "Summary",
    "Ticket",
    "Tokenizer",
    "Trainer",
    "TrainingError",
    "__version__",
    "callback",
    "check",
    "hookimpl",
    "loader",
    "require",
    "rule",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name == "__version__":
        return import_module("ftcheck.distribution").version()
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'ftcheck' has no attribute {name!r}")
