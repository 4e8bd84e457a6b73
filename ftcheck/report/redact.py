"""What every text passes before it leaves: secrets are taken out, control characters are made visible.

One redactor for the terminal, reports and logs. It rather takes out too much behind a name such as
`api_key`, and nothing of what ftcheck talks about all day: token ids, special tokens, digests.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

from ftcheck.errors import in_one_line

MARK = "[redacted]"
MAX_DEPTH = 100
_SHORTEST_VALUE = 8

_SHAPES = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----|\Z)
    | (?<![A-Za-z0-9]) (?:
        hf_(?:(?=[a-z]{0,60}[A-Z0-9])[A-Za-z0-9]{10,}|[A-Za-z0-9]{20,})              # Hugging Face
      | api_org_[A-Za-z0-9]{20,}
      | sk-(?:(?=[A-Za-z_-]{0,60}[0-9])[A-Za-z0-9_-]{16,}|[A-Za-z0-9]{20,})          # OpenAI and its likes
      | sk_(?:live|test)_[A-Za-z0-9]{16,}
      | (?:gsk_|nvapi-|glpat-|npm_|r8_|pypi-|xai-|wandb_v1_)[A-Za-z0-9_-]{20,}
      | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])                                        # AWS
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}                    # GitHub
      | AIza[A-Za-z0-9_-]{35}                                                        # Google
      | xox[abeprs]-[A-Za-z0-9-]{10,}                                                # Slack
      | eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*                   # JSON web token
    )""",
    re.VERBOSE | re.DOTALL,
)
_BEARER = re.compile(
    r"\b(bearer[ \t]{1,4})(?:(?=[A-Za-z]{0,60}[0-9_~+/=-])[\w.~+/=-]{8,}|[\w.~+/=-]{20,})", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"""(\bauthorization\\?["']?[ \t]{0,4}[:=][ \t]{0,4}+\\?["']?
        (?:(?:bearer|basic|digest|token)[ \t]{1,4})?+)(?!\[redacted\])[^\s"'\\,;]+""",
    re.IGNORECASE | re.VERBOSE,
)
_USER_IN_URL = re.compile(r"""://(?!\[redacted\]@)(?:[^\s/@:?#"'<>]*:[^\s/@"'<>]*|[^\s/@:?#"'<>]{12,})@""")
_QUERY = re.compile(
    r"""([?&](?:[\w-]{0,30}(?:token|key|signature|credential|secret)|sig|pass(?:word|wd)?|auth)=)
        (?!\[redacted\])[^\s&\#"'<>]+""",
    re.IGNORECASE | re.VERBOSE,
)
_VALUES = {
    "escaped": r"""(?:(?!\\["'])[^\n])""",
    "double": r'(?:\\.|[^"\\\n])',
    "single": r"(?:\\.|[^'\\\n])",
    "bare": r"""[^\s"',;&)}]""",
}
_NAMED = re.compile(
    rf"""(?P<name>token|password|passwd|passphrase|secret|key|pwd)
        (?:\\?["']?[ \t]{{0,4}}[=:][ \t]{{0,4}}|(?P<gap>[ \t]{{1,4}}))
        (?: \\["'] (?P<escaped>{_VALUES["escaped"]}{{1,1024}})
          | " (?P<double>{_VALUES["double"]}{{1,1024}})
          | ' (?P<single>{_VALUES["single"]}{{1,1024}})
          | (?![\]\\]) (?P<bare>{_VALUES["bare"]}{{1,1024}}) )""",
    re.IGNORECASE | re.VERBOSE,
)
_REST = {kind: re.compile(f"{one}*") for kind, one in _VALUES.items()}
_NAME_BEFORE = re.compile(r"(?:\b(?:api|access|auth|secret|private|hub) )?[\w-]{0,40}\Z", re.IGNORECASE)

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PASSWORD = re.compile(r"\w*password|\w*passwd|passphrase|secret")
_JOINED = re.compile(r"(?:api|access|auth|secret|private|client|refresh|session|hf|hub)(?:key|token)")
_SPECIAL_TOKEN = re.compile(
    r"""pad|eos|bos|unk|sep|cls|mask|stop|end|start|begin|special|extra|added|additional|separator|boi|eoi|eot|eom
    |image|audio|video|think|thinking|tool|prefix|suffix|middle|turn|role|user|assistant|system|generation|decoded
    |first|last|next|prev|previous|new|other|same|missing|unknown|max|min|per|each|every|differing|different
    |expected|actual|got|bad|good|target|source|input|output|trained|untrained|prompt|answer|reply|response|probe""",
    re.VERBOSE,
)
_ORDINARY_KEY = re.compile(
    r"""primary|foreign|sort|row|cache|dedup|group|partition|join|hash|dict|json|yaml|toml|config|column|field|text
    |prompt|input|output|response|messages?|label|role|content|unknown|duplicate|missing|extra|last|first|top
    |policy|training|query|public|idempotency""",
    re.VERBOSE,
)
_HARMLESS = re.compile(
    r"""<[^>]*>|\[[^\]]*\]?|\{.*|\$[\w{(].*|%\(.*|\*+|[ĠĊ▁].*|none|null|true|false|nil|required|missing|unset
    |empty|sha256(?:-tree)?:[0-9a-f]{4,64}(?:….*)?""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_NUMBER = re.compile(r"[-+]?[0-9][0-9_,.]*(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_RANDOM = re.compile(r"(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=[^0-9]*[0-9])[A-Za-z0-9_+/=-]{16,}")
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:SECRETS?|PASSWORD|PASSWD|PASSPHRASE|TOKEN|APIKEY|CREDENTIALS?|AUTH_CONFIG)(?:_|$)"
    r"|(?:^|_)KEY(?:_ID)?$|_(?:PWD|PAT|AUTH)$"
)
_ORDINARY_VARIABLE = re.compile(
    r"_(?:FILE|PATH|DIR|URL|URI|HOST|NAME|TYPE|TTL|COUNT|LENGTH|LIMIT|ENABLED|DISABLED|PARALLELISM)$"
)
_PLANES = "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 17 << 16, 1 << 16))
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff"
    f"\ufff9-\ufffb{_PLANES}]"
)


def redact(text: str) -> str:
    """`text` with every secret replaced by `[redacted]`. Doing it twice changes nothing more."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """`redact` for many texts: the environment is read once."""
    return _compiled(tuple(_secret_values(os.environ)))


def redact_json(value: Any) -> Any:
    """A value made of dicts, lists and strings, with its strings redacted. Keys stay.

    A value under a key that names a secret (`hub_token`, `password`) is taken out whatever it looks like.
    """
    return _walk(value, "", redactor(), 0)


def visible(text: str) -> str:
    r"""`text` with what a terminal or an XML parser would act on shown as `\x1b` or `\ud800`.

    New lines and tabs stay. Untrusted text goes through here, so that no data row moves the cursor,
    turns the direction of writing, or breaks a report.
    """
    return _UNSAFE.sub(_escaped, text.replace("\r\n", "\n"))


def shown(text: str) -> str:
    """A text for one line of output: without secrets, its line breaks and control characters visible."""
    return visible(in_one_line(redact(text)))


def looks_secret(name: str, value: str) -> bool:
    """Whether `name=value` gives away a secret, going by the name and by what the value looks like."""
    if not value or _HARMLESS.fullmatch(value):
        return False
    words = re.split(r"[_\-.\s]+", _CAMEL.sub("_", name).lower())
    last = words[-1]
    if _PASSWORD.fullmatch(last) or _JOINED.fullmatch(last) or (last == "pwd" and len(words) > 1):
        return True
    if last not in ("token", "key") or _NUMBER.fullmatch(value):
        return False
    if len(words) == 1:
        return _RANDOM.fullmatch(value) is not None
    ordinary = _SPECIAL_TOKEN if last == "token" else _ORDINARY_KEY
    return ordinary.fullmatch(words[-2]) is None and len(value) >= (8 if " " in name else 4)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _secret_values(environment: Mapping[str, str]) -> Iterable[str]:
    for name in environment:
        value = environment[name].strip() if _names_secret(name) else ""
        if len(value) >= _SHORTEST_VALUE and value not in MARK and MARK not in value:
            yield value


@lru_cache(maxsize=1024)
def _names_secret(name: str) -> bool:
    upper = name.upper()
    return bool(_SECRET_VARIABLE.search(upper)) and not _ORDINARY_VARIABLE.search(upper)


@lru_cache(maxsize=8)
def _compiled(values: tuple[str, ...]) -> Callable[[str], str]:
    longest_first = sorted(set(values), key=lambda value: (-len(value), value))
    known = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def apply(text: str) -> str:
        text = _SHAPES.sub(MARK, known.sub(MARK, text))
        text = _BEARER.sub(rf"\1{MARK}", _AUTHORIZATION.sub(rf"\1{MARK}", text))
        text = _QUERY.sub(rf"\1{MARK}", _USER_IN_URL.sub(f"://{MARK}@", text))
        return _without_named(text)

    return apply


def _without_named(text: str) -> str:
    """Every `name=value` is looked at, also one that stands in the value of another."""
    pieces: list[str] = []
    done = position = 0
    while match := _NAMED.search(text, position):
        kind = match.lastgroup or "bare"
        position = match.start(kind)
        if _gives_away(text, match, match[kind]):
            pieces += (text[done:position], MARK)
            rest = _REST[kind].match(text, match.end(kind))
            done = position = rest.end() if rest else match.end(kind)
    return "".join((*pieces, text[done:]))


def _gives_away(text: str, match: re.Match[str], value: str) -> bool:
    start = match.start()
    before = _NAME_BEFORE.search(text[max(0, start - 48) : start])
    name = (before[0] if before else "") + match["name"]
    if match["gap"] and not name.startswith("--"):
        return False
    return not value.startswith(MARK) and looks_secret(name.lstrip("-"), value)


def _walk(value: Any, name: str, apply: Callable[[str], str], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return MARK
    if isinstance(value, Mapping):
        return {key: _walk(one, _name_of(value, key), apply, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walk(one, name, apply, depth + 1) for one in value]
    if isinstance(value, bool | Enum) or not isinstance(value, str | int | float):
        return value
    if looks_secret(name, str(value)):
        return MARK
    return apply(value) if isinstance(value, str) else value


def _name_of(parent: Mapping[Any, Any], key: Any) -> str:
    """A change names its key in `path`, a measurement in `name`."""
    teller = {"old": "path", "new": "path", "value": "name"}.get(key, "")
    return str(parent[teller]) if teller in parent else str(key)
