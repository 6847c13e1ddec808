"""Running a flow: its parameters from a configuration, its name, its threads."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

from prefect import Flow
from prefect.context import TagsContext
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, WithJsonSchema

from exptilt.config.validation import C, build
from exptilt.errors import ShardsFailed
from exptilt.run import Run
from exptilt.stages import claims
from tasks.runtime.artifacts import show_failures
from tasks.runtime.crashed_runs import sign_and_end_dead_runs
from tasks.runtime.shutdown import stopping_at_once

TAG = "exptilt"
GPUS = len(list(Path("/dev").glob("nvidia[0-9]*")))  # torch would take seconds to count them
WORKERS = 3 * max(GPUS, 1)  # enough to score a shard while the next is drawn; more slow each other down


def gen(model: type[C]) -> Callable[[Callable[[C, Any], Any]], Flow[..., Any]]:
    """Make a function of a configuration and its plan a flow named `gen` whose parameters are the settings.

    The fields' descriptions become the UI's form; the flow checks the settings as the command line does.
    Where it runs without `prepared`, as in a deployment, its body gets None for a plan and makes its own.
    """

    def decorate(body: Callable[[C, Any], Any]) -> Flow[..., Any]:
        @functools.wraps(body)
        def run(ready: tuple[C, Any] | None = None, /, **settings: Any) -> Any:
            config: Any
            config, plan = ready or (build(model, settings), None)
            own = plan.run if plan else Run(config.endpoint_url)  # the plan that the body makes begins in it
            with TagsContext(current_tags=set()), stopping_at_once(own):  # a task's tag asks for a slot
                sign_and_end_dead_runs(TAG)
                try:
                    with claims.at_work(own, config.save_directory):
                        return body(config, plan)
                except ShardsFailed as error:
                    show_failures(error)
                    raise
                finally:
                    own.end()

        run.__signature__ = _signature(model)  # type: ignore[attr-defined]
        run.__doc__ = _document(body, model)
        return _flow(run)

    return decorate


def prepared(flow: Flow[..., Any], config: BaseModel, plan: Any) -> Flow[..., Any]:
    """`flow`, its body given `config` and `plan` instead of making them from the settings."""

    @functools.wraps(flow.fn)
    def run(**_settings: Any) -> Any:
        return flow.fn((config, plan))

    return _flow(run)


def _flow(run: Callable[..., Any]) -> Flow[..., Any]:
    return Flow(
        run,
        name="gen",
        flow_run_name=_run_name,
        task_runner=cast(Any, ThreadPoolTaskRunner(max_workers=WORKERS)),
        persist_result=False,
        log_prints=False,
    )


def _signature(model: type[BaseModel]) -> inspect.Signature:
    """The fields as parameters that Prefect hands on as given, with their JSON schemas for its form."""
    schemas, fields = model.model_json_schema()["properties"], inspect.signature(model)
    parameters = fields.parameters.values()
    as_given = [p.replace(annotation=Annotated[Any, WithJsonSchema(schemas[p.name])]) for p in parameters]
    return fields.replace(parameters=as_given)


def _document(body: Callable[..., Any], model: type[BaseModel]) -> str:
    fields = model.model_fields.items()
    arguments = "\n".join(f"    {name}: {field.description}" for name, field in fields)
    return f"{inspect.getdoc(body)}\n\nArgs:\n{arguments}"


def _run_name() -> str:
    """What the run is, in the UI: demo demo λ=-0.5 humor n=50."""
    from prefect.runtime import flow_run

    given = flow_run.parameters
    words = [_last(given[name]) for name in (["file"] if given.get("file") else ["basemodel", "data"])]
    words += [f"λ={_listed_plainly(given['lam'])}"] if "lam" in given else []
    words += [_last(given["value"])] if given.get("value") else []
    words += [_listed_plainly(given["target"])] if given.get("target") else []
    return " ".join([*words, f"n={given['nsamples']}"] if "nsamples" in given else words)


def _last(given: Any) -> str:
    """What a person calls models, files or values: their own names, else the last parts of their paths."""
    written = (word.partition("=") for word in _listed_plainly(given).split(","))
    return ",".join(own if path else own.rstrip("/").rpartition("/")[2] for own, _, path in written)


def _listed_plainly(given: Any) -> str:
    if isinstance(given, dict):
        return ",".join(f"{name}={number}" for name, number in given.items())
    items = given if isinstance(given, (list, tuple)) else [given]
    return ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)
