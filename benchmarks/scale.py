"""How a run grows: the toy engine at 10,000, 100,000 and 1,000,000 prompts × 16, through flow and server.

python benchmarks/scale.py                          (long; --prompts 10000 100000 takes minutes)
python benchmarks/scale.py --records 20000 800000   (gen/score on files of so many records instead)

Every size has a Prefect server, a database and a folder of its own. The toy engine costs next to nothing, so
what is measured is all the rest: prompts, tasks, tables, tilt, merge. Memory is the peak of resident bytes.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
VALUE = "def brevity(prompts, completions):\n    return [-len(y) for y in completions]\n"


def serve(home: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """A Prefect server with an empty database, once it answers, and the environment of its runs."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    url = f"http://127.0.0.1:{port}/api"
    env = {**kept, "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "HF_HUB_OFFLINE": "1"}
    command = [str(Path(sys.executable).parent / "prefect"), "server", "start", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=ROOT, env=env, **quiet)
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5)
            return server, env
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the Prefect server did not start")


def resident(process: psutil.Process) -> int:
    """Bytes of a process and its children."""
    try:
        return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def watched(command: list[str], env: dict[str, str], server: psutil.Process) -> tuple[float, float, float]:
    """Seconds of a run, and the peak GiB of it and of the server."""
    began, flow_peak, server_peak = time.perf_counter(), 0, 0
    run = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    flow = psutil.Process(run.pid)
    while run.poll() is None:
        flow_peak, server_peak = max(flow_peak, resident(flow)), max(server_peak, resident(server))
        time.sleep(0.5)
    if run.returncode:
        raise SystemExit(f"the run failed with exit code {run.returncode}")
    return time.perf_counter() - began, flow_peak / 2**30, server_peak / 2**30


def run(folder: Path, flow: str, *arguments: str) -> tuple[float, float, float]:
    """A flow in an empty folder with a server of its own: see watched."""
    (folder / "short.py").write_text(VALUE)
    server, env = serve(folder / "home")
    given = [*arguments, "--value", f"{folder}/short.py:brevity", "--save-directory", str(folder / "out")]
    try:
        command = [sys.executable, str(ROOT / "flows" / flow), *given]
        return watched(command, env, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait()


def drawn(count: int, folder: Path) -> dict[str, float]:
    """A run of `count` prompts."""
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"Prompt number {i:07d} asks for more\n" for i in range(count)))
    tilt = ["--lam", "0.5", "--nsamples", "16", "--basemodel", "toy", "--data", str(prompts)]
    seconds, flow, served = run(folder, "mc_aligned.py", *tilt)
    manifest = json.loads(next((folder / "out").glob("*/manifest.json")).read_text())
    shards = manifest["summary"]["shards"]
    database = sum(f.stat().st_size for f in (folder / "home").glob("*.db*"))
    return {
        "prompts": count,
        "seconds": round(seconds, 1),
        "ms per prompt": round(1e3 * seconds / count, 3),
        "shards": shards,
        "seconds per shard": round(seconds / shards, 3),
        "flow GiB": round(flow, 2),
        "server GiB": round(served, 2),
        "database MB": round(database / 1e6, 1),
    }


def scored(count: int, folder: Path) -> dict[str, float]:
    """Values for a file of `count` records, 16 per prompt."""
    file = folder / "records.jsonl"
    with file.open("w") as f:
        for i in range(count):
            prompt = f"Prompt number {i // 16}"
            f.write(
                json.dumps({"prompt": prompt, "generated": f"{prompt} asks for {'more ' * 20}{i}"}) + "\n"
            )
    seconds, flow, _ = run(folder, "score.py", "--file", str(file))
    return {
        "records": count,
        "MB": round(file.stat().st_size / 1e6),
        "seconds": round(seconds, 1),
        "flow GiB": round(flow, 2),
    }


def main() -> None:
    """Measure every size and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--records", type=int, nargs="+")
    asked = parser.parse_args()
    measure, counts = (scored, asked.records) if asked.records else (drawn, asked.prompts)
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measure(count, Path(name))), flush=True)


if __name__ == "__main__":
    main()
