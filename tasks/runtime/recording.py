"""What the Prefect server has recorded of this process's task runs."""

import contextlib
import time
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TERMINAL_STATES

RECORD_SECONDS = 20.0
started: set[UUID] = set()  # the task runs of this process, and those that it had workers do


def wait_until_recorded(flow_run_id: UUID) -> bool:
    """Wait until the server has recorded the last task states, which reach it as events; whether it has.

    A server that does not answer costs the record, never the run.
    """
    query = {
        "flow_runs": {"id": {"any_": [str(flow_run_id)]}},
        "task_runs": {"state": {"type": {"any_": [kind.value for kind in TERMINAL_STATES]}}},
    }
    deadline = time.monotonic() + RECORD_SECONDS
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if client.request("POST", "/task_runs/count", json=query).json() >= len(started):
                return True
            time.sleep(0.2)
    return False
