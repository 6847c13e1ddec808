"""A data set on the Hugging Face Hub, by huggingface_hub's real client against a stand-in for the Hub's API
(hub_stand_in.py): what is there, what opens it, and what is refused before or said after.

The client reads its endpoint when it is imported, so the pushes are of processes of their own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chats import chat_model
from hub_stand_in import READER, TOKEN, Repo, hub
from processes import s3_server

from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import ConfigError

LICENSED = {"license": "apache-2.0", "languages": ("en",)}
PUSHED = {"push_to": "org/one", "push_license": "apache-2.0", "push_language": "en"}
PUSHES = """
import json, os, shutil, sys
from pathlib import Path
import exptilt
from exptilt.data.hub_repository import Repository
from exptilt.outputs import publish

given = json.load(sys.stdin)
result = exptilt.mc_aligned(**given["run"])
shutil.copytree(result.summary.folder, given["altered"])
with open(next(Path(given["altered"]).glob("samples/*.parquet")), "ab") as table:
    table.write(b"x")
told = {"text": str(result), "folder": result.summary.folder}
for name, case in given["cases"].items():
    os.environ["HF_TOKEN"] = case.pop("token")
    folder = case.pop("folder", result.summary.folder)
    try:
        told[name] = publish.push(folder, Repository(**case))
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"
try:
    exptilt.mc_aligned(**{**given["run"], "push_to": "org/broken", "push_public": True})
except Exception as error:
    told["broken"] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """What the client reads: the stand-in as the Hub, the token, no Xet, which needs servers of its own."""
    own = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {**kept, **own, "DO_NOT_TRACK": "1", **more}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """The stand-in after a chat run that pushed its data set and pushes of all kinds; and what these said."""
    home = tmp_path_factory.mktemp("hub")
    (home / "r.py").write_text("def length(prompts, completions): return [len(c) for c in completions]\n")
    run = {
        "basemodel": chat_model(home / "model"),
        "data": [{"messages": [{"role": "user", "content": text}]} for text in ("abc", "fed", "cab")],
        "prompt_column": "messages",
        "nsamples": 4,
        "max_new_tokens": 6,
        "value": f"{home}/r.py:length",
        "lam": 0.1,
        "save_directory": str(home / "results"),
    }
    altered, nothing = str(home / "altered"), str(home / "nothing")
    cases = {
        "again": {"name": "org/one"},
        "by a reader": {"name": "org/one", "token": READER},
        "by nobody": {"name": "org/one", "token": "hf_other"},
        "without a token": {"name": "org/one", "token": ""},
        "elsewhere": {"name": "others/one"},
        "unlicensed": {"name": "org/one", "license": "my-own"},
        "shown": {"name": "org/one", "public": True},
        "hidden": {"name": "org/shown"},
        "over another": {"name": "org/model"},
        "altered": {"name": "org/two", "folder": altered},
        "nothing": {"name": "org/two", "folder": nothing},
    }
    with hub() as state:
        state.repos["org/shown"] = Repo(private=False)
        state.repos["org/model"] = Repo(private=True, files={"weights.bin": b"w"})
        state.fails_at = "org/broken"
        env = environment(state.url, home / "hf")
        cases = {name: {**LICENSED, "token": TOKEN, **case} for name, case in cases.items()}
        given = json.dumps({"run": {**run, **PUSHED}, "cases": cases, "altered": altered})
        told = json.loads(python(PUSHES, env, input=given))
        yield state, told, env, Path(told["folder"])


def python(code: str, env: dict[str, str], **how: Any) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, **how
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_puts_its_tables_card_and_manifest_there_and_nothing_else(pushed):
    state, told, _, made = pushed
    repo = state.repos["org/one"]
    assert repo.private
    tables = {str(path.relative_to(made)) for path in made.rglob("*.parquet")}
    assert set(repo.files) == {*tables, "README.md", "manifest.json", ".gitattributes"}
    assert repo.lfs == tables
    assert all(repo.files[name] == (made / name).read_bytes() for name in tables)
    assert f"pushed to   {state.url}/datasets/org/one (private)" in told["text"]


def test_its_card_and_manifest_name_no_token_and_no_place_of_the_machine(pushed):
    state, told, _, made = pushed
    for name in ("README.md", "manifest.json"):
        text = state.repos["org/one"].files[name].decode()
        assert str(made.parent) not in text
        assert TOKEN not in text
    everything = [path for path in made.parent.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in json.dumps(told)
    card = state.repos["org/one"].files["README.md"].decode()
    assert card.index("apache-2.0") < card.index("# ") < card.index("**") < card.index("| value |")


def test_the_cards_example_opens_the_folder_and_the_repository(pushed, tmp_path):
    state, _, env, made = pushed
    for card in (made / "README.md", state.repos["org/one"].files["README.md"]):
        text = card.decode() if isinstance(card, bytes) else card.read_text()
        (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
        told = "print([kept.num_rows, samples.num_rows, kept[0]['messages'], str(kept.features['messages'])])"
        where = {**env, "HF_DATASETS_CACHE": str(tmp_path)}
        rows, samples, messages, feature = eval(python(f"{code}\n{told}", where, cwd=tmp_path))
        assert (rows, samples) == (3, 12)
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert re.fullmatch(r"(Large)?List\(\{'role': .*, 'content': .*\}\)", feature)


def test_the_same_data_set_once_more_changes_nothing(pushed):
    state, told, _, _ = pushed
    assert told["again"] == f"{state.url}/datasets/org/one (private)"
    assert state.repos["org/one"].commits == 1


@pytest.mark.parametrize(
    ("case", "said"),
    {
        "by a reader": r"ConfigError: org/one: the token may not write there",
        "by nobody": r"ConfigError: org/one: the Hub does not know the token: run hf auth login",
        "without a token": r"ConfigError: org/one: no token of the Hub: run hf auth login, or set HF_TOKEN",
        "elsewhere": r"ConfigError: others/one: the token may not write there",
        "unlicensed": r'ConfigError: org/one: the Hub does not take the card: "license" must be one of',
        "shown": r"ConfigError: org/one is private: make it public in its settings",
        "hidden": r"ConfigError: org/shown is public: say so with --push-public",
        "over another": r"ConfigError: org/model holds something else than a data set of exptilt",
        "altered": r"StorageError: .*samples/.*parquet is not as it was written: run the same command again",
        "nothing": r"ConfigError: .*nothing: no data set lies there",
    }.items(),
)
def test_what_the_hub_would_not_take_is_one_line(pushed, case, said):
    assert re.match(said, pushed[1][case])
    assert "\n" not in pushed[1][case]


def test_a_push_that_fails_loses_nothing_and_says_how_to_push_later(pushed):
    state, told, _, made = pushed
    again = f"exptilt push '{made}' org/broken --license apache-2.0 --language en --public"
    assert told["broken"].startswith("PushFailed: not pushed to org/broken: ")
    assert told["broken"].endswith(f"; the data set is saved, to push it later: {again}")
    assert set(state.repos["org/broken"].files) == {".gitattributes"}
    assert json.loads((made / "manifest.json").read_text())["summary"]["kept"] == 3


def test_the_command_pushes_from_s3_and_takes_the_place_of_older_tables(pushed, tmp_path):
    state, _, env, made = pushed
    state.repos["org/three"] = Repo(
        True, {"manifest.json": b"{}", "records/old.parquet": b"old", "notes.txt": b"n"}
    )
    shutil.copytree(made, tmp_path / "store" / "bucket" / "run")
    line = ["push", "s3://bucket/run", "org/three", "--license", "mit", "--language", "en,de"]
    with s3_server(tmp_path / "store") as store:
        code = f"import sys; from exptilt import command; sys.argv[1:] = {line}; command.main()"
        told = python(code, {**env, **store})
    assert told == f"pushed to {state.url}/datasets/org/three (private)\n"
    files = state.repos["org/three"].files
    assert "records/old.parquet" not in files
    assert files["notes.txt"] == b"n"
    assert "- en\n- de\n" in files["README.md"].decode()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"push_to": "one"}, "'one' is no repository of the Hub: write ORG/NAME"),
        ({"push_license": ""}, "--push-license: name its license"),
        ({"push_license": "Apache 2"}, "--push-license Apache 2: name its license"),
        ({"push_language": ""}, "--push-language: name the language of its texts"),
        ({"push_language": "english"}, "--push-language english: name the language"),
        ({"push_to": ""}, "--push-license, --push-language and --push-public are of --push-to"),
    ],
)
def test_what_is_not_said_is_asked_for_before_anything_starts(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        build(MCAligned, {**PUSHED, **settings})
