"""Token ids and loss masks of examples: step by step what TRL's `SFTTrainer._prepare_dataset` does.

Order of work there (trl 1.16, trl/trainer/sft_trainer.py): EOS is added to rows that are no
conversation; conversations are rendered and tokenised without special tokens, other text with them;
the completion begins where the ids of the prompt and of the whole part ways; the assistant mask comes
from the template's generation blocks. Truncation, dropping and packing come later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck import templates
from ftcheck.inputs import Trouble
from ftcheck.settings import Training
from ftcheck_plugins.formats import Example
from ftcheck_plugins.tokenizer import ChatTokenizer, template_error

Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of one row before truncation, and for each whether it is in the loss (None: all are).

    `boundary` counts the ids of the prompt alone with which the row does not begin.
    """

    ids: list[int]
    mask: list[bool] | None = None
    boundary: int = 0


@dataclass(frozen=True, slots=True)
class _Text:
    """One text to tokenise: rendered (no special tokens are added), or plain."""

    text: str
    spans: Spans | None = None


class RowTokenizer:
    """Tokenises examples in batches for one job. Not thread-safe, like the tokenizer inside it."""

    def __init__(self, tokenizer: ChatTokenizer, training: Training) -> None:
        """`training` decides the masks: assistant_only_loss and completion_only_loss."""
        self._tokenizer = tokenizer
        self._training = training
        self._masking = training.assistant_only_loss

    def trouble(self, conversational: bool) -> Trouble | None:
        """What stands against any row of this job, so that it is said once and of every row."""
        if conversational and self._tokenizer.chat_template is None:
            return Trouble(
                "template",
                "the tokenizer has no chat template, and the rows are conversations",
                "name one: model.chat_template: path/to/template.jinja (a base model ships none)",
            )
        if self._masking and not conversational:
            return Trouble(
                "template",
                "assistant_only_loss needs conversations, these rows are plain text",
                "take assistant_only_loss out; for prompt and completion use completion_only_loss",
            )
        template = self._tokenizer.training_template or ""
        if self._masking and not templates.has_markers(template):
            return Trouble("template", *self._no_markers())
        if not conversational and self._tokenizer.backend.eos_token is None:
            return Trouble("template", "the tokenizer has no EOS token", "set training.eos_token")
        return None

    def _no_markers(self) -> tuple[str, str]:
        known = "the installed TRL knows no training version of it"
        if templates.trl_templates() is None:
            known = "TRL is not installed here, so ftcheck cannot tell whether it knows a training version"
        message = f"assistant_only_loss needs {{% generation %}} markers; the template has none, and {known}"
        remedy = (
            "put {% generation %} and {% endgeneration %} around the assistant's words and the token that"
            " ends its turn, in a copy named by model.chat_template"
        )
        if templates.trl_templates() is None:
            remedy += "; or install TRL: pip install 'ftcheck[train]'"
        return message, remedy

    def batch(self, examples: Sequence[Example]) -> list[Tokens | Trouble]:
        """Ids and masks of some rows, in order; a row whose template raises is in trouble."""
        plans = [self._texts(example) for example in examples]
        encoded = self._encode([text for plan in plans if isinstance(plan, list) for text in plan])
        result: list[Tokens | Trouble] = []
        position = 0
        for example, plan in zip(examples, plans, strict=True):
            if isinstance(plan, Trouble):
                result.append(plan)
                continue
            parts = encoded[position : position + len(plan)]
            position += len(plan)
            result.append(self._labelled(example, parts))
        return result

    def _texts(self, example: Example) -> list[_Text] | Trouble:
        """The whole row as text, and before it the prompt alone where there is one."""
        general = self.trouble(example.conversational)
        if general is not None:
            return general
        try:
            return self._conversation(example) if example.conversational else self._plain(example)
        except Exception as error:
            return Trouble(
                "template", template_error(error), "mend the row, or the template: model.chat_template"
            )

    def _conversation(self, example: Example) -> list[_Text]:
        texts = [self._rendered(example)]
        if isinstance(example.prompt, tuple):
            prompt = self._tokenizer.rendered(
                example.prompt,
                add_generation_prompt=True,
                chat_template=self._tokenizer.training_template,
                tools=example.tools,
                **example.template_kwargs,
            )
            texts.insert(0, _Text(prompt, spans=[]))
        return texts

    def _rendered(self, example: Example) -> _Text:
        if self._masking:
            text, spans = self._tokenizer.render_marked(example.turns, example.tools, example.template_kwargs)
            return _Text(text, spans)
        text = self._tokenizer.rendered(
            example.turns,
            chat_template=self._tokenizer.training_template,
            tools=example.tools,
            **example.template_kwargs,
        )
        return _Text(text, spans=[])

    def _plain(self, example: Example) -> list[_Text]:
        eos = self._tokenizer.backend.eos_token
        if example.text is not None:
            return [_Text(_ended(example.text, eos))]
        prompt, completion = str(example.prompt), str(example.completion)
        return [_Text(prompt), _Text(prompt + _ended(completion, eos))]

    def _encode(self, texts: Sequence[_Text]) -> list[Tokens]:
        """All texts at once: rendered ones without special tokens, plain ones as the tokenizer does it."""
        rendered = [text for text in texts if text.spans is not None]
        plain = [text for text in texts if text.spans is None]
        done = iter(self._encode_same(rendered, special=False))
        also = iter(self._encode_same(plain, special=True))
        return [next(done) if text.spans is not None else next(also) for text in texts]

    def _encode_same(self, texts: Sequence[_Text], *, special: bool) -> list[Tokens]:
        if not texts:
            return []
        batch = self._tokenizer.backend([text.text for text in texts], add_special_tokens=special)
        rows = batch["input_ids"]
        if not self._masking:
            return [Tokens(list(ids)) for ids in rows]
        return [
            Tokens(list(ids), _assistant_mask(batch, index, len(ids), text.spans or []))
            for index, (ids, text) in enumerate(zip(rows, texts, strict=True))
        ]

    def _labelled(self, example: Example, parts: Sequence[Tokens]) -> Tokens | Trouble:
        whole = parts[-1]
        masks = []
        start = common_prefix(parts[0].ids, whole.ids) if len(parts) == 2 else 0
        boundary = len(parts[0].ids) - start if len(parts) == 2 else 0
        if self._masking:
            if whole.mask is None or not any(whole.mask):
                return Trouble(
                    "template",
                    "assistant_only_loss finds no assistant token in this row",
                    "the row needs an assistant turn inside the template's {% generation %} markers",
                )
            masks.append(whole.mask)
        if len(parts) == 2 and self._training.completion_only_loss is not False:
            masks.append([False] * start + [True] * (len(whole.ids) - start))
        if not masks:
            return Tokens(whole.ids, None, boundary)
        return Tokens(whole.ids, [all(bits) for bits in zip(*masks, strict=True)], boundary)


def _ended(text: str, eos: str) -> str:
    return text if text.endswith(eos) else text + eos


def common_prefix(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many leading ids two sequences share; the completion begins there."""
    for count, (one, other) in enumerate(zip(ids, others, strict=False)):
        if one != other:
            return count
    return min(len(ids), len(others))


def _assistant_mask(batch: Any, index: int, length: int, spans: Spans) -> list[bool]:
    """transformers' own rule (`apply_chat_template`), its treatment of a missing end token included."""
    mask = [False] * length
    for start_char, end_char in spans:
        start = batch.char_to_token(index, start_char)
        end = batch.char_to_token(index, end_char - 1)
        if start is None:
            break
        stop = end + 1 if end else length
        mask[start:stop] = [True] * (stop - start)
    return mask
