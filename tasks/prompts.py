"""Load prompts: check the whole configuration, put the prompts into the pool, shard by shard."""

from typing import Any

from exptilt.config.settings import Config
from exptilt.planning.plan import Plan, prepare
from tasks.runtime.cluster import planned
from tasks.runtime.task import step


def _load_prompts(config: Config, plan: Plan | None) -> Plan:
    """Check the configuration, read the prompts and put them into the pool, shard by shard."""
    return plan or planned(prepare, config)


load_prompts: Any = step(_load_prompts, "load prompts {config.data}")
