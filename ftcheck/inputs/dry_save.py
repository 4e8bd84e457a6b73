"""What the trainer's saving leaves behind, found out by saving: the record that rules ask for as `saved`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SavedGeneration:
    """What became of the base model's generation_config.json at `path` when it was saved.

    `contradictions` are settings in it that its own do_sample makes void; `changed` the keys that the
    trainer sets in such a config before it saves; `refused` what saving raised, None where it went well.
    """

    path: str
    contradictions: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class DrySave:
    """The tokenizer and the generation config, saved as the trainer saves them, and loaded again.

    `files` are the names that were written; `tokenizer_config` is the saved tokenizer_config.json;
    `template_file` the file that holds the chat template, None where there is none. `probes` texts were
    tokenised before and after; `differing` of them came out otherwise. `problem` says why saving or
    loading failed. `generation` is None where the model has no generation config. `pretokenizer` is the
    hash by which llama.cpp's converter will look for the tokenizer, None where it does not go by it.
    `transformers` is the version that saved.
    """

    files: tuple[str, ...] = ()
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    template_file: str | None = None
    probes: int = 0
    differing: tuple[str, ...] = ()
    problem: str | None = None
    generation: SavedGeneration | None = None
    pretokenizer: str | None = None
    transformers: str = ""

    @property
    def tokenizer_class(self) -> str | None:
        """The class that tokenizer_config.json names."""
        found = self.tokenizer_config.get("tokenizer_class")
        return found if isinstance(found, str) else None
