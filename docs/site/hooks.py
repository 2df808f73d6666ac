"""What MkDocs calls: the made pages and the navigation are handed over, nothing is written."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files
from pages import nav, pages, reference


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, and sets the navigation, which is made after this."""
    for page, text in {**pages(), **reference()}.items():
        known = files.get_file_from_path(page)
        if known is not None:
            files.remove(known)
        files.append(File.generated(config, page, content=text))
    config.nav = nav()
    return files
