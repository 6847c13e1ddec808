"""What the tests share: folders of their own, a quiet offline Hub, rewards for the toy engine."""

import os
from pathlib import Path

os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})
os.environ.pop("PREFECT_API_URL", None)

import pytest
from processes import environment, prefect_server

from exptilt.config.settings import MCAligned, Original

REWARDS = """
def bees(prompts, completions):
    return [float("b" in c) for c in completions]

def length(prompts, completions):
    return [float(len(c)) for c in completions]

def rank(prompts, completions):
    return [float(i) for i, _ in enumerate(completions)]

def broken(prompts, completions):
    return [float("nan") if "b" in c else 1.0 for c in completions]

def short(prompts, completions):
    return [1.0]

def words(prompts, completions):
    return ["many" for _ in completions]
"""


IDLE = [  # services of schedules, automations and clean-ups, for which these tests have no use
    *("SCHEDULER", "LATE_RUNS", "PAUSE_EXPIRATIONS", "FOREMAN"),
    *("CANCELLATION_CLEANUP", "REPOSSESSOR", "CLEANUP_RECONCILER", "TRIGGERS"),
]
LONG = (
    "flows server command sharing storage pipeline failing_prompts faults vllm models_end publishing".split()
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process still has one when the others have ended."""
    first = [f"test_{name}" for name in LONG]
    items.sort(key=lambda item: first.index(item.path.stem) if item.path.stem in first else len(first))


@pytest.fixture(scope="session")
def rewards_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rewards") / "rewards.py"
    path.write_text(REWARDS)
    return str(path)


@pytest.fixture
def toy(tmp_path: Path, rewards_file: str):
    """Make a configuration of the toy engine, tilted by `bees`, with some settings changed."""

    def make(**settings) -> MCAligned:
        defaults = {
            "basemodel": "toy",
            "value": f"{rewards_file}:bees",
            "lam": 1.0,
            "end": 30,
            "save_directory": str(tmp_path / "results"),
        }
        return MCAligned(**{**defaults, **settings})

    return make


@pytest.fixture
def toy_original(tmp_path: Path):
    """Make a configuration of the toy engine without a tilt."""

    def make(**settings) -> Original:
        defaults = {"basemodel": "toy", "end": 30, "save_directory": str(tmp_path / "results")}
        return Original(**{**defaults, **settings})

    return make


@pytest.fixture
def clean(tmp_path) -> dict[str, str]:
    """An empty Prefect home and no server: what a new user has."""
    (tmp_path / "home").mkdir()
    return environment(tmp_path / "home")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    calm = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE}
    with prefect_server(tmp_path_factory.mktemp("prefect"), **calm) as env:
        yield env
