"""The data set card: what the folder holds, how it was made, how to open it."""

import json
from typing import Any

from exptilt.models import reference
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import markdown_facts, markdown_verdict
from exptilt.rewards import together
from exptilt.storage.paths import is_local
from exptilt.wording import counted

ORDER: tuple[str, ...] = ("records", "weighted", "pairs", "pairs-chat", "sft", "sft-chat")
ORDER += ("prompts", "samples", "rewards", "draws", "refined", "levels", "diagnostics")
OF_ONE_MACHINE = ("save_directory", "endpoint_url")  # settings that say nothing elsewhere
SERVED = "as the server had it, its weights not known"
WHAT = {
    "records": "what was kept: prompt, completion, both as one text or as messages, and the numbers of each",
    "weighted": "every sample with log_weight = Σ λ r and its weight, normalised per prompt",
    "pairs": "per prompt the samples of largest and smallest log weight, margin = their difference",
    "pairs-chat": "the same as messages",
    "sft": "what was kept: prompt and completion",
    "sft-chat": "the same as messages",
    "prompts": "the prompts",
    "samples": "all completions y ~ p0(.|x)",
    "rewards": "one reward per sample and value",
    "draws": "which samples were kept, with their weights",
    "refined": "what each draw was moved to, no sample of p0: its rewards, and how many moves were accepted",
    "levels": "per prompt and value: mean over all samples, of those kept, weighted, and as n grows",
    "diagnostics": "per prompt: ESS, largest weight, Pareto k-hat, log Z and KL with errors, samples needed",
}


def render(manifest: dict[str, Any], summary: Summary, tables: list[str]) -> str:
    """The card as Markdown with YAML front matter that names every table as a configuration."""
    present = [table for table in ORDER if table in tables]
    return "\n".join(
        [
            _front_matter(present),
            f"# {summary.title.rpartition('/')[2]}",
            "",
            *markdown_verdict(summary),
            _sentence(manifest),
            "",
            *markdown_facts(summary),
            "",
            "## Tables",
            "",
            *(f"- `{table}`: {WHAT[table]}" for table in present),
            "",
            "```python",
            "import datasets",
            "",
            source(summary.folder),
            'kept = datasets.load_dataset(source, split="train")',
            'samples = datasets.load_dataset(source, "samples", split="train")',
            "```",
            "",
            "## Made with",
            "",
            *(f"- {k}: {v}" for k, v in manifest["made_with"].items() if v),
            *(f"- {r['value']}: {r['name']} ({_form(r)})" for r in manifest["rewards"]),
            *(f"- --{k.replace('_', '-')}: {_plain(v)}" for k, v in settings(manifest)),
            "",
            "Revisions, checksums and timings are in manifest.json.",
            "",
        ]
    )


def source(folder: str) -> str:
    """The line of the example that says where the data set lies: datasets reads folders and the Hub."""
    if not is_local(folder):
        return f"source = {json.dumps(folder.rpartition('/')[2])}  # a copy of {folder}"
    return f"source = {json.dumps(folder, ensure_ascii=False)}"


def settings(manifest: dict[str, Any]) -> list[tuple[str, Any]]:
    """The configuration without where things lay on one machine."""
    return [(k, v) for k, v in manifest["configuration"].items() if k not in OF_ONE_MACHINE]


def _constants(reward: dict[str, Any]) -> str:
    """An ensemble's rule, and its members with their constants."""
    members = [f"{m['value']} (mean {m['mean']:g}, sd {m['sd']:g})" for m in reward["members"]]
    rule = f"{reward['rule']}, k = {reward['k']:g}" if "k" in reward else reward["rule"]
    pool = f"; constants of {reward['pool']}" if "pool" in reward else ""
    return f"{rule}, of {', '.join(members)}{pool}"


def _form(reward: dict[str, Any]) -> str:
    """How a value sees a sample, a classifier's form or what kind it is; what it sees at once; and whether
    a server scored it."""
    if "members" in reward:
        return _constants(reward)
    seen = str(reward["form"] if reward["kind"] in ("classifier", "served") else reward["kind"])
    seen += f" of {together(reward['group'])}" if "group" in reward else ""
    seen = f"{seen}, {reward['transform']} answer" if reward["kind"] == "judge" else seen
    return f"{seen}, {SERVED}" if reward["revision"] == reference.SERVED else seen


def _front_matter(tables: list[str]) -> str:
    from huggingface_hub import DatasetCardData

    configs = [
        {
            "config_name": table,
            "data_files": f"{table}/{'*/*' if table == 'rewards' else '*'}.parquet",
            **({"default": True} if table == "records" else {}),
        }
        for table in tables
    ]
    return f"---\n{DatasetCardData(configs=configs, tags=['exptilt']).to_yaml()}\n---\n"


def _sentence(manifest: dict[str, Any]) -> str:
    p0, config = manifest["p0"], manifest["configuration"]
    base = _base(p0)
    if not manifest["rewards"]:
        return f"Completions y ~ p0(y|x) of {config['data']} prompts by {base}."
    return (
        f"Completions of {config['data']} prompts from p0(y|x) · exp(Σ λ r(x, y)), p0 being {base}, "
        f"resampled from {counted(config['nsamples'], 'sample')} per prompt{_moves(config)}."
    )


def _moves(config: dict[str, Any]) -> str:
    """What became of the draws after they were resampled."""
    moves = config.get("refine", 0)
    return f" and moved on by {counted(moves, 'move')} of suffix Metropolis–Hastings" if moves else ""


def _base(p0: dict[str, Any]) -> str:
    """The base model, as exactly as it is known."""
    if "revision" not in p0:
        return str(p0["name"])
    exact = f"revision {p0['revision']}, {p0['dtype']}" + (f", {p0['engine']}" if "engine" in p0 else "")
    if p0["device"] == reference.SERVED:
        exact = SERVED
    return f"{p0['name']} ({exact}{', prompts in its chat template' if 'chat' in p0 else ''})"


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
