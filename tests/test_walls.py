"""The layers keep to themselves, and tests test this checkout."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import exptilt
import flows
import gendata
import tasks

ROOT = Path(__file__).parent.parent


def test_the_tests_run_on_this_checkout():
    for module in (exptilt, flows, gendata, tasks):
        assert ROOT in Path(module.__file__ or "").resolve().parents


def test_the_science_needs_neither_orchestrator_nor_torch():
    code = "import sys, exptilt.tilting.weights, exptilt.tilting.diagnostics; print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("prefect", "torch", "transformers", "polars", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


def test_the_research_api_needs_no_orchestrator():
    code = "import sys, gendata; gendata.TextGeneration(); print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def modules() -> dict[str, Path]:
    """Every module of the checkout's packages, by its dotted name."""
    files = [
        ROOT / "gendata.py",
        *(p for top in ("exptilt", "tasks", "flows") for p in (ROOT / top).rglob("*.py")),
    ]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a file imports anywhere: inside functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known.keys() or {str(node.module)}
    return found & known.keys()


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    assert len(known) > 100
    TopologicalSorter({name: imported(path, known) - {name} for name, path in known.items()}).prepare()
