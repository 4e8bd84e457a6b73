"""Lists the built-in trainers, and what writes ids for others."""

from ftcheck import IdsExporter, Trainer, hookimpl


@hookimpl
def ftcheck_trainers() -> list[Trainer]:
    """Offer the trainers."""
    from ftcheck_trainers import command, frameworks, qlora

    return [command.TRAINER, qlora.TRAINER, *frameworks.TRAINERS]


@hookimpl
def ftcheck_ids_exporters() -> list[IdsExporter]:
    """Offer folders of ids."""
    from ftcheck_trainers import ids_export

    return ids_export.EXPORTERS
