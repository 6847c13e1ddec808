"""One Prefect task per step. Settings that a run needs are made here, before Prefect loads.

Each is a default: a value in the environment wins. The recorder's batches let a server on SQLite keep
up with hundreds of tasks; without them finished tasks stay Running in its database.
"""

import os

from exptilt.process_setup import set_up

set_up()
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}.items():
    os.environ.setdefault(_name, _value)
