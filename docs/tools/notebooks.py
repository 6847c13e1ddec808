"""A hook of MkDocs: a notebook of the docs as a page, its cells as code and their saved outputs below."""

import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add a page for every notebook."""
    root = Path(config.docs_dir)
    for path in sorted(root.glob("**/*.ipynb")):
        page = path.relative_to(root).with_suffix(".md").as_posix()
        files.append(File.generated(config, page, content=markdown(path)))
    return files


def markdown(path: Path) -> str:
    """The notebook at `path` as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(_cell(cell) for cell in cells)


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    """What a cell printed, or the text of what it gave."""
    text = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return f"```text\n{''.join(text).rstrip()}\n```"
