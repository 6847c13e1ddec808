"""A run without a server starts one: named by Prefect's settings for the run alone, gone with its process."""

import subprocess
import sys

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import ROOT, listens, wait_until

from exptilt.errors import ConfigError
from tasks.runtime.server import server
from tasks.runtime.server_process import start

CODE = """
import os
from prefect.settings import get_current_settings
from tasks.runtime.server import server

environment = dict(os.environ)
with server() as first_answers:
    first = get_current_settings().api.url
    with server():
        assert get_current_settings().api.url == first
    first_answers()
assert get_current_settings().api.url is None
with server():
    assert get_current_settings().api.url not in (None, first)
assert dict(os.environ) == environment
print(first)
"""


@pytest.mark.soak
def test_two_servers_of_one_process_are_two_and_the_environment_stays(clean):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=clean, cwd=ROOT, capture_output=True, text=True, check=True
    )
    port = int(done.stdout.strip().removesuffix("/api").rpartition(":")[2])
    wait_until(lambda: not listens(port), seconds=20)


def test_a_server_that_boots_gives_way_to_one_that_is_configured():
    booting = start()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), pytest.raises(ConfigError):
        server(booting).__enter__()
    assert booting.process.poll() is not None
