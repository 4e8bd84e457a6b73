"""alignment-handbook: TRL's arguments, with data sets as a mixture and a template in the file.

Facts from src/alignment/configs.py, data.py and scripts/sft.py, at the commit that the table names.
"""

from ftcheck.importers import trl
from ftcheck.importers.sheet import TEMPLATE, Sheet

INLINE = "the template's text: write it into a file, and set model.chat_template to its path"


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    if isinstance(sheet.get("dataset_mixture.datasets"), list):
        trl.mixture(sheet, "dataset_mixture.datasets", "id")
        sheet.ignore("dataset_mixture.seed", "the order of the rows")
        held = "this part of the rows is held out of training"
        sheet.refuse("dataset_mixture.test_split_size", held, "ids")
    _mixer(sheet)
    sheet.refuse("chat_template", INLINE, "ids", stands=TEMPLATE)
    trl.arguments(sheet, dtype=None)


def _mixer(sheet: Sheet) -> None:
    """The older form: data sets by name, with the share of their rows."""
    mixer = sheet.get("dataset_mixer", {})
    if not isinstance(mixer, dict):
        return
    names = list(mixer)
    for name, share in mixer.items():
        key = f"dataset_mixer.{name}"
        if share == 1.0:
            sheet.map(key, "data.train", value=name)
        sheet.refuse(key, "a sample of the rows is trained on", "ids")
    if names:
        sheet.state("data.train", names[0] if len(names) == 1 else names, f"dataset_mixer.{names[0]}")
    sheet.refuse("dataset_splits", "which splits are trained and evaluated on", "ids")
