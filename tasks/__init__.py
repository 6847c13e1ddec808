"""One Prefect task per step. What must be set before Prefect and torch load is set here."""

import os

from exptilt.process_setup import set_up

set_up()
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect reads it as it loads, and has no setting for it
