"""Bad input gets one clear line and exit code 2, before a model is loaded, and harms nothing saved."""

import http.server
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
import s3fs
from checkpoints import causal
from processes import s3_server

from exptilt.config.command_line import command_line
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned
from exptilt.data import prompts
from exptilt.engines import registry
from exptilt.planning.plan import prepare
from exptilt.storage import keys, s3, write_checks
from tasks.runtime.launch import launch


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run the flow's command line with bad arguments; the one line that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "load", lambda *a: pytest.fail("a model was loaded"))

    def run(*argv: str) -> str:
        capsys.readouterr()  # what came before
        with pytest.raises(SystemExit) as stopped:
            launch(None, command_line(MCAligned, list(argv)))  # type: ignore[arg-type]
        assert stopped.value.code == 2
        out = capsys.readouterr()
        assert out.out == ""
        lines = out.err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return run


def test_bad_input_leaves_no_server_behind(refused):
    refused("--value", "wit")
    children = [child.cmdline() for child in psutil.Process().children() if child.is_running()]
    assert not [line for line in children if "tasks.runtime.server" in line]


SETTINGS = [
    (["--value", "wit"], "unknown value 'wit': known are humor, positive"),
    (["--value", "humor,wit", "--lam", "1,2"], "unknown value 'wit'"),
    (["--value", "no.py:f"], "there is no file no.py"),
    (["--data", "Anthropic"], "unknown data 'Anthropic': supported are demo, Anthropic-harmless, Imdb"),
    (["--basemodel", "no such model"], "base model 'no such model' was not found: it is neither"),
    (["--lam", "1,2"], "as many λ as values are needed: --lam has 2 (1.0,2.0), --value has 1 (humor)"),
    (["--lam", "1", "--value", "all"], "--value has 2 (humor,positive)"),
    (["--lam", "inf"], "--lam must be finite numbers, not inf"),
    (["--lam", "nan"], "--lam must be finite"),
    (["--lam", "much"], "--lam: input should be a valid number"),
    (["--lam", "1,1", "--value", "humor,humor"], "a value is named twice"),
    (["--nsamples", "0"], "--nsamples: input should be greater than or equal to 1, got '0'"),
    (["--ndraws", "0"], "--ndraws: input should be greater"),
    (["--shard-size", "0"], "--shard-size"),
    (["--shard-size", "some"], "--shard-size"),
    (["--temperature", "0"], "--temperature: input should be greater than 0"),
    (["--top-p", "1.5"], "--top-p: input should be less than or equal to 1"),
    (["--device", "tpu"], "unknown device 'tpu'"),
    (["--device", "cuda:99"], "--device cuda:99: this machine has"),
    (["--start", "5", "--end", "5"], "the range --start 5 --end 5 is empty"),
    (["--start", "9999"], "the range --start 9999 --end None is empty: demo has"),
    (["--config", "no.toml"], "--config no.toml: No such file"),
    (["--data", "no.jsonl"], "--data no.jsonl: there is no such file"),
    (["--max-new-tokens", "4000"], "--max-new-tokens 4000 leaves no room for a prompt"),
]


@pytest.mark.parametrize(("argv", "said"), SETTINGS, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_a_bad_setting_is_named(refused, argv, said):
    assert said in refused(*argv)


def test_a_missing_file_flag_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line(Scoring, [])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: --file: field required\n"


def test_an_unknown_flag_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line(MCAligned, ["--lamb", "1"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --lamb" in capsys.readouterr().err


def test_no_hub_in_reach_says_what_to_do(refused):
    line = refused("--basemodel", "someone/some-model")
    assert "base model 'someone/some-model' was not found: no Hub is in reach; pass a local folder" in line
    line = refused("--data", "someone/some-prompts")
    assert "data set 'someone/some-prompts' was not found" in line
    assert "--data FILE.jsonl --prompt-column NAME" in line
    assert "Anthropic/hh-rlhf" in refused("--data", "Anthropic-harmless")


FILES = [
    ("a.jsonl", b'{"text": "x"}\n', "no column 'prompt'; its columns are text (--prompt-column)"),
    ("a.json", b"[]", "it holds no prompts"),
    ("a.jsonl", b"", "it holds no prompts"),
    ("a.csv", b"", "cannot be read (empty CSV"),
    ("a.txt", b"", "it holds no prompts"),
    ("a.txt", b"one\n\ntwo\n", "prompt 1 is empty"),
    ("a.json", b'[{"prompt": "x"}, {"prompt": 3}]', "prompt 1 is not text but int"),
    ("a.jsonl", b'{"prompt": 1}\n{"prompt": 2}\n', "prompt 0 is not text but int"),
    ("a.jsonl", b'{"prompt": "x"}\n{"prompt": null}\n', "prompt 1 is missing"),
    ("a.jsonl", b'{"prompt": "x"}\n{"prompt": "\xff\xfe"}\n', "not UTF-8 at byte 28"),
    ("a.csv", b"prompt\nx\n\xff\n", "not UTF-8 at byte 9"),
    ("a.txt", b"ok\n\xc3\x28\n", "not UTF-8 at byte 3"),
    ("a.json", b"{not json", "cannot be read"),
    ("a.json", b'["x"]', "cannot be read"),
    ("a.json", b'{"prompt": "x"}', "cannot be read"),
    ("a.csv", b'prompt\n1\n""\n', "prompt 1 is "),
    ("a.parquet", b"not parquet", "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "said"), FILES)
def test_a_bad_prompt_file_is_named(refused, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in refused("--data", name)


def test_a_local_folder_without_a_model_is_named(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty has no config.json" in refused("--basemodel", "empty")


def test_an_unwritable_place_is_named(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("--save-directory", str(tmp_path / "file" / "results"))
    assert "cannot write" in line
    assert "Not a directory" in line


@pytest.fixture
def full(tmp_path):
    """A disk of one page."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield str(folder)
    subprocess.run(["umount", "-l", folder], check=True)  # a failed run may still have a file open there


def test_a_full_disk_is_named(refused, full):
    assert "No space left on device" in refused("--save-directory", full)


def test_a_full_temporary_folder_is_named(refused, full, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", full)
    assert f"cannot write {full}: No space left on device" in refused()


class Forbidding(http.server.BaseHTTPRequestHandler):
    """An S3 that lets nobody write."""

    def do_PUT(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Where S3 may be: a real server, one that forbids, one that never answers, none."""
    forbidding = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=forbidding.serve_forever, daemon=True).start()
    with s3_server(tmp_path_factory.mktemp("s3") / "store") as env, socket.create_server(("", 0)) as silent:
        yield {
            "real": env["AWS_ENDPOINT_URL"],
            "forbidding": f"http://127.0.0.1:{forbidding.server_port}",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "dead": "http://127.0.0.1:9",
        }
    forbidding.shutdown()


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-key"}
PLACES = [
    ("real", {"AWS_SECRET_ACCESS_KEY": "secret-wrong"}, "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    ("real", {"AWS_ACCESS_KEY_ID": "no-such-key"}, "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    ("forbidding", {}, "Access Denied; these credentials may not do that; they must list, get, put"),
    ("dead", {}, "is the server up, and --endpoint-url or AWS_ENDPOINT_URL right?"),
    ("silent", {}, "is the server up, and --endpoint-url or AWS_ENDPOINT_URL right?"),
]


@pytest.mark.parametrize(("server", "keys", "said"), PLACES)
def test_an_s3_place_out_of_reach_is_named_with_what_to_do(refused, servers, monkeypatch, server, keys, said):
    for name, value in {**KEYS, **keys}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "READ_SECONDS", 2.0)
    monkeypatch.setattr(write_checks, "CHECK_SECONDS", 1.0)
    s3fs.S3FileSystem.clear_instance_cache()
    began = time.monotonic()
    line = refused("--save-directory", "s3://bucket/run", "--endpoint-url", servers[server])
    assert time.monotonic() - began < 15
    assert line.startswith("error: cannot write s3://bucket/run/")
    assert said in line
    assert "secret-" not in line


def test_a_missing_bucket_is_named(refused, servers, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    line = refused("--save-directory", "s3://no-bucket/run", "--endpoint-url", servers["real"])
    assert line.endswith("does not exist; create the bucket, or check the path and --endpoint-url")


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("--endpoint-url", "http://user:hidden@127.0.0.1:9000"),
        ("--endpoint-url", "http://127.0.0.1:9000?X-Amz-Signature=hidden"),
        ("--endpoint-url", "127.0.0.1:9000"),
        ("--save-directory", "s3://user:hidden@bucket/run"),
        ("--data", "s3://user:hidden@bucket/rows.json"),
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(refused, flag, given):
    line = refused(flag, given)
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in line
    assert "hidden" not in line
    pattern = MCAligned.model_json_schema()["properties"]["endpoint_url"]["pattern"]
    assert flag != "--endpoint-url" or not re.match(pattern, given)


@pytest.fixture
def narrow(tmp_path) -> list[str]:
    """A model of 16 positions with 6 new tokens, and prompts of 3, 40 and 10 tokens."""
    folder = causal(tmp_path / "narrow", "llama", positions=16)
    texts = ["abc", "abcd" * 10, "fedcbafedc"]
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in texts]))
    return ["--basemodel", folder, "--data", "p.json", "--max-new-tokens", "6"]


def test_a_too_long_prompt_is_never_cut_silently(refused, narrow):
    line = refused("--value", "perplexity", *narrow)
    assert "prompt 1 has 40 tokens, " in line
    assert "has room for 10 beside 6 new ones; 1 such in all" in line


@pytest.mark.parametrize("block", [1, 2, 10_000])
def test_a_too_long_prompt_is_skipped_or_cut_as_asked(narrow, tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keys, "BLOCK", block)
    plain = ["--value", "perplexity", *narrow, "--on-long-prompt"]
    skipping = prepare(command_line(MCAligned, [*plain, "skip"]))
    assert (skipping.n_prompts, skipping.skipped, skipping.truncated) == (2, {1: "too long"}, ())
    cutting = prepare(command_line(MCAligned, [*plain, "truncate"]))
    assert (cutting.n_prompts, cutting.skipped, cutting.truncated) == (3, {}, (1,))


def test_a_reward_model_that_does_not_load_is_named_before_anything_is_drawn(refused, tmp_path):
    folder = Path(causal(tmp_path / "headless", "llama"))
    line = refused("--value", f"tone={folder}")
    assert f"value 'tone': model '{folder}' lacks weights: score.weight" in line
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert f"value 'tone': model '{folder}' does not load: " in refused("--value", f"tone={folder}")


def test_what_was_saved_stays(refused, tmp_path):
    saved = tmp_path / "results" / "demo-demo_lam=-0.500_val=humor.json"
    saved.parent.mkdir()
    saved.write_text("[]")
    refused("--value", "wit")
    refused("--start", "9999")
    assert saved.read_text() == "[]"


def test_unsupported_data_is_a_value_error():
    with pytest.raises(ValueError, match="supported are demo, Anthropic-harmless, Imdb"):
        prompts.check_name("Wikipedia")
    from gendata import TextGeneration

    with pytest.raises(ValueError, match="unknown data 'Wikipedia'"):
        TextGeneration("demo", "Wikipedia")


@pytest.mark.parametrize("flow", ["original", "mc_aligned", "score", "sweep", "palette"])
def test_help_loads_neither_prefect_nor_torch(flow):
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "import runpy\n"
        f"try: runpy.run_path('flows/{flow}.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = ('prefect', 'torch', 'transformers', 'datasets', 'scipy', 'openai')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [os.sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]")
    assert "--save-directory DIRECTORY" in done.stdout
    assert flow == "score" or "--on-long-prompt error|skip|truncate" in done.stdout
