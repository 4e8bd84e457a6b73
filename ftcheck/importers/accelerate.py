"""accelerate: how processes are started. No job, but it is told apart from one, key by key."""

from ftcheck.importers.sheet import Sheet


def semantics(sheet: Sheet) -> None:
    """The table says it all, but for the arguments that some files carry beside accelerate's own."""
    if sheet.get("mixed_precision") == "fp16":
        sheet.map("mixed_precision", "training.fp16", value=True)
