"""The Prefect server as a site runs it: with a password, and on PostgreSQL where one is installed."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import free_port, listens, prefect_server, run_flow, wait_until
from test_flows import toy

PASSWORD = "recognisable-password-0123456789"


def tool(name: str) -> str | None:
    """A program of PostgreSQL, which Debian keeps off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A cluster on loopback that lasts as long as the block; its URL. It must not run as root."""
    initdb, postgres = tool("initdb"), tool("postgres")
    if not initdb or not postgres:
        pytest.skip("no PostgreSQL is installed")
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = ("postgres" if "postgres" in known else "nobody") if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        data, port = f"{folder}/data", free_port()
        owned = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([initdb, "-D", data, "-U", "exptilt", "-A", "trust", "-N"], check=True, **owned)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-F"]
        with subprocess.Popen([postgres, "-D", data, "-p", str(port), *options], **owned) as running:
            try:
                wait_until(lambda: listens(port))
                yield f"postgresql+asyncpg://exptilt@127.0.0.1:{port}/postgres"
            finally:
                running.kill()


@pytest.mark.soak
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_server_with_a_password_runs_a_flow_and_the_password_is_written_nowhere(
    database, tmp_path, rewards_file
):
    home = tmp_path / "home"
    home.mkdir()
    arguments = toy(f"{rewards_file}:bees")
    with contextlib.ExitStack() as stack:
        settings = {"PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}"}
        if database == "postgresql":
            settings["PREFECT_API_DATABASE_CONNECTION_URL"] = stack.enter_context(postgresql())
        env = stack.enter_context(prefect_server(home, **settings))
        refused = run_flow(*arguments, env=env, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "refuses us: PREFECT_API_AUTH_STRING" in refused.stderr
        done = run_flow(*arguments, env={**env, "PREFECT_API_AUTH_STRING": f"admin:{PASSWORD}"}, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tasks = f"{env['PREFECT_API_URL']}/task_runs/filter"
        assert httpx.post(tasks, json={}).status_code == 401
        states = [run["state_type"] for run in httpx.post(tasks, json={}, auth=("admin", PASSWORD)).json()]
        assert len(states) > 20
        assert set(states) == {"COMPLETED"}
    assert (home / "prefect.db").exists() == (database == "sqlite")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in done.stdout + done.stderr + refused.stdout + refused.stderr
