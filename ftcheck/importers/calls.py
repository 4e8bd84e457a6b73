"""What the calls in a script mean: SFTConfig, LoraConfig, from_pretrained, load_dataset and others."""

from ftcheck.importers.sheet import Sheet


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
