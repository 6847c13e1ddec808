"""Scripts that no other test runs find what they import."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"generate_vllm.py"}  # it runs in vLLM's own environment
SCRIPTS = [path for path in sorted(ROOT.glob("benchmarks/*.py")) if path.name not in ELSEWHERE]


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / "tests/try_families.py"], ids=lambda path: path.name)
def test_a_script_finds_what_it_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="imported")
