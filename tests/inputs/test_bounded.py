"""Item 31: one reader for all files: regular, of bounded size and depth, never waited for."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftcheck import digest, paths, templates
from ftcheck.errors import InputError
from ftcheck.inputs import bounded
from ftcheck.inputs.run_folder import read_metrics
from ftcheck.inputs.weights import raw_header

DEEP = "[" * 200_000 + "]" * 200_000


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(
    ("make", "kind"),
    [(fifo, "a named pipe"), (bound, "a socket"), (folder, "a folder"), (device, "a device")],
)
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], Path], kind: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "x")
    began = time.monotonic()

    with pytest.raises(OSError, match=kind) as raised:
        bounded.read(path)

    assert "name" in str(raised.value.strerror), "it says what to do"
    assert digest.of_file(path) is None
    assert time.monotonic() - began < 5


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * (1 << 20))

    assert len(bounded.read(path, 1 << 20)) == 1 << 20
    with pytest.raises(OSError, match="is larger than 1,000 bytes"):
        bounded.read(path, 1000)


def test_reading_ends_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_SECONDS", -1.0)
    (tmp_path / "x").write_bytes(b"x")

    with pytest.raises(TimeoutError, match="was not read within"):
        bounded.read(tmp_path / "x")


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 200_000, "[" * 250 + "]" * 250])
def test_json_that_is_nested_too_deeply_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested deeper|Expecting"):
        bounded.loads(text)


def test_two_hundred_levels_are_read() -> None:
    text = "[" * bounded.MAX_DEPTH + "]" * bounded.MAX_DEPTH

    assert json.dumps(bounded.loads(text)).replace(" ", "") == text
    assert bounded.loads("[[]" + ",[]" * 1000 + "]"), "many brackets are not deep"


def test_a_number_with_too_many_digits_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("9" * 10_000, encoding="utf-8")

    with pytest.raises(ValueError) as raised:
        bounded.read_json(tmp_path / "x")

    assert bounded.told(raised.value) == "it holds a number with too many digits"


def test_a_reference_that_is_not_ascii_names_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    references = tmp_path / "models--owner--name" / "refs"
    references.mkdir(parents=True)

    for content in ("é".encode(), b"\xff\xfe", b"../../..", b"a/b", b"x" * 5000):
        (references / "main").write_bytes(content)
        assert paths.model_folder("owner/name") is None


@pytest.mark.parametrize("name", ["~nouser/x", "~nouser", "x" * 5000, "a\0b", "\udcff"])
def test_a_name_that_no_system_has_is_no_folder(name: str) -> None:
    assert paths.model_folder(name) is None


def test_a_list_of_templates_may_name_one_by_a_list() -> None:
    variants = [{"name": ["default"], "template": "x"}, {"name": "default", "template": "y"}, {}, None]

    assert templates.default_variant(variants) == "y"
    assert templates.default_variant(variants[:1]) is None


def test_a_header_and_metrics_in_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a named pipe"):
        raw_header(fifo(tmp_path / "model.safetensors"))
    fifo(tmp_path / "metrics.jsonl")
    assert read_metrics(tmp_path) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "{path}: cannot be read: No such file or directory"),
        ('{"a": 1,\n x}', "{path}:2:2: not valid JSON: "),
        ("[1]", "{path}: must contain a JSON object"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "{path}: not readable JSON (nested deeper than 200 levels)"),
    ],
)
def test_what_is_no_object_says_where_and_why(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")

    with pytest.raises(ValueError) as caught:
        bounded.read_object(path)

    assert str(caught.value).startswith(said.format(path=path))


def test_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}', encoding="utf-8")

    assert bounded.read_object(path) == {"a": [1]}
