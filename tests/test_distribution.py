"""Which distribution the modules come from."""

from importlib import metadata

import pytest

from ftcheck import distribution


def test_the_whole_is_named_first() -> None:
    assert distribution.version() == metadata.version("ftcheck")
    assert not distribution.is_light()


def test_without_it_the_light_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "ftcheck":
            raise metadata.PackageNotFoundError(name)
        return f"1 of {name}"

    monkeypatch.setattr(metadata, "version", version)

    assert distribution.is_light()
    assert distribution.version() == "1 of ftcheck-policy"
