"""What commands import, for the process that they are forked from (see `tests.commands`)."""

import gc
import pkgutil
from contextlib import suppress
from importlib import import_module

LIBRARIES = (
    "bitsandbytes",
    "datasets",
    "jinja2",
    "pyarrow.parquet",
    "tokenizers",
    "transformers.models.llama.modeling_llama",
    "peft.tuners.lora",
    "trl.trainer.sft_trainer",
)
"""Those that are not installed are passed over."""


def _import_all() -> None:
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)
    for package in ("ftcheck", "ftcheck_rules", "ftcheck_plugins", "ftcheck_trainers"):
        for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not found.name.endswith("__main__") and not found.name.startswith("ftcheck_plugins.guard"):
                with suppress(ImportError):
                    import_module(found.name)
    gc.collect()
    gc.freeze()


_import_all()
