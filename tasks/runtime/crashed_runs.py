"""Runs whose process was killed (kill -9, a power cut): the next run finds them and sets them Crashed.

Every run writes its process on the server, as a label. A run of another machine is left alone: the next run
there sets it Crashed, or the heartbeat automation of deployments/README.md.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.states import Crashed

from exptilt.storage import process_identity

LABEL = "exptilt.storage.process_identity"
MESSAGE = "its process died; finished shards are saved, run it again to go on"


def sign_and_end_dead_runs(tag: str) -> None:
    """Label this flow run with its process, and set those Crashed whose process has died.

    A server that does not answer costs the record, never the run.

    Args:
        tag: of the flow runs to look at.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.update_flow_run_labels(context.flow_run.id, {LABEL: json.dumps(process_identity.me())})
        for run in _running(client, tag):
            if _is_dead(run):
                client.set_flow_run_state(run["id"], Crashed(message=MESSAGE), force=True)


def _running(client: SyncPrefectClient, tag: str) -> Iterator[dict[str, Any]]:
    query = {
        "flow_runs": {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}},
        "sort": "START_TIME_DESC",
    }
    yield from client.request("POST", "/flow_runs/filter", json=query).json()


def _is_dead(run: dict[str, Any]) -> bool:
    try:
        return process_identity.is_dead(json.loads(run["labels"][LABEL]))
    except (KeyError, TypeError, ValueError):
        return False
