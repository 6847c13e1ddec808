"""What a whole run costs: the steps alone, the same through Prefect, and after a kill -9 half way.

python benchmarks/end_to_end.py --data prompts.json      (a file with a `prompt` column; demo without)

Every run has a folder and a process of its own; they share a Prefect home whose database exists, as a
user's does after the first run (making it takes 6 s, once). Prefect's share is 1 - (steps alone) /
(through Prefect): of the processor's seconds, those of the run's own server among them, and of wall time
from start to exit, which swings with what else the machine does. Medians of --rounds.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
ALONE = """
import sys
from exptilt.config.command_line import command_line
from exptilt.config.settings import MCAligned
from exptilt.planning.plan import prepare
from exptilt.local_run import run
run(prepare(command_line(MCAligned)))
"""


def arguments(data: str, folder: Path) -> list[str]:
    """The run that is measured."""
    tilt = ["--value", "humor,positive", "--lam", "1,0.5", "--nsamples", "16"]
    return [*tilt, "--data", data, "--save-directory", str(folder)]


def environment(home: Path) -> dict[str, str]:
    """This process's environment with a Prefect home of the benchmark's own, and no Hub."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def start(how: str, data: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a run, `alone` or through `prefect`."""
    what = ["-c", ALONE] if how == "alone" else [str(ROOT / "flows" / "mc_aligned.py")]
    env = environment(folder.parent / "home")
    folder.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, *what, *arguments(data, folder / "results")]
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def finish(running: subprocess.Popen[bytes], began: float) -> dict[str, float]:
    """Wall and processor seconds and peak resident GiB of a run, once it has ended well, and its server's."""
    server, run = 0.0, psutil.Process(running.pid)
    while not (ended := os.wait4(running.pid, os.WNOHANG))[0]:
        with suppress(psutil.Error):
            server = max(server, sum(sum(p.cpu_times()[:2]) for p in run.children(recursive=True)))
        time.sleep(0.1)
    _, status, usage = ended
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"a run failed with exit code {running.returncode}")
    return {
        "seconds": time.perf_counter() - began,
        "processor": usage.ru_utime + usage.ru_stime,
        "server": server,
        "GiB": usage.ru_maxrss / 2**20,
    }


def measure(how: str, data: str, folder: Path) -> dict[str, float]:
    """One run in an empty folder."""
    began = time.perf_counter()
    found = finish(start(how, data, folder), began)
    summary = read(folder)["summary"]
    rate = summary["tokens"] / summary["generate_seconds"]
    return {**found, "tokens": summary["tokens"], "tokens/s": rate}


def read(folder: Path) -> dict:
    """The manifest of the run in `folder`."""
    return json.loads(next((folder / "results").glob("*/manifest.json")).read_text())


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every table that the run wrote."""
    return {name: file["sha256"] for name, file in read(folder)["files"].items()}


def interrupted(data: str, folder: Path, whole: float) -> dict[str, float]:
    """kill -9 half way, the same command again: what the second run had to compute."""
    running = start("prefect", data, folder)
    time.sleep(whole / 2)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    drawn = len(list((folder / "results" / "pool" / "samples").glob("*/*/manifest.json")))
    (folder / "log").rename(folder / "log of the first")
    began = time.perf_counter()
    again = start_again(data, folder)
    seconds = finish(again, began)["seconds"]
    reused = read(folder)["summary"]["reused"]["samples"]
    return {"drawn before": drawn, "reused after": reused, "seconds after": seconds}


def start_again(data: str, folder: Path) -> subprocess.Popen[bytes]:
    """The same run in the same folder."""
    moved = folder.rename(folder.with_name(folder.name + " before"))
    running = start("prefect", data, folder)
    (moved / "results").rename(folder / "results")
    return running


def share(rounds: dict[str, list[dict[str, float]]], of: Sequence[str]) -> str:
    """What Prefect takes of the sum of some seconds: by the medians, and by each round."""
    spent = {how: [sum(r[name] for name in of) for r in found] for how, found in rounds.items()}
    middle = {how: statistics.median(seconds) for how, seconds in spent.items()}
    each = sorted(1 - a / p for a, p in zip(spent["alone"], spent["prefect"], strict=True))
    return f"{1 - middle['alone'] / middle['prefect']:.1%} (rounds {each[0]:.1%} to {each[-1]:.1%})"


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    data = given.data if given.data == "demo" else str(Path(given.data).resolve())
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(make, env=environment(base / "home"), check=True, capture_output=True)
        rounds = {how: [] for how in ("alone", "prefect")}
        for i in range(given.rounds):
            for how, found in rounds.items():
                found.append(measure(how, data, base / f"{how} {i}"))
                print(how, json.dumps(found[-1]), flush=True)
        for what, of in (("processor time", ("processor", "server")), ("wall time", ("seconds",))):
            print(f"Prefect's share of the {what}: {share(rounds, of)}", flush=True)
        whole = statistics.median(r["seconds"] for r in rounds["prefect"])
        print(json.dumps(interrupted(data, base / "killed", whole)))
        same = hashes(base / "killed") == hashes(base / "prefect 0") == hashes(base / "alone 0")
        print(f"rows after the kill equal an uninterrupted run's: {same}")


if __name__ == "__main__":
    main()
