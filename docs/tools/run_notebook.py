"""Run the documentation's notebook from top to bottom, and compare what it prints with what is saved in it.

    python docs/tools/run_notebook.py [--save]        # --save keeps the new outputs

Exit code 1 where a cell fails or prints something else.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

from exptilt.process_setup import set_up

NOTEBOOK: Final = Path(__file__).parents[1] / "tutorials" / "notebook.ipynb"


def main() -> int:
    """The exit code: 1 if the outputs are not those saved."""
    saved, new = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="exptilt-docs-") as folder:
        set_up()
        os.environ["HF_HUB_OFFLINE"] = "1"
        NotebookClient(new, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in new.cells:
        _strip(cell)
    if "--save" in sys.argv:
        nbformat.write(new, NOTEBOOK)
        return 0
    changed = [i for i, (a, b) in enumerate(zip(saved.cells, new.cells, strict=True)) if _said(a) != _said(b)]
    for i in changed:
        now, before = (_said(notebook.cells[i]) for notebook in (new, saved))
        print(f"{NOTEBOOK}: cell {i} gives\n{now}\nand not\n{before}", file=sys.stderr)
    return 1 if changed else 0


def _strip(cell: Any) -> None:
    """Leave only what does not change from run to run: no progress, no times, no HTML beside the text."""
    cell.metadata = {}
    if cell.cell_type != "code":
        return
    cell.execution_count = None
    cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count, output.metadata = None, {}
            output.data = {"text/plain": output.data["text/plain"]}


def _said(cell: Any) -> list[str]:
    outputs = cell.get("outputs", [])
    return [output["text"] if "text" in output else output["data"]["text/plain"] for output in outputs]


if __name__ == "__main__":
    sys.exit(main())
