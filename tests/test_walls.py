"""The rooms keep to themselves, and tests test this checkout."""

import subprocess
import sys
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
    code = "import sys, exptilt.tilt, exptilt.diagnostics; print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("prefect", "torch", "transformers", "polars", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


def test_the_research_api_needs_no_orchestrator():
    code = "import sys, gendata; gendata.TextGeneration(); print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
