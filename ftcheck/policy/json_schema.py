"""Makes the JSON Schema of a policy file from the dataclasses that a policy is validated by."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import settings
from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule
from ftcheck.field_metadata import Form, Limit, having, key_of
from ftcheck.importers.records import FRAMEWORKS
from ftcheck.policy import table
from ftcheck.policy.extra_keys import EXTRA, empty_value, fields, sections
from ftcheck.policy.limits import NAME
from ftcheck.policy.params import field_docs
from ftcheck.policy.validation import adapter
from ftcheck.settings import JobSettings, PolicySettings

ID = "urn:ftcheck:schema:policy-1"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

PAGES = {"trl.SFTConfig": "https://huggingface.co/docs/trl/sft_trainer"}
"""Where a library explains its keys; editors link to it."""
EXAMPLES: Mapping[Form, list[str]] = {
    Form.DURATION: ["90m", "24h", "7d"],
    Form.DURATION_OR_TIME: ["8h", "07:00", "2026-12-24T07:00"],
    Form.LAST_DAY: ["2026-12-31"],
    Form.URL: ["http://127.0.0.1:8000/v1"],
}
"""What a text of a form looks like; editors offer it."""


def schema(host: Host) -> Schema:
    """JSON Schema 2020-12 of a policy file, with the parameters of the host's rules.

    It takes one file on its own, so it asks for nothing that a file it extends may bring.
    """
    definitions: dict[str, Schema] = {}
    root = _shared(adapter(PolicySettings).json_schema(), definitions)
    for name, part in {PolicySettings.__name__: root, **definitions}.items():
        owner: Any = getattr(settings, name, object)
        _explain(part, owner)
        _limit(part.get("properties", {}), having(owner, Limit))
        for key, form in having(owner, Form).items():
            part["properties"][key]["examples"] = EXAMPLES[form]
    for owner in sections(JobSettings).values():
        # `extends`, `defaults` or `--set` may bring the keys that must be there
        definitions[owner.__name__].pop("required", None)
        _add_library_keys(definitions[owner.__name__]["properties"], table.section(owner))
    for part in (root, *definitions.values()):
        _describe(part, definitions)
    of_job = definitions["JobSettings"]["properties"]
    of_job["from"] |= {
        "anyOf": [_framework(name) for name in FRAMEWORKS] + [{"type": "null"}],
    }
    of_job |= {name: _or_null(part) for name, part in of_job.items() if "$ref" in part}
    params = {name: _params(rule, definitions) for name, rule in host.rules.items() if rule.params_type}
    _complete(root, host, params, definitions)
    head = {"$schema": DRAFT, "$id": ID, "title": "ftcheck policy"}
    body: Schema = _without_titles(root | {"$defs": dict(sorted(definitions.items()))})
    return head | body


def _framework(name: str) -> Schema:
    """`from: {axolotl: FILE}`."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"}},
        "required": [name],
        "additionalProperties": False,
    }


def _shared(made: Schema, definitions: dict[str, Schema]) -> Schema:
    """A schema whose definitions are moved to the shared ones."""
    definitions |= made.pop("$defs", {})
    return made


def _params(rule: Rule, definitions: dict[str, Schema]) -> Schema:
    """A rule's parameters, refusing others, with the help texts under its fields. Names of its own."""
    template = f"#/$defs/{rule.id}:{{model}}"
    made = adapter(rule.params_type).json_schema(ref_template=template)
    definitions |= {f"{rule.id}:{name}": part for name, part in made.pop("$defs", {}).items()}
    _explain(made, rule.params_type or object)
    definitions[f"{rule.id}:params"] = {**made, "additionalProperties": False}
    return {"$ref": template.format(model="params")}


def _explain(section: Schema, owner: type[Any]) -> None:
    """The help texts under a dataclass's fields. Pydantic would read them too, each time a policy is read."""
    for name, text in field_docs(owner).items():
        section.get("properties", {}).get(key_of(name), {}).setdefault("description", text)


def _describe(section: Schema, definitions: Mapping[str, Schema]) -> None:
    """Pydantic leaves out a field's help text where its section says the same; editors want it there."""
    for part in section.get("properties", {}).values():
        target = part.get("$ref", "").rpartition("/")[2]
        if target in definitions and "description" in definitions[target]:
            part.setdefault("description", definitions[target]["description"])


def _limit(properties: Mapping[str, Schema], limits: Mapping[str, Limit]) -> None:
    for name, limit in limits.items():
        for part in _numbers(properties[name]):
            part.update(limit.schema())


def _numbers(part: Schema) -> Iterator[Schema]:
    if part.get("type") in ("integer", "number"):
        yield part
    for inner in (*part.get("anyOf", ()), *part.get("prefixItems", ())):
        yield from _numbers(inner)


def _add_library_keys(properties: dict[str, Schema], section: table.Section | None) -> None:
    if section is None:
        return
    del properties[EXTRA]
    for name in section.names:
        if name not in properties:
            properties[name] = _library_key(section.config, section.fields[name])


def _library_key(config: str, field: Mapping[str, Any]) -> Schema:
    made: Schema = {"description": f"As in {config}.", "type": field["types"]}
    if config in PAGES:
        made["markdownDescription"] = f"As in [{config}]({PAGES[config]})."
    if "default" in field:
        made["default"] = field["default"]
    if field.get("choices"):
        others = [{"type": kind} for kind in field["types"] if kind != "string"]
        del made["type"]
        made["anyOf"] = [{"enum": field["choices"]}, *others]
    return made


def _or_null(part: Schema) -> Schema:
    """A section that is left empty says nothing, as in the reader."""
    if "$ref" in part:
        others = {key: value for key, value in part.items() if key != "$ref"}
        return {**others, "anyOf": [{"$ref": part["$ref"]}, {"type": "null"}]}
    return {**part, "type": [part["type"], "null"]} if "type" in part else part


def _complete(root: Schema, host: Host, params: Mapping[str, Schema], definitions: dict[str, Schema]) -> None:
    properties = root["properties"]
    job = _or_null({"$ref": "#/$defs/JobSettings"})
    properties["jobs"] |= {"additionalProperties": job, "propertyNames": {"pattern": NAME}}
    properties["defaults"] = {"description": properties["defaults"]["description"], **job}
    definitions["Check"] = _check(host, params)
    off = [{"const": False}, {"type": "null"}]
    # editors show the innermost text: it would hide what each rule says of itself
    about = definitions["CheckSettings"].pop("description")
    properties["checks"] |= {
        "properties": {
            name: {
                "description": rule.summary,
                "markdownDescription": f"{rule.summary}\n\n{rule.why}\n\nMore: `ftcheck explain {name}`",
                "anyOf": [_named(name, params), *off],
            }
            for name, rule in host.rules.items()
        },
        "additionalProperties": {"description": about, "anyOf": [{"$ref": "#/$defs/Check"}, *off]},
        "propertyNames": {"pattern": NAME},
    }
    for name, kind in fields(PolicySettings).items():
        if empty_value(kind) is not None:
            properties[name] = _or_null(properties[name])


def _check(host: Host, params: Mapping[str, Schema]) -> Schema:
    """A check whose `rule` says which parameters it takes."""
    chosen = [
        {"if": {"properties": {"rule": {"const": name}}, "required": ["rule"]}, "then": _takes(name, params)}
        for name in host.rules
    ]
    known = {"properties": {"rule": {"enum": [*host.rules, None]}}}
    return {"$ref": "#/$defs/CheckSettings", "allOf": [known, *chosen]}


def _named(name: str, params: Mapping[str, Schema]) -> Schema:
    """A check that bears a rule's name: it is that rule, unless `rule` says otherwise."""
    unsaid = {"not": {"properties": {"rule": {"type": "string"}}, "required": ["rule"]}}
    return {"$ref": "#/$defs/Check", "if": unsaid, "then": _takes(name, params)}


def _takes(name: str, params: Mapping[str, Schema]) -> Schema:
    return {"properties": {"params": params.get(name, {"maxProperties": 0})}}


def _without_titles(value: Any) -> Any:
    """Pydantic titles every field with its own name; that helps nobody."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = "properties" in value and isinstance(value["properties"], dict)
    kept = {key: item for key, item in value.items() if key != "title" or isinstance(item, dict)}
    made = {key: _without_titles(item) for key, item in kept.items() if not (named and key == "properties")}
    if named:
        made["properties"] = {name: _without_titles(item) for name, item in value["properties"].items()}
    return made
