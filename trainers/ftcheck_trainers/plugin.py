"""Lists the built-in trainers."""

from ftcheck import Trainer, hookimpl


@hookimpl
def ftcheck_trainers() -> list[Trainer]:
    """Offer the trainers."""
    from ftcheck_trainers import command, qlora

    return [command.TRAINER, qlora.TRAINER]
