"""What real chat templates do with tools: `python -m tests.faults.tools [PART OF A NAME…]` prints a table.

Every distinct template of the shared data renders the same conversation: in both forms of arguments, with two
calls in a turn, with a null argument, with definitions that have no wrapper. The verdicts are read off the
texts by the function that the rule `tool-calls` uses (`ftcheck.inputs.tool_rendering.look`).
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from typing import Any

from ftcheck.inputs import tool_remedies
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_rendering import Difference, look
from tests.places import DATA

TEMPLATES = DATA / "templates"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "open_case",
        "description": "Opens a help-desk case.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "badge": {"type": "integer"}},
            "required": ["town"],
        },
    },
}
ASKED: Message = {"role": "user", "content": "The lock at the door is broken."}
ANSWERED: Message = {"role": "assistant", "content": "Somebody will come and look at it."}
ARGUMENTS = ({"town": "Turin", "badge": 86421}, {"town": "Dublin", "badge": 97531})
RESULTS = ("The case is number 11438.", "The case is number 22778.")
IDS = ("a1b2c3d4e", "f5g6h7i8j")


def conversation(*arguments: Any) -> list[Message]:
    """A question, one turn with calls that have these arguments, their results, and an answer."""
    calls = [
        {"id": id, "type": "function", "function": {"name": "open_case", "arguments": given}}
        for id, given in zip(IDS, arguments, strict=False)
    ]
    results: list[Message] = [
        {"role": "tool", "tool_call_id": id, "name": "open_case", "content": content}
        for id, content, _ in zip(IDS, RESULTS, arguments, strict=False)
    ]
    return [ASKED, {"role": "assistant", "content": "", "tool_calls": calls}, *results, ANSWERED]


@dataclass(frozen=True)
class Verdict:
    """What one template does.

    `definitions` and `results`: kept, dropped, raises. `objects` and `texts`, the forms of arguments: right,
    raises, dropped, encoded twice, as repr, braced, escaped. `parallel`: two calls in one turn. `null`: how a
    null argument is written. `bare`: definitions without their wrapper, against those with it.
    """

    name: str
    definitions: str
    objects: str
    texts: str
    parallel: str
    results: str
    null: str
    bare: str

    @property
    def supports(self) -> bool:
        """Whether tools can be trained on: definitions, calls and results are rendered in some form."""
        return self.definitions == self.results == "kept" and "right" in (self.objects, self.texts)

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of arguments that it renders rightly."""
        return tuple(form for form in ("objects", "texts") if getattr(self, form) == "right")


@cache
def templates() -> dict[str, str]:
    """All distinct templates, by the path of the first file that has it."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for path in sorted(TEMPLATES.rglob("*.jinja*")):
        text = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            found[str(path.relative_to(TEMPLATES))] = text
    return found


def rendered(template: str, messages: Sequence[Message], tools: Any = (TOOL,)) -> str | None:
    """A conversation as transformers renders it; None where the template raises."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        [text], _ = render_jinja_template(
            conversations=[list(messages)], tools=list(tools), chat_template=template, **SPECIAL
        )
    except Exception:
        return None
    return str(text)


def verdict(name: str, template: str) -> Verdict:
    """What a template does with tools."""
    forms = {"objects": conversation(ARGUMENTS[0]), "texts": conversation(json.dumps(ARGUMENTS[0]))}
    made = {form: _differences(template, messages) for form, messages in forms.items()}
    told = {form: _of_calls(found) for form, found in made.items()}
    best = "texts" if told["objects"] != "right" and told["texts"] == "right" else "objects"
    every: list[Any] = [*ARGUMENTS]
    null: Any = {"town": "Turin", "badge": None}
    if best == "texts":
        every, null = [json.dumps(one) for one in every], json.dumps(null)
    return Verdict(
        name,
        definitions=_part(made[best], "definition"),
        objects=told["objects"],
        texts=told["texts"],
        parallel=_parallel(_differences(template, conversation(*every))) if told[best] == "right" else "-",
        results=_part(made[best], "result"),
        null=_null(template, conversation(null)) if told[best] == "right" else "-",
        bare=_bare(template, forms[best]),
    )


def _differences(template: str, messages: Sequence[Message]) -> tuple[Difference, ...] | None:
    text = rendered(template, messages)
    return None if text is None else look(messages, [TOOL], text).differences


def _of_calls(found: tuple[Difference, ...] | None) -> str:
    if found is None:
        return "raises"
    kinds = [one.kind for one in found if one.part in ("call", "argument", "content")]
    return kinds[0].replace("-", " ") if kinds else "right"


def _part(found: tuple[Difference, ...] | None, part: str) -> str:
    if found is None:
        return "raises"
    return next((one.kind for one in found if one.part == part), "kept")


def _parallel(found: tuple[Difference, ...] | None) -> str:
    said = _of_calls(found)
    return "one turn" if said == "right" else said


def _null(template: str, messages: Sequence[Message]) -> str:
    text = rendered(template, messages)
    if text is None:
        return "raises"
    found = look(messages, [TOOL], text).differences
    if any((one.kind, one.path) == ("as-none", "badge") for one in found):
        return "None"
    return "left out" if any((one.kind, one.path) == ("dropped", "badge") for one in found) else "null"


def _bare(template: str, messages: Sequence[Message]) -> str:
    usual = rendered(template, messages)
    _, tools = tool_remedies.bare(messages, [TOOL])
    text = rendered(template, messages, tools)
    if usual is None or text is None:
        return "raises" if usual is not None else "-"
    if any(one.part == "definition" for one in look(messages, [TOOL], usual).differences):
        return "-"
    if any(one.part == "definition" for one in look(messages, tools, text).differences):
        return "dropped"
    return "same" if text == usual else "other text"


def verdicts(names: Sequence[str] = ()) -> Iterator[Verdict]:
    """Of all templates, or of those whose name has one of these parts."""
    for name, template in templates().items():
        if not names or any(part in name for part in names):
            yield verdict(name, template)


def table(found: Sequence[Verdict]) -> str:
    """A line for each template, and what is counted in each column."""
    heads = [one.name for one in fields(Verdict)]
    lines = [heads, *[list(astuple(one)) for one in found]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text.append(
        f"\n{len(found)} templates, {sum(one.supports for one in found)} that tools can be trained on"
    )
    for head in heads[1:]:
        counts = Counter(getattr(one, head) for one in found)
        text.append(f"{head}: " + " · ".join(f"{count} {said}" for said, count in counts.most_common()))
    return "\n".join(text)


if __name__ == "__main__":
    print(table(list(verdicts(sys.argv[1:]))))
