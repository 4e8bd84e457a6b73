"""The hook of mkdocs: adds the generated reference to the pages, while the site is built."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add each generated page."""
    from mkdocs.structure.files import File

    from docs.generator.pages import pages

    for address, text in pages().items():
        files.append(File.generated(config, address, content=text))
    return files
