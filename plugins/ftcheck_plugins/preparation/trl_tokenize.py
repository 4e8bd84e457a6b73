"""Token ids and loss masks of examples: step by step what TRL's `SFTTrainer._prepare_dataset` does.

Order of work there (trl 1.16, trl/trainer/sft_trainer.py): EOS is added to rows that are no
conversation; conversations are rendered and tokenised without special tokens, other text with them;
the completion begins where the ids of the prompt and of the whole part ways; the assistant mask comes
from the template's generation blocks. Truncation, dropping and packing come later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftcheck import templates
from ftcheck.errors import InputError
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message, Tokenizer
from ftcheck.settings import Training
from ftcheck_plugins.model.direct_rendering import Spans
from ftcheck_plugins.model.tokenizer import ChatTokenizer, template_error
from ftcheck_plugins.preparation import rendered_rows, shared_prefix, tool_rendering
from ftcheck_plugins.preparation.call_endings import CallEndings
from ftcheck_plugins.preparation.rendering import (
    Differs,
    Rendered,
    Renderer,
    Request,
)
from ftcheck_plugins.preparation.token_engines import (
    CHECKED_EVERY,
    Engine,
    Ids,
    Reference,
    joined,
)
from ftcheck_plugins.preparation.token_offsets import Places, Unclear
from ftcheck_plugins.reading.row_formats import Example, talk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


FIRST_CHECKED = 300
"""Rows of the first batch whose mask is made both ways; later one in `CHECKED_EVERY`."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of some rows before truncation, and for each whether it is in the loss (None: all are).

    `ids` holds them one row behind the other; rows in trouble, told by index, have none. `mask` has one
    entry an id. `boundary` (int32, one a row) counts the ids of the prompt alone with which the row does
    not begin. `remarks` are codes for what the template made of rows, each with its rows.
    """

    ids: Ids
    mask: "NDArray[np.bool_] | None"
    boundary: "NDArray[np.int32]"
    row_errors: Mapping[int, RowError]
    remarks: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def spread(self, places: Sequence[int], count: int) -> "Tokens":
        """The same among `count` rows, at these places; the others have no tokens."""
        import numpy as np

        if len(places) == count:
            return self
        lengths, boundary = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int32)
        where = np.asarray(places, dtype=np.int64)
        lengths[where], boundary[where] = np.diff(self.ids.starts), self.boundary
        starts = np.concatenate([[0], np.cumsum(lengths)])
        row_errors = {places[index]: trouble for index, trouble in self.row_errors.items()}
        remarks = {code: [places[index] for index in rows] for code, rows in self.remarks.items()}
        return Tokens(Ids(self.ids.flat, starts), self.mask, boundary, row_errors, remarks)


def nothing(count: int) -> Tokens:
    """Rows without tokens."""
    import numpy as np

    return Tokens(joined([()] * count), None, np.zeros(count, dtype=np.int32), {})


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Ids of one text, and the mask of its generation blocks where one is asked for."""

    ids: "NDArray[np.int32]"
    mask: "NDArray[np.bool_] | None" = None


class RowTokenizer:
    """Tokenises examples in batches for one job. Not thread-safe, like the tokenizer inside it."""

    def __init__(self, tokenizer: ChatTokenizer, training: Training, *, fast: bool = True) -> None:
        """`training` decides the masks: assistant_only_loss and completion_only_loss.

        `fast` False leaves rendering and ids to the trainer's own libraries, row by row.
        """
        self._tokenizer = tokenizer
        self._training = training
        self._masking = training.assistant_only_loss
        self._endings = CallEndings(tokenizer, training)
        self._renderer = Renderer(tokenizer, direct=fast)
        self._reference = Reference(tokenizer.backend)
        self.engine = Engine(self._reference, fast=fast)
        self._places = _places_of(self._reference) if fast and self._masking else None
        self._cutting = fast and not self._masking and _is_cuttable(self._reference)
        self._checked = 0
        self._general: dict[bool, RowError | None] = {}

    @property
    def settled(self) -> bool:
        """Whether the engine that gives the ids will go on doing so."""
        return self.engine.settled or (self._masking and self._places is None)

    def load_ahead(self) -> None:
        """Let the engine be loaded beside what is done until it is tried, if it will be."""
        if not self.settled:
            self.engine.load_ahead()

    def trouble(self, conversational: bool) -> RowError | None:
        """What stands against any row of this job, so that it is said once and of every row."""
        if conversational and self._tokenizer.chat_template is None:
            return RowError(
                "template",
                "the rows are conversations, but the tokenizer has no chat template",
                "set model.chat_template to the path of a .jinja file (a base model ships no template)",
            )
        if self._masking and not conversational:
            return RowError(
                "template",
                "training.assistant_only_loss needs conversations, but the rows are plain text",
                "remove it; for prompt-completion rows use training.completion_only_loss",
            )
        template = self._tokenizer.training_template or ""
        if self._masking and not templates.has_markers(template):
            return RowError("template", *self._no_markers())
        if not conversational and self._tokenizer.backend.eos_token is None:
            return RowError("template", "the tokenizer has no EOS token", "set training.eos_token")
        return None

    def _no_markers(self) -> tuple[str, str]:
        needed = "training.assistant_only_loss needs {% generation %} markers"
        known = f"TRL {templates.trl_version()} has no training version of it"
        remedy = (
            "set model.chat_template to a copy with {% generation %} and {% endgeneration %} around the"
            " assistant's text and the token that ends its turn"
        )
        return f"{needed}; the template has none, and {known}", remedy

    def batch(self, examples: Sequence[Example]) -> Tokens:
        """Ids and masks of some rows, in order; a row whose template raises is in trouble.

        Raises `Differs` where a fast way turns out to give other results than the trainer's.
        """
        texts, row_errors = self._texts(examples)
        if row_errors and not all(self._general.values()):
            row_errors = tool_rendering.with_remedies(examples, row_errors, self._rendering)
        made = self._tokens(texts, row_errors)
        found = rendered_rows.remarks(examples, [_whole(some) for some in texts])
        return replace(made, remarks={**found, **self._endings.remarks(examples, texts)})

    def _rendering(self, example: Example) -> Callable[[Sequence[Message], Any], str]:
        """What renders other messages and tools as this row is rendered."""

        def render(messages: Sequence[Message], tools: Any) -> str:
            template, switches = self._tokenizer.training_template, example.template_kwargs
            return self._tokenizer.rendered(messages, chat_template=template, tools=tools, **switches)

        return render

    def _tokens(self, texts: Sequence[Sequence[Rendered]], row_errors: dict[int, RowError]) -> Tokens:
        if all(len(some) < 2 for some in texts):
            made = self._whole_marked(texts, row_errors) if self._masking else self._whole(texts, row_errors)
            if made is not None:
                return made
        return self._labelled(texts, row_errors)

    def _whole(self, texts: Sequence[Sequence[Rendered]], row_errors: dict[int, RowError]) -> Tokens:
        """Rows that are in the loss with every token: their ids, without a look at each row."""
        import numpy as np

        made = self._encode([text for some in texts for text in some])
        if row_errors:
            lengths = np.zeros(len(texts), dtype=np.int64)
            lengths[[n for n, some in enumerate(texts) if some]] = np.diff(made.starts)
            made = Ids(made.flat, np.concatenate([[0], np.cumsum(lengths)]))
        return Tokens(made, None, np.zeros(len(texts), dtype=np.int32), row_errors)

    def _whole_marked(
        self, texts: Sequence[Sequence[Rendered]], row_errors: dict[int, RowError]
    ) -> Tokens | None:
        """Rows with a generation block each, without a look at each row; None if one has none."""
        import numpy as np

        if row_errors or not texts:
            return None
        ids, mask = self._masked([text for some in texts for text in some])
        before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        if (before[ids.starts[1:]] == before[ids.starts[:-1]]).any():
            return None
        return Tokens(ids, mask, np.zeros(len(texts), dtype=np.int32), row_errors)

    def _texts(self, examples: Sequence[Example]) -> tuple[list[list[Rendered]], dict[int, RowError]]:
        """Of each row the whole as text, and before it the prompt alone where there is one."""
        row_errors: dict[int, RowError] = {}
        template = self._tokenizer.training_template
        if all(example.messages is not None for example in examples) and self._against(True) is None:
            # As in most data sets: one request a row, and nothing to be put back in order.
            done = self._renderer.batch([self._whole_of(example) for example in examples])
            made = [_rendered(index, [one], row_errors, template) for index, one in enumerate(done)]
            return made, row_errors
        requests: list[Request] = []
        for index, example in enumerate(examples):
            general = self._against(example.conversational)
            if general is not None:
                row_errors[index] = general
            elif example.conversational:
                requests.extend(self._requests(example))
        texts_of = iter(self._renderer.batch(requests) if requests else ())
        texts: list[list[Rendered]] = []
        for index, example in enumerate(examples):
            if index in row_errors:
                texts.append([])
            elif not example.conversational:
                texts.append(self._plain(example))
            else:
                several = 1 if example.messages is not None else 2
                texts.append(_rendered(index, list(islice(texts_of, several)), row_errors, template))
        return texts, row_errors

    def _against(self, conversational: bool) -> RowError | None:
        if conversational not in self._general:
            self._general[conversational] = self.trouble(conversational)
        return self._general[conversational]

    def _requests(self, example: Example) -> list[Request]:
        """What to render: the row, and before it the prompt; in the order in which errors are told."""
        whole = self._whole_of(example)
        if not isinstance(example.prompt, tuple):
            return [whole]
        plain = talk(example.prompt) if example.talk is not None else None
        prompt = whole._replace(messages=example.prompt, marked=False, opening=True, talk=plain)
        return [prompt, whole]

    def _whole_of(self, example: Example) -> Request:
        turns = example.messages or example.turns
        return Request(turns, example.tools, example.template_kwargs, self._masking, talk=example.talk)

    def _plain(self, example: Example) -> list[Rendered]:
        eos = self._tokenizer.backend.eos_token
        if example.text is not None:
            return [Rendered(_ended(example.text, eos), None)]
        prompt, completion = str(example.prompt), str(example.completion)
        return [Rendered(prompt, None), Rendered(prompt + _ended(completion, eos), None)]

    def _encode(self, texts: Sequence[Rendered]) -> Ids:
        """All texts at once: rendered ones without special tokens, plain ones as the tokenizer does it."""
        kinds = {text.spans is None for text in texts}
        if len(kinds) < 2:
            return self.engine.encode([text.text for text in texts], special=True in kinds)
        both = {
            kind: self.engine.encode([t.text for t in texts if (t.spans is None) is kind], special=kind)
            for kind in kinds
        }
        places = {kind: iter(range(len(ids))) for kind, ids in both.items()}
        return joined([both[t.spans is None].of(next(places[t.spans is None])) for t in texts])

    def _labelled(self, texts: Sequence[Sequence[Rendered]], row_errors: dict[int, RowError]) -> Tokens:
        """Rows of which some tokens are not in the loss."""
        import numpy as np

        encoded = iter(
            self._pairs(texts) if self._cutting else self._encoded([t for some in texts for t in some])
        )
        rows, masks = [], []
        boundary = np.zeros(len(texts), dtype=np.int32)
        for index, some in enumerate(texts):
            parts = [next(encoded) for _ in some]
            made = self._mask(parts) if parts else None
            if isinstance(made, RowError):
                row_errors[index] = made
            if made is None or isinstance(made, RowError):
                rows.append(np.zeros(0, dtype=np.int32))
                masks.append(np.zeros(0, dtype=bool))
                continue
            rows.append(parts[-1].ids)
            masks.append(made[0])
            boundary[index] = made[1]
        mask = np.concatenate(masks) if masks else np.zeros(0, dtype=bool)
        return Tokens(joined(rows), mask, boundary, row_errors)

    def _encoded(self, texts: Sequence[Rendered]) -> list[_Encoded]:
        """Each text with the mask of its spans; whole rows only have any."""
        if not self._masking:
            made = self._encode(texts)
            return [_Encoded(made.of(index)) for index in range(len(made))]
        return self._marked(texts)

    def _pairs(self, texts: Sequence[Sequence[Rendered]]) -> list[_Encoded]:
        """All texts of these rows; what a prompt and its row begin with is tokenised once.

        Some rows are tokenised whole and compared. Raises `Differs`.
        """
        import numpy as np

        cuts = [_cut(some) for some in texts]
        made = self._encode([one for some, at in zip(texts, cuts, strict=True) for one in _parts(some, at)])
        found: list[_Encoded] = []
        place = 0
        for some, at in zip(texts, cuts, strict=True):
            parts = [made.of(place + n) for n in range(len(some) + bool(at))]
            place += len(parts)
            ids = [np.concatenate([parts[0], one]) for one in parts[1:]] if at else parts
            found += map(_Encoded, ids)
        self._check_pairs([text for some in texts for text in some], found)
        return found

    def _check_pairs(self, texts: Sequence[Rendered], found: Sequence[_Encoded]) -> None:
        late = slice(self._checked % CHECKED_EVERY, None, CHECKED_EVERY)
        chosen = range(len(texts))[late if self._checked else slice(FIRST_CHECKED)]
        self._checked += 1
        again = self._encode([texts[n] for n in chosen])
        if not again.same(joined([found[n].ids for n in chosen])):
            raise Differs("a row has other ids when its prompt is tokenised once; it is tokenised whole")

    def _marked(self, texts: Sequence[Rendered]) -> list[_Encoded]:
        ids, mask = self._masked(texts)
        edges = ids.starts.tolist()
        return [_Encoded(ids.of(n), mask[edges[n] : edges[n + 1]]) for n in range(len(texts))]

    def _masked(self, texts: Sequence[Rendered]) -> "tuple[Ids, NDArray[np.bool_]]":
        """Ids of all texts, and which of them stand in generation blocks."""
        made = self._by_places(texts) if self._places is not None and texts else None
        return made or self._by_offsets(texts)

    def _by_places(self, texts: Sequence[Rendered]) -> "tuple[Ids, NDArray[np.bool_]] | None":
        """Masks without offsets, held against those with offsets on some rows; None if few can be told."""
        import numpy as np

        assert self._places is not None
        ids = self._encode(texts)
        mask, unclear = self._places.masks(
            [one.text for one in texts], [one.spans or [] for one in texts], ids
        )
        if 2 * len(unclear) > len(texts):
            self._places = None
            return None
        doubtful = set(unclear)
        known = [n for n in range(len(texts)) if n not in doubtful]
        late = slice(self._checked % CHECKED_EVERY, None, CHECKED_EVERY)
        checked = known[late] if self._checked else known[:FIRST_CHECKED]
        self._checked += 1
        chosen = sorted([*unclear, *checked])
        again, right = self._by_offsets([texts[n] for n in chosen])
        for n, row in enumerate(chosen):
            mine = slice(int(ids.starts[row]), int(ids.starts[row + 1]))
            theirs = slice(int(again.starts[n]), int(again.starts[n + 1]))
            same = np.array_equal(ids.flat[mine], again.flat[theirs])
            if not same or (row not in doubtful and not np.array_equal(mask[mine], right[theirs])):
                raise Differs("a row's loss mask differs by the tokenizer's offsets, which are used")
            mask[mine] = right[theirs]
        return ids, mask

    def _by_offsets(self, texts: Sequence[Rendered]) -> "tuple[Ids, NDArray[np.bool_]]":
        """Ids and masks as transformers makes them."""
        import numpy as np

        made = self._encodings([text.text for text in texts]) if texts else []
        masks = [
            _assistant_mask(token_at, len(ids), text.spans or [])
            for (ids, token_at), text in zip(made, texts, strict=True)
        ]
        rows = joined([np.array(ids, dtype=np.int32) for ids, _ in made])
        return rows, np.concatenate(masks) if masks else np.zeros(0, dtype=bool)

    def _encodings(self, words: list[str]) -> list[tuple[list[int], Callable[[int], int | None]]]:
        """Of each text the ids, and what tells the token of a character."""
        encodings = self._reference.encodings(words, special=False)
        if encodings is not None:
            return [(one.ids, one.char_to_token) for one in encodings]
        batch = self._tokenizer.backend(words, add_special_tokens=False)
        return [(ids, partial(batch.char_to_token, n)) for n, ids in enumerate(batch["input_ids"])]

    def _mask(self, parts: Sequence[_Encoded]) -> "tuple[NDArray[np.bool_], int] | RowError":
        """The loss mask of one row, and how many ids of its prompt it does not begin with."""
        import numpy as np

        whole = parts[-1]
        mask = np.ones(len(whole.ids), dtype=bool)
        if self._masking:
            if whole.mask is None or not whole.mask.any():
                return RowError(
                    "template",
                    "training.assistant_only_loss finds no assistant token in this row",
                    "the row needs an assistant turn inside the template's {% generation %} markers",
                )
            mask = whole.mask
        if len(parts) < 2:
            return mask, 0
        start = common_prefix(parts[0].ids, whole.ids)
        if self._training.completion_only_loss is not False:
            mask[:start] = False
        return mask, len(parts[0].ids) - start


def row_tokenizer(tokenizer: Tokenizer | None, training: Training, *, fast: bool) -> RowTokenizer | None:
    """What tokenises rows with this tokenizer; None without one. Raises `InputError` for one of a plugin."""
    if tokenizer is None:
        return None
    if not isinstance(tokenizer, ChatTokenizer):
        raise InputError(f"preparation needs a transformers tokenizer, not {tokenizer!r}")
    return RowTokenizer(tokenizer, training, fast=fast)


def _places_of(reference: Reference) -> Places | None:
    """What tells masks without offsets; None for a tokenizer for which that cannot be done."""
    if reference.raw is None or getattr(reference.backend, "split_special_tokens", False):
        return None
    try:
        return Places(reference.raw, reference.backend.added_tokens_decoder)
    except Unclear:
        return None


def _is_cuttable(reference: Reference) -> bool:
    """Whether texts may be cut, and no special tokens are put around a text."""
    if reference.raw is None or getattr(reference.backend, "split_special_tokens", False):
        return False
    if not shared_prefix.is_cuttable(reference.raw, reference.backend.added_tokens_decoder.values()):
        return False
    return reference.encode(["a b"], special=True).same(reference.encode(["a b"], special=False))


def _cut(some: Sequence[Rendered]) -> int:
    """Where a prompt and the row that begins with it are cut; 0 where they are not."""
    if len(some) != 2 or not some[1].text.startswith(some[0].text):
        return 0
    return shared_prefix.cut(some[0].text)


def _parts(some: Sequence[Rendered], at: int) -> Sequence[Rendered]:
    """What is tokenised of a row's texts: what both begin with, then the rest of each."""
    if not at:
        return some
    return [some[0]._replace(text=some[0].text[:at]), *(one._replace(text=one.text[at:]) for one in some)]


def _rendered(
    index: int, made: list[Any], row_errors: dict[int, RowError], template: str | None
) -> list[Rendered]:
    """The texts of one row; none if the template raised, which is noted: the whole row's error first."""
    for one in reversed(made):
        if type(one) is not Rendered:
            fix = "fix the row or the template (model.chat_template)"
            message, content = template_error(one, template)
            row_errors[index] = RowError("template", message, fix, content=content)
            return []
    return made


def _whole(some: Sequence[Rendered]) -> str | None:
    """The text of the whole row, where a template rendered it."""
    return some[-1].text if some and some[-1].spans is not None else None


def _ended(text: str, eos: str) -> str:
    return text if text.endswith(eos) else text + eos


def common_prefix(ids: "NDArray[np.int32]", others: "NDArray[np.int32]") -> int:
    """How many leading ids two sequences share; the completion begins there."""
    shorter = min(len(ids), len(others))
    differing = (ids[:shorter] != others[:shorter]).nonzero()[0]
    return int(differing[0]) if len(differing) else shorter


def _assistant_mask(token_at: Callable[[int], int | None], length: int, spans: Spans) -> "NDArray[np.bool_]":
    """transformers' own rule (`apply_chat_template`), its treatment of a missing end token included.

    `token_at` gives the token that a character stands in, None for a character in no token.
    """
    import numpy as np

    mask = np.zeros(length, dtype=bool)
    for start_char, end_char in spans:
        start, end = token_at(start_char), token_at(end_char - 1)
        if start is None:
            break
        mask[start : end + 1 if end else length] = True
    return mask
