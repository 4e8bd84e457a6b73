"""Prints a merged policy as YAML, with the origin of each value beside it on demand."""

from ftcheck.policy.extra_keys import fields
from ftcheck.policy.lines import WIDTH, mapping, origin_of, redacted
from ftcheck.policy.nodes import Node, with_items
from ftcheck.policy.reading import Draft
from ftcheck.settings import PolicySettings


def show(draft: Draft, *, origin: bool = False) -> str:
    """The merged policy as YAML; with `origin` each line says which file and line its value is from.

    Secrets are taken out, as they are of reports.
    """
    lines = list(mapping(redacted(_in_order(draft.tree)), "")) if draft.tree else []
    if not origin:
        return "".join(f"{text}\n" for text, _ in lines)
    width = min(max((len(text) for text, _ in lines), default=0), WIDTH)
    return "".join(f"{text:<{width}}  # {origin_of(node)}\n" for text, node in lines)


def _in_order(tree: Node) -> Node:
    known = {name: tree.items[name] for name in fields(PolicySettings) if name in tree.items}
    return with_items(tree, {**known, **tree.items})
