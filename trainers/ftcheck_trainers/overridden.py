"""The methods of TRL's and transformers' trainers that ftcheck's trainer overrides, as it expects them.

Most are private: a library may change or drop them in any release. What is not as expected is found before
the trainer is built, not in the middle of a night.
"""

import inspect
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from ftcheck.errors import TrainingError
from ftcheck.tables.versions import tested_with

TRL, TRANSFORMERS = "trl", "transformers"
METHODS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "_evaluate": (TRANSFORMERS, ("trial", "ignore_keys_for_eval", "skip_scheduler")),
    "_get_output_dir": (TRANSFORMERS, ("trial",)),
    "_get_train_sampler": (TRANSFORMERS, ("train_dataset",)),
    "_load_from_checkpoint": (TRANSFORMERS, ("resume_from_checkpoint", "model")),
    "_maybe_log_save_evaluate": (
        TRANSFORMERS,
        (
            "tr_loss",
            "grad_norm",
            "model",
            "trial",
            "epoch",
            "ignore_keys_for_eval",
            "start_time",
            "learning_rate",
        ),
    ),
    "_run_epoch": (
        TRANSFORMERS,
        (
            "model",
            "epoch",
            "train_dataloader",
            "steps_in_epoch",
            "num_update_steps_per_epoch",
            "trial",
            "ignore_keys_for_eval",
            "start_time",
            "resume_from_checkpoint",
            "epochs_trained",
            "steps_trained_in_current_epoch",
        ),
    ),
    "_save_checkpoint": (TRANSFORMERS, ("model", "trial")),
    "_send_telemetry": (TRL, ()),
    "get_train_dataloader": (TRANSFORMERS, ()),
    "save_model": (TRANSFORMERS, ("output_dir", "_internal_call")),
    "train": (TRANSFORMERS, ("resume_from_checkpoint", "trial", "ignore_keys_for_eval")),
    "training_step": (TRANSFORMERS, ("model", "inputs", "num_items_in_batch")),
}
"""Each method's package and parameters, without `self`; they are the same in transformers 5.3.0 to 5.24.0."""
ROTATE = ("output_dir", "save_total_limit", "best_model_checkpoint")
"""The parameters that `transformers.trainer_utils.rotate_checkpoints` begins with."""
ANYTHING = ("*args", "**kwargs")
"""A method that hands on all it gets; what it hands it to is looked at."""


def need_overridden(trainer: type[Any], trainer_utils: Any) -> None:
    """Raise `TrainingError` unless TRL's `trainer` has each method with the parameters that ftcheck expects.

    `trainer_utils` is that module of transformers.
    """
    for name, (package, expected) in METHODS.items():
        found = list(_definitions(trainer, name))
        if not found:
            raise _unknown(package, f"has no {trainer.__name__}.{name}")
        for owner, parameters in found:
            if parameters not in (expected, ANYTHING):
                raise _unknown(owner, f"has {_shown(name, parameters)} in place of {_shown(name, expected)}")
    rotate = getattr(trainer_utils, "rotate_checkpoints", None)
    if rotate is None or _parameters(rotate)[: len(ROTATE)] != ROTATE:
        raise _unknown(TRANSFORMERS, f"has no {_shown('trainer_utils.rotate_checkpoints', ROTATE)}")


def _definitions(trainer: type[Any], name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The package and the parameters of each method of this name in the class and in those it is made of."""
    for owner in trainer.__mro__:
        if name in vars(owner):
            yield owner.__module__.partition(".")[0], _parameters(vars(owner)[name])[1:]


def _parameters(function: Any) -> tuple[str, ...]:
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    return tuple(stars.get(one.kind, "") + one.name for one in parameters)


def _shown(name: str, parameters: tuple[str, ...]) -> str:
    return f"{name}({', '.join(parameters)})"


def _unknown(package: str, what: str) -> TrainingError:
    message = (
        f"{package} {metadata.version(package)} {what}, which ftcheck's trainer builds on; it is tested with "
        f"{tested_with(TRANSFORMERS, TRL)}: pip install 'ftcheck[train]' installs these"
    )
    return TrainingError(message)
