"""What a chat template makes of conversations of one form, found out once and then filled in.

A template is run with stand-ins in place of the messages' words. A stand-in can be put out, joined and
stripped; a question about the words (`in`, `startswith`, `==`, whether there are any) is answered for the
conversation at hand and written down; anything else gives up. What comes out holds for every conversation
with the same roles whose words give the same answers: constants, and the words between them. So it is
known, and not hoped from samples, that filling it in is what the template would write.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ftcheck_plugins.model.chat_environment import Compile, by_transformers
from ftcheck_plugins.reading.row_formats import Talk

MAX_FORMS = 1_000
"""Forms (roles in their order) that are remembered; conversations of further ones are rendered as usual."""
MAX_OUTLINES = 16
"""Ways through the template that are remembered for one form."""
QUESTIONS: Mapping[str, Callable[[str, Any], bool]] = {
    "any": lambda words, _: bool(words),
    "equals": lambda words, given: words == given,
    "has": lambda words, given: given in words,
    "begins": lambda words, given: words.startswith(given),
    "ends": lambda words, given: words.endswith(given),
}


class Words(NamedTuple):
    """The words of one message, by its index, after some strips: a method of `str` and characters each."""

    message: int
    strips: tuple[tuple[Callable[[str, str | None], str], str | None], ...] = ()

    def of(self, texts: Sequence[str]) -> str:
        """The words themselves; `texts` are the contents of all messages."""
        words = texts[self.message]
        for strip, characters in self.strips:
            words = strip(words, characters)
        return words


class Question(NamedTuple):
    """What a template asked about some words, with the answer it got."""

    words: Words
    kind: str
    given: Any
    answer: bool

    def same(self, texts: Sequence[str]) -> bool:
        """Whether other words give the same answer."""
        return QUESTIONS[self.kind](self.words.of(texts), self.given) is self.answer


Part = str | Words


@dataclass(frozen=True, slots=True)
class Outline:
    """Constants with gaps, the words that go into them, and the parts that generation blocks span."""

    parts: tuple[str, ...]
    gaps: tuple[tuple[int, Words], ...]
    spans: tuple[tuple[int, int], ...]

    def fill(self, texts: Sequence[str]) -> list[str]:
        """The parts of one conversation, in order."""
        filled = list(self.parts)
        for place, words in self.gaps:
            filled[place] = words.of(texts) if words.strips else texts[words.message]
        return filled


class Unforeseen(BaseException):
    """A template looks at words in a way that cannot be followed. No `except Exception` may keep it."""


class Outlines:
    """The outlines of one template, made when a conversation of a new form comes along."""

    def __init__(
        self, template: str, specials: Mapping[str, Any], compile: Compile = by_transformers
    ) -> None:
        """`specials` are the tokenizer's special tokens. Raises what transformers raises on compiling."""
        self._tracer = _Tracer(template, specials, compile)
        self._known: dict[tuple[Any, ...], list[tuple[tuple[Question, ...], Outline | None]]] = {}

    def of(self, plain: Talk, messages: Sequence[Any], opening: bool) -> Outline | None:
        """The outline that these messages fill with their texts; None where there is none."""
        form, texts = (plain.form, opening), plain.texts
        known = self._known.get(form)
        if known is None:
            if len(self._known) >= MAX_FORMS or not texts:
                return None
            known = self._known.setdefault(form, [])
        for questions, outline in known:
            if not questions or all(one.same(texts) for one in questions):
                return outline
        if len(known) >= MAX_OUTLINES:
            return None
        made = self._tracer.trace(texts, messages, opening)
        known.append(made)
        return made[1]


class _Tracer:
    """Runs a template of its own, compiled as transformers does it, in which texts may be stand-ins."""

    def __init__(self, template: str, specials: Mapping[str, Any], compile: Compile) -> None:
        made = compile(template, fresh=True)
        self._root, self._environment, self._blocks = made.root_render_func, made.environment, made.blocks
        self._globals = {**made.globals, "strftime_now": _give_up, "lipsum": _give_up}
        self._shared = {**self._globals, "documents": None, **specials}
        self._done: list[Part] = []
        self._spans: list[tuple[int, list[Part]]] = []
        self._prepare()

    def _prepare(self) -> None:
        """Let compiled code keep stand-ins where it would make texts; trap what is not the same twice."""
        environment = self._environment
        environment.concat = _joined
        environment.filters["random"] = _give_up
        names = self._root.__globals__
        names["str"] = lambda value: value if type(value) is _StandIn else str(value)
        names["str_join"] = names["markup_join"] = _joined
        for name, extension in environment.extensions.items():
            if hasattr(extension, "_generation_support"):
                environment.extensions[name] = _Generation(self)

    def trace(
        self, texts: list[str], messages: Sequence[Any], opening: bool
    ) -> tuple[tuple[Question, ...], Outline | None]:
        """The questions about these words, and the outline; None if the way that they lead is not one."""
        questions: list[Question] = []
        self._done, self._spans = [], []
        seen = [
            {**message, "content": _StandIn([Words(n)], texts, questions)}
            for n, message in enumerate(messages)
        ]
        given = {**self._shared, "messages": seen, "tools": None, "add_generation_prompt": opening}
        environment = self._environment
        context = environment.context_class(environment, given, None, self._blocks, globals=self._globals)
        try:
            for block in self._root(context):
                self._done.extend(_parts(block))
        except MemoryError:
            raise
        except (Exception, Unforeseen):
            return tuple(questions), None
        return tuple(questions), _outline(self._done, self._spans)

    def generated(self, made: Any) -> None:
        """A generation block begins after what was put out so far, as transformers counts it."""
        self._spans.append((len(self._done), _parts(made)))


class _Generation:
    """Stands in the place of transformers' tracker of generation blocks."""

    def __init__(self, tracer: _Tracer) -> None:
        self._tracer = tracer

    def _generation_support(self, caller: Callable[[], Any]) -> Any:
        made = caller()
        self._tracer.generated(made)
        return made


class _StandIn:
    """Words in a template: looks like a `str` to `isinstance`, and is none to anything that reads it."""

    def __init__(self, parts: list[Part], texts: Sequence[str], questions: list[Question]) -> None:
        self._parts = parts
        self._texts = texts
        self._questions = questions

    @property
    def __class__(self) -> Any:
        return str

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise Unforeseen

    def _of(self, parts: list[Part]) -> "_StandIn":
        return _StandIn(parts, self._texts, self._questions)

    def __add__(self, other: Any) -> "_StandIn":
        return self._of([*self._parts, *_parts(other)])

    def __radd__(self, other: Any) -> "_StandIn":
        return self._of([*_parts(other), *self._parts])

    def strip(self, characters: str | None = None) -> "_StandIn":
        return self._stripped(str.strip, characters)

    def lstrip(self, characters: str | None = None) -> "_StandIn":
        return self._stripped(str.lstrip, characters)

    def rstrip(self, characters: str | None = None) -> "_StandIn":
        return self._stripped(str.rstrip, characters)

    def _stripped(self, strip: Callable[[str, str | None], str], characters: str | None) -> "_StandIn":
        if characters is not None and type(characters) is not str:
            raise Unforeseen
        words = self._words()
        return self._of([words._replace(strips=(*words.strips, (strip, characters)))])

    def _words(self) -> Words:
        """The words, if they are those of one message and nothing else."""
        if len(self._parts) != 1 or isinstance(self._parts[0], str):
            raise Unforeseen
        return self._parts[0]

    def _ask(self, kind: str, given: Any = None) -> bool:
        words = self._words()
        answer = QUESTIONS[kind](words.of(self._texts), given)
        self._questions.append(Question(words, kind, given, answer))
        return answer

    def _ask_of_text(self, kind: str, given: Any) -> bool:
        if type(given) is not str:
            raise Unforeseen
        return self._ask(kind, given)

    def __bool__(self) -> bool:
        if any(isinstance(part, str) and part for part in self._parts):
            return True
        return self._ask("any")

    def __eq__(self, other: object) -> bool:
        return False if other is None else self._ask_of_text("equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: Any) -> bool:
        return self._ask_of_text("has", other)

    def startswith(self, *given: Any) -> bool:
        return self._ask_of_text("begins", given[0] if len(given) == 1 else None)

    def endswith(self, *given: Any) -> bool:
        return self._ask_of_text("ends", given[0] if len(given) == 1 else None)

    def __iter__(self) -> Iterator[str]:
        """That there is an iterator is no news: what it gives would be."""
        raise Unforeseen
        yield ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unforeseen

    def _trap(self, *_: Any) -> Any:
        raise Unforeseen

    __hash__ = __len__ = __getitem__ = __str__ = __repr__ = __format__ = _trap
    __lt__ = __le__ = __gt__ = __ge__ = __mod__ = __rmod__ = __mul__ = __rmul__ = _trap
    __int__ = __float__ = __index__ = __bytes__ = __reduce_ex__ = _trap


def _give_up(*_: Any, **__: Any) -> Any:
    raise Unforeseen


def _parts(value: Any) -> list[Part]:
    """What a value puts out: constants and words. Raises `Unforeseen` for what is no text."""
    if type(value) is _StandIn:
        return value._parts
    if type(value) is not str:
        raise Unforeseen
    return [value] if value else []


def _joined(values: Any) -> Any:
    """Texts joined, as jinja joins them; a stand-in if any of them is one."""
    some = [value if type(value) is _StandIn else str(value) for value in values]
    first = next((one for one in some if type(one) is _StandIn), None)
    if first is None:
        return "".join(map(str, some))
    return first._of([part for one in some for part in _parts(one)])


def _outline(done: Sequence[Part], spans: Sequence[tuple[int, list[Part]]]) -> Outline | None:
    """The outline with neighbouring constants joined; None if a block was not put out where it was made."""
    if any(list(done[start : start + len(inside)]) != inside for start, inside in spans):
        return None
    edges = {place for start, inside in spans for place in (start, start + len(inside))}
    parts: list[str] = []
    gaps: list[tuple[int, Words]] = []
    place_of = [0] * (len(done) + 1)
    joining = False
    for n, part in enumerate(done):
        joining = joining and n not in edges
        place_of[n] = len(parts)
        if isinstance(part, str) and joining:
            parts[-1] += part
            continue
        joining = isinstance(part, str)
        if isinstance(part, Words):
            gaps.append((len(parts), part))
        parts.append(part if isinstance(part, str) else "")
    place_of[len(done)] = len(parts)
    found = tuple((place_of[start], place_of[start + len(inside)]) for start, inside in spans)
    return Outline(tuple(parts), tuple(gaps), found)
