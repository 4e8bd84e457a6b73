"""Opens tokenizers through transformers, as the trainer does, and renders conversations with them."""

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ftcheck import templates
from ftcheck.errors import FtcheckError, InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.tokenizer import Message, ServingSide, Tokenizer
from ftcheck.paths import model_folder
from ftcheck.records import Location
from ftcheck.settings import Job
from ftcheck_plugins.kept import Kept, tokenizer_files
from ftcheck_plugins.model import first_opening
from ftcheck_plugins.model.chat_environment import Clock, Compile, by_ftcheck, by_transformers
from ftcheck_plugins.model.direct_rendering import Compiled, Spans, as_seen
from ftcheck_plugins.model.kept_backend import FILE, KeptBackend, facts_of, restored
from ftcheck_plugins.preparation import template_limits
from ftcheck_plugins.quiet_transformers import quiet_transformers

PROBE = "ftcheckprobe"
DAYS = (datetime(2001, 2, 3, 4, 5, 6), datetime(2019, 11, 30, 20, 40, 50))
"""Two days that differ in every part that a template may write."""
SYNTAX = ("TemplateSyntaxError", "TemplateAssertionError")
"""Errors of jinja about a template itself, before it sees a row."""
MISTRAL = frozenset({"mistral", "mistral3", "voxtral", "ministral", "pixtral"})
"""Values of model_type whose tokenizers transformers mends (`fix_mistral_regex`)."""
REMEMBERED = 4_000_000
"""Characters of texts whose ids are remembered: a sample of rows, in the forms in which rules render it."""
LIBRARIES = ("jinja2", "sentencepiece", "tiktoken", "tokenizers", "transformers")
"""Libraries that a tokenizer's ids and texts come from."""
SWITCHES = frozenset({"add_generation_prompt", "chat_template", "tools"})
"""Arguments of `rendered` that are no variables of the template."""
LARGE = 100_000
"""transformers looks at tokenizers with more tokens than this."""


class ChatTokenizer:
    """A transformers tokenizer with a chat template: one side of a job. See `ftcheck.Tokenizer`.

    `training_template` is the template as the loss needs it (TRL's patched one); `chat_template` is
    the one the tokenizer will be saved and served with.
    """

    def __init__(self, backend: Any, path: str, *, training_template: str | None = None) -> None:
        """`backend` is what `AutoTokenizer.from_pretrained(path)` returned."""
        self.backend = backend
        self.path = path
        self.kept = isinstance(backend, KeptBackend)
        self.class_name = backend.class_name if self.kept else type(backend).__name__
        self.size = len(backend)
        self._compiled: dict[str, Compiled] = {}
        self._encoded: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._remembered = 0
        self.chat_template = templates.default_variant(backend.chat_template)
        self.training_template = training_template or self.chat_template

    @property
    def original(self) -> Any:
        """The transformers tokenizer itself."""
        return self.backend.original if self.kept else self.backend

    @property
    def compile(self) -> Compile:
        """What compiles chat templates for it."""
        return by_ftcheck if self.kept else by_transformers

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that begins a sequence."""
        return self.backend.bos_token_id  # type: ignore[no-any-return]

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a sequence."""
        return self.backend.eos_token_id  # type: ignore[no-any-return]

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token."""
        return self.backend.pad_token_id  # type: ignore[no-any-return]

    @cached_property
    def turn_end_id(self) -> int | None:
        """The added token that follows the assistant's words in the template; None if there is none."""
        if self.chat_template is None:
            return None
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": PROBE}]
        try:
            text = self.render(turns)
        except FtcheckError:
            return None
        after = text.rpartition(PROBE)[2]
        added = set(self.backend.added_tokens_decoder)
        return next((one for one in self.encode(after) if one in added), None)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special and added tokens."""
        return frozenset(self.backend.added_tokens_decoder)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn: the tokenizer's EOS and what the template puts after an answer."""
        return frozenset(one for one in (self.eos_token_id, self.turn_end_id) if one is not None)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; `special` adds the special tokens that the tokenizer adds on its own."""
        known = self._encoded.get((text, special))
        if known is None:
            known = tuple(self.backend(text, add_special_tokens=special)["input_ids"])
            self._remember(text, special, known)
        return list(known)

    def _remember(self, text: str, special: bool, ids: tuple[int, ...]) -> None:
        """Several rules ask for the ids of the same rows; beyond `REMEMBERED` characters it starts afresh."""
        self._remembered += len(text)
        if self._remembered > REMEMBERED:
            self._encoded, self._remembered = {}, len(text)
        self._encoded[text, special] = ids

    @cached_property
    def _reference(self) -> Any:
        from tokenizers import Tokenizer as Raw

        file = Path(self.path) / "tokenizer.json"
        return Raw.from_file(str(file)) if file.is_file() else None

    def reference(self, text: str) -> list[int] | None:
        """Ids as `tokenizer.json` alone gives them (what other engines load); None without the file."""
        if self._reference is None:
            return None
        return list(self._reference.encode(text, add_special_tokens=False).ids)

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text; `prompt` opens the assistant's turn. Raises `InputError`."""
        try:
            return self.rendered(messages, add_generation_prompt=prompt, **switches)
        except Exception as error:
            template = switches.get("chat_template") or self.chat_template
            raise InputError(template_error(error, template)[0]) from error

    def rendered(self, messages: Sequence[Message], **switches: Any) -> str:
        """What `apply_chat_template` makes of a conversation, within bounds. Raises what that raises."""
        template = switches.get("chat_template") or self.backend.chat_template
        kwargs = {key: value for key, value in switches.items() if key not in SWITCHES}
        opening = bool(switches.get("add_generation_prompt"))
        direct = self._direct(messages, template, switches.get("tools"), kwargs, opening=opening)
        if direct is not None:
            return direct[0]
        backend = self.original
        with template_limits.bounded(template):
            text = backend.apply_chat_template(list(messages), tokenize=False, **switches)
        return template_limits.checked(str(text), template, messages, switches.get("tools"))

    def _direct(
        self,
        messages: Sequence[Message],
        template: Any,
        tools: Any,
        kwargs: Mapping[str, Any],
        *,
        opening: bool = False,
        marked: bool = False,
    ) -> tuple[str, Spans] | None:
        """A conversation rendered without transformers; None where that is needed. Raises what jinja does."""
        seen = as_seen(messages, tools, kwargs) if self.kept and isinstance(template, str) else None
        if seen is None:
            return None
        with template_limits.bounded(template):
            made = self._compiled.get(template)
            if made is None:
                made = Compiled(template, self.backend.special_tokens_map, self.compile)
                self._compiled[template] = made
            text, spans = made.render(seen, kwargs, tools=tools, opening=opening, marked=marked)
        return template_limits.checked(text, template, messages, tools), spans

    def render_marked(
        self, messages: Sequence[Message], tools: Any, kwargs: Mapping[str, Any]
    ) -> tuple[str, list[tuple[int, int]]]:
        """A conversation in the training template, and the character spans of its generation blocks.

        The same steps as `apply_chat_template(..., return_assistant_tokens_mask=True)`.
        """
        direct = self._direct(messages, self.training_template, tools, kwargs, marked=True)
        if direct is not None:
            return direct
        from transformers.utils.chat_template_utils import render_jinja_template

        backend = self.original
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in messages]
        template = backend.get_chat_template(self.training_template, tools)
        with template_limits.bounded(template):
            texts, spans = render_jinja_template(
                conversations=[turns],
                tools=tools,
                chat_template=template,
                return_assistant_tokens_mask=True,
                **{**backend.special_tokens_map, **kwargs},
            )
        return template_limits.checked(texts[0], template, turns, tools), spans[0]

    def show(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens kept."""
        return str(self.backend.decode(list(ids)))

    def plain(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens left out: what a server sends."""
        return str(self.backend.decode(list(ids), skip_special_tokens=True))

    def changes_with_date(self, messages: Sequence[Message], **switches: Any) -> bool:
        """Whether training's template renders this prompt otherwise on another day."""
        template = self.training_template
        if template is None or "strftime_now" not in template:
            return False
        with contextlib.suppress(InputError):  # opens what will be needed: not under another day
            self.render(messages, prompt=True, **{"chat_template": template, **switches})
        texts = set()
        for day in DAYS:
            with contextlib.suppress(InputError), _on(day):
                texts.add(self.render(messages, prompt=True, **{"chat_template": template, **switches}))
        return len(texts) > 1

    def with_fixed_regex(self) -> "ChatTokenizer | None":
        """The tokenizer as transformers makes it with `fix_mistral_regex`; None outside that family.

        transformers' own function does it, and asks the files beside the tokenizer only. It leaves
        alone what newer versions saved; tokenizers that split by no regex are not of this kind.
        """
        folder = model_folder(self.path)
        if folder is None or _model_type(folder) not in MISTRAL or not self._splits():
            return None
        mend = getattr(type(self.original), "_patch_mistral_regex", None)
        if mend is None:
            return None
        other = copy.deepcopy(self.original)
        other._tokenizer = mend(
            other._tokenizer, str(folder), is_local=True, local_files_only=True, fix_mistral_regex=True
        )
        return ChatTokenizer(other, self.path, training_template=self.training_template)

    def _splits(self) -> bool:
        from tokenizers import pre_tokenizers

        first = getattr(self.backend, "backend_tokenizer", None)
        first = first.pre_tokenizer if first is not None else None
        if isinstance(first, pre_tokenizers.Sequence):
            return isinstance(first[0], pre_tokenizers.Split)
        return first is not None and self.size > LARGE


@contextlib.contextmanager
def _on(day: datetime) -> Iterator[None]:
    """Let `strftime_now` say another day, in transformers' sandbox where that is in use, and in ours."""

    class Another:
        @staticmethod
        def now() -> datetime:
            return day

    theirs = sys.modules.get("transformers.utils.chat_template_utils")
    usual = (Clock.now, theirs.datetime if theirs is not None else None)
    try:
        Clock.now = Another.now
        if theirs is not None:
            theirs.datetime = Another  # type: ignore[attr-defined]
        yield
    finally:
        Clock.now = usual[0]
        if theirs is not None:
            theirs.datetime = usual[1]  # type: ignore[attr-defined]


def _model_type(folder: Path) -> str | None:
    try:
        found = bounded.read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    return found.get("model_type") if isinstance(found, dict) else None


def template_error(error: Exception, template: Any) -> tuple[str, str | None]:
    """What a chat template raised, in one line, and its whole text where that may quote a row.

    The line says the kind of the error, the template's own words, and the line of the template.
    """
    words, kind = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, template_limits.OutOfBounds):
        return words, None
    own = words if kind in SYNTAX else templates.own_words(words, template)
    line = None if own == words else templates.line_of(error)
    said = f"the chat template raised {kind}" + (f" at its line {line}" if line else "")
    said += f": {own}" if own else ""
    return (said, None) if own == words else (f"{said} …" if own else said, words)


def open_tokenizer(
    path: str,
    *,
    template_file: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    offline: bool = False,
    place: Location,
    kept: Callable[[], Kept] | None = None,
) -> ChatTokenizer:
    """The tokenizer that `AutoTokenizer` makes of a folder or hub id, with the template that is named.

    Without transformers where `first_opening` knows the folder or, with `kept`, from what an earlier run
    kept of it. Raises `InputError`.
    """
    if (path.startswith(("/", ".", "~")) and not os.path.isdir(path)) or os.path.isfile(path):
        raise _failure(path, "no such folder", place)
    opening = partial(_opened, path, revision, trust_remote_code, offline, place)
    backend: Any = None if trust_remote_code else _without_transformers(path, place, opening)
    if backend is None:
        backend = _kept_or_opened(kept() if kept is not None else None, opening)
    if template_file is not None:
        backend.chat_template = templates.read_template(Path(template_file))
    return ChatTokenizer(backend, path)


def _kept_or_opened(kept: Kept | None, opening: Callable[[], Any]) -> Any:
    """The tokenizer that an earlier run kept, or as it is opened now, and kept."""
    if kept is None:
        return opening()
    backend: Any = _restored(kept, opening)
    if backend is None:
        backend = opening()
        found = facts_of(backend) if kept.wanted else None
        if found is not None:
            kept.keep(found[0], {FILE: found[1]})
    return backend


def _restored(kept: Kept, opening: Callable[[], Any]) -> KeptBackend | None:
    """The tokenizer that an earlier run kept; None where there is none of use."""
    folder = kept.folder()
    if folder is None or (facts := kept.value()) is None:
        return None
    try:
        made = restored(facts, folder, opening)
    except Exception:
        return None
    kept.used()
    return made


def _without_transformers(path: str, place: Location, opening: Callable[[], Any]) -> KeptBackend | None:
    """The tokenizer of a folder that needs no transformers; None for any other. Raises `InputError`."""
    folder = Path(path)
    try:
        bounded.refuse_special(sorted(folder.iterdir()) if folder.is_dir() else ())
    except OSError:
        return None
    found = first_opening.found(folder)
    if found is None:
        return None
    made = KeptBackend(*found, opening)
    _refuse_broken(made, path, place)
    return made


def _opened(path: str, revision: str | None, trust_remote_code: bool, offline: bool, place: Location) -> Any:
    """What `AutoTokenizer` makes of a folder or hub id; one that works. Raises `InputError`."""
    from transformers import AutoTokenizer

    try:
        bounded.refuse_special(sorted(Path(path).iterdir()) if os.path.isdir(path) else ())
        with quiet_transformers():
            backend = AutoTokenizer.from_pretrained(
                path, revision=revision, trust_remote_code=trust_remote_code, local_files_only=offline
            )
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers panics in Rust: that is no `Exception`
        raise _failure(path, _reason(error, path, offline), place) from error
    _refuse_broken(backend, path, place)
    return backend


def _refuse_broken(backend: Any, path: str, place: Location) -> None:
    """Raise `InputError` for a tokenizer that loads, and fails at the first text."""
    try:
        for special in (True, False):
            backend([PROBE], add_special_tokens=special)
        backend.decode(backend(PROBE)["input_ids"])
        numbers = (
            backend.bos_token_id,
            backend.eos_token_id,
            backend.pad_token_id,
            *backend.added_tokens_decoder,
        )
        wrong = [one for one in numbers if one is not None and not isinstance(one, int)]
        why = f"the id of a special token is {type(wrong[0]).__name__}, not a number" if wrong else None
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers panics in Rust: that is no `Exception`
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if why is not None:
        raise _failure(path, f"loads, but does not work: {why}; is one of its files damaged?", place)


def _failure(path: str, why: str, place: Location) -> InputError:
    message = f"tokenizer {path}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])


def _reason(error: BaseException, path: str, offline: bool) -> str:
    folder = Path(path)
    first = " ".join(str(error).split())[:300]
    if os.path.isdir(folder):
        files = {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json"}
        if not any((folder / name).is_file() for name in files):
            return "the folder contains no tokenizer (no tokenizer.json, tokenizer.model or vocab.json)"
        return templates.malformed(folder) or f"could not be loaded: {type(error).__name__}: {first}"
    if offline:
        return f"not in the hub cache, and --offline is set ({type(error).__name__}: {first})"
    return f"could not be loaded from the hub: {type(error).__name__}: {first}"


def made_of(job: Job, run: Run, path: str, revision: str | None = None) -> Any:
    """Name and digests of all files that a tokenizer may be made of.

    None where that cannot be told: it has code of its own, or opening it may fetch it anew from the hub.
    """
    moves = not run.offline and not os.path.isdir(bounded.expanded(path))
    folder = None if moves or job.model.trust_remote_code else model_folder(path, revision)
    found = tokenizer_files(folder) if folder is not None else None
    return None if found is None else [Path(path).name, found]


def _place_of(job: Job, run: Run, path: str, revision: str | None = None, side: str = "tokenizer") -> Kept:
    """Where a tokenizer is kept."""
    return Kept(
        run, f"{job.label}.{side}", "tokenizer", partial(made_of, job, run, path, revision), LIBRARIES
    )


@loader("tokenizer")
def tokenizer(job: Job, run: Run) -> Tokenizer:
    """The training tokenizer, with the template that training applies."""
    stated = "model.tokenizer" if job.model.tokenizer else "model.name"
    path = job.model.tokenizer or job.model.name
    revision = None if job.model.tokenizer else job.model.revision
    opened = open_tokenizer(
        path,
        template_file=job.model.chat_template,
        revision=revision,
        trust_remote_code=job.model.trust_remote_code,
        offline=run.offline,
        place=job.at(stated),
        kept=partial(_place_of, job, run, path, revision),
    )
    if job.training.eos_token is not None:
        _set_eos(opened, job)
    opened.training_template = templates.applied(
        opened.chat_template, assistant_only_loss=job.training.assistant_only_loss
    )
    return opened


def _set_eos(opened: ChatTokenizer, job: Job) -> None:
    token = job.training.eos_token
    if token not in opened.backend.get_vocab():
        place = job.at("training.eos_token")
        raise _failure(opened.path, f"training.eos_token {token!r} is not in its vocabulary", place)
    if isinstance(opened.backend, KeptBackend) and token is not None:
        opened.backend.set_eos(token)
    else:
        opened.backend.eos_token = token


@loader("serving")
def serving(job: Job, run: Run, tokenizer: Tokenizer) -> ServingSide:
    """What the server loads: its own tokenizer and template where the policy names them."""
    side = job.serving
    if side.tokenizer is None and side.chat_template is None:
        return ServingSide(tokenizer=tokenizer, same=True, switches=side.chat_template_kwargs)
    opened = open_tokenizer(
        side.tokenizer or tokenizer.path,
        template_file=side.chat_template,
        trust_remote_code=job.model.trust_remote_code,
        offline=run.offline,
        place=job.at("serving.tokenizer" if side.tokenizer else "serving.chat_template"),
        kept=partial(_place_of, job, run, side.tokenizer or tokenizer.path, side="serving"),
    )
    return ServingSide(tokenizer=opened, same=False, switches=side.chat_template_kwargs)


@loader("evaluation")
def evaluation(job: Job, run: Run, serving: ServingSide) -> ServingSide | None:
    """What evaluation loads and sends, where the policy says that it is not what the server does.

    None without an `evaluation` section. `same` is true where it takes the server's tokenizer.
    """
    stated = job.evaluation
    if stated is None:
        return None
    kwargs = stated.chat_template_kwargs
    switches = serving.switches if kwargs is None else kwargs
    if stated.tokenizer is None and stated.chat_template is None:
        return ServingSide(tokenizer=serving.tokenizer, same=True, switches=switches)
    opened = open_tokenizer(
        stated.tokenizer or serving.tokenizer.path,
        template_file=stated.chat_template,
        trust_remote_code=job.model.trust_remote_code,
        offline=run.offline,
        place=job.at("evaluation.tokenizer" if stated.tokenizer else "evaluation.chat_template"),
        kept=partial(_place_of, job, run, stated.tokenizer or serving.tokenizer.path, side="evaluation"),
    )
    return ServingSide(tokenizer=opened, same=False, switches=switches)
