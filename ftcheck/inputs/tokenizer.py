"""A tokenizer with its chat template, and the side of a job that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    pass


Message = Mapping[str, Any]


class Tokenizer(Protocol):
    """A tokenizer with its chat template, as one side of a job (training, serving) uses it."""

    @property
    def path(self) -> str:
        """Folder or hub id."""

    @property
    def class_name(self) -> str:
        """Class that transformers made of it."""

    @property
    def size(self) -> int:
        """Number of tokens, added ones among them."""

    @property
    def chat_template(self) -> str | None:
        """The template it is saved and served with."""

    @property
    def training_template(self) -> str | None:
        """The template that training applies (TRL's patched one where the loss needs it)."""

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that begins a sequence."""

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a sequence."""

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn: EOS, and what the template puts after an answer."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special and added tokens: a tokenizer never makes them of ordinary text."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; `special` adds the special tokens that the tokenizer adds on its own."""

    def reference(self, text: str) -> list[int] | None:
        """Ids of a text as `tokenizer.json` alone gives them; None where there is no such file."""

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text; `prompt` opens the assistant's turn. Raises InputError."""

    def show(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens kept."""

    def plain(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens left out: what a server sends."""

    def changes_with_date(self, messages: Sequence[Message], **switches: Any) -> bool:
        """Whether training's template renders this prompt otherwise on another day."""

    def with_fixed_regex(self) -> Tokenizer | None:
        """The tokenizer with transformers' mended regex for the Mistral family; None for any other."""


@dataclass(frozen=True, slots=True)
class ServingSide:
    """What the server loads and sends: a tokenizer with its template, and the request switches.

    `same` is true where nothing but the training side is named, so that both are one object.
    """

    tokenizer: Tokenizer
    same: bool
    switches: Mapping[str, Any] = field(default_factory=dict)
