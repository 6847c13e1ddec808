"""A run without a server starts one: named by Prefect's settings for the run alone, gone with its process."""

import subprocess
import sys

from processes import ROOT, listens, wait_until

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


def test_two_servers_of_one_process_are_two_and_the_environment_stays(clean):
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=clean, cwd=ROOT, capture_output=True, text=True, check=True
    )
    port = int(done.stdout.strip().removesuffix("/api").rpartition(":")[2])
    wait_until(lambda: not listens(port), seconds=20)
