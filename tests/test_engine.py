"""The transformers engine draws exactly from the model's own law, whatever shares the batch."""

import itertools
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import causal
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from exptilt.engines.base import P0
from exptilt.engines.huggingface.decoding import unfinished
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.toy import truncate
from exptilt.errors import ModelError
from exptilt.models import reference
from exptilt.models.likelihood import text_nll
from exptilt.storage import keys

LEVEL = 1e-4
KINDS = ["gpt2", "llama", "opt", "bloom"]  # the last attends by its distance: its rows keep whole caches


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp(request.param) / "letters", request.param)


def p0(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=reference.checkpoint(folder), ends=(0,), **{**settings, **changes})


def draw(law: P0, prompts: list[str], n: int, rows: int = 0):
    return engine_of(law).draw(prompts, keys.seeds_for(0, prompts, 0, n), rows)


@cache
def engine_of(law: P0) -> TransformersEngine:
    return TransformersEngine(law, "cpu")


def law_of(law: P0, prompt: str) -> dict[tuple[int, ...], float]:
    """Probability of every token sequence of max_new_tokens or up to the end, by enumeration."""
    model = AutoModelForCausalLM.from_pretrained(law.model.source).eval()
    start = AutoTokenizer.from_pretrained(law.model.source)(prompt)["input_ids"]
    found, open_ends = {}, {(): 0.0}
    for _ in range(law.max_new_tokens):
        following = {}
        for path, logp in open_ends.items():
            with torch.no_grad():
                logits = model(torch.tensor([[*start, *path]])).logits[0, -1].double().numpy()
            for token, step in enumerate(truncate(logits, law)):
                if np.isfinite(step):
                    (found if token == 0 else following)[(*path, token)] = logp + step
        open_ends = following
    return {path: float(np.exp(logp)) for path, logp in {**found, **open_ends}.items()}


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.6, "top_k": 4}, {"top_p": 0.8}])
def test_samples_follow_the_enumerated_law_of_the_model(folder, changes):
    law, n = p0(folder, max_new_tokens=3, **changes), 20_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    samples = draw(law, ["abc"], n, 5000)[0]
    seen = Counter(
        (*tokenizer(s.completion)["input_ids"], *([0] if s.finish_reason == "stop" else [])) for s in samples
    )
    exact = law_of(law, "abc")
    assert sum(exact.values()) == pytest.approx(1)
    assert set(seen) <= set(exact)
    common = [path for path, q in exact.items() if q * n >= 5]
    expected = [exact[path] * n for path in common]
    counts = [seen[path] for path in common]
    rest = n - sum(expected)
    if rest > 1:
        counts, expected = [*counts, n - sum(counts)], [*expected, rest]
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > LEVEL
    for sample in samples[:200]:
        path = (*tokenizer(sample.completion)["input_ids"], *([0] if sample.finish_reason == "stop" else []))
        assert np.exp(sample.logprob) == pytest.approx(exact[path], rel=1e-4)


PROMPTS = ["a", "abcdef", "fed cab ace", "bb", "d e f a b c d e f", "cafe"]


def test_batch_layout_changes_no_draw(folder):
    """Left padding, batch size and neighbours may move only the last bits of a logit."""
    law = p0(folder)
    alone = [draw(law, [prompt], 16)[0] for prompt in PROMPTS]
    for rows in (16, 48, 1000):
        together = draw(law, PROMPTS, 16, rows)
        for one, other in zip(itertools.chain(*alone), itertools.chain(*together), strict=True):
            assert (one.completion, one.finish_reason) == (other.completion, other.finish_reason)
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            assert one.nll == pytest.approx(other.nll, abs=1e-4)


def test_more_samples_extend_fewer(folder):
    many, few = draw(p0(folder), PROMPTS, 12), draw(p0(folder), PROMPTS, 5)
    assert [[s.completion for s in row[:5]] for row in many] == [[s.completion for s in row] for row in few]


def test_logprob_and_nll_equal_the_teacher_forced_ones(folder):
    law = p0(folder, max_new_tokens=40)
    engine = TransformersEngine(law, "cpu")
    samples = draw(law, PROMPTS, 8)
    for prompt, row in zip(PROMPTS, samples, strict=True):
        for sample in row:
            text = prompt + sample.completion
            assert sample.nll == pytest.approx(forced_nll(engine, text), abs=1e-4)
            ended = [0] if sample.finish_reason == "stop" else []
            assert sample.logprob == pytest.approx(forced_logprob(engine, prompt, text, ended), abs=1e-4)


def forced(engine: TransformersEngine, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return engine.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def forced_nll(engine: TransformersEngine, text: str) -> float:
    ids = engine.tokenizer(text)["input_ids"]
    logp = forced(engine, ids)
    return -float(np.mean([logp[i, t] for i, t in enumerate(ids[1:])]))


def forced_logprob(engine: TransformersEngine, prompt: str, text: str, ended: list[int]) -> float:
    start, ids = engine.tokenizer(prompt)["input_ids"], engine.tokenizer(text)["input_ids"] + ended
    logp = forced(engine, ids)
    return float(sum(logp[i - 1, ids[i]] for i in range(len(start), len(ids))))


def test_nll_of_a_batch_is_that_of_each_text_alone(folder):
    engine = TransformersEngine(p0(folder), "cpu")
    texts = [*PROMPTS, "a" * 60]
    together = [own.nll for own in text_nll(engine.model, engine.tokenizer, texts, "cpu")]
    assert together[0] is None
    for text, nll in zip(texts[1:], together[1:], strict=True):
        assert nll == pytest.approx(forced_nll(engine, text), abs=1e-4)


def test_a_checkpoint_without_all_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = causal(tmp_path / "holes", "gpt2")
    file = tmp_path / "holes" / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"base model .* lacks weights: transformer\.h\.1\.mlp\.c_fc"):
        TransformersEngine(p0(folder), "cpu")


def test_prompts_are_shared_where_attention_is_the_plain_one(folder):
    """Else the shared path would never be tried above, or the copies."""
    way = TransformersEngine(p0(folder), "cpu").way
    assert way == ("copied" if Path(folder).parent.name.startswith("bloom") else "shared")


def test_a_batch_is_halved_when_memory_runs_out(tmp_path):
    """In a process that may take no more than it has, half of the rows are drawn at once, and the same."""
    script = """
import resource, sys
from functools import cache
from pathlib import Path
from test_engine import TransformersEngine, causal, keys, p0
engine = TransformersEngine(p0(causal(Path(sys.argv[1]), "gpt2"), max_new_tokens=20), "cpu")
prompts, seeds = ["abc", "fade"], keys.seeds_for(0, ["abc", "fade"], 0, 3000)
before = engine.draw(prompts, seeds, 500)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size, size))
after = engine.draw(prompts, seeds, 6000)
texts = [[[sample.completion for sample in row] for row in drawn] for drawn in (before, after)]
print(engine.most < 6000, texts[0] == texts[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "letters")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_rows_that_have_ended_are_dropped_once_they_are_a_quarter():
    ended = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]], dtype=torch.bool)
    prompts, rows = unfinished(ended)
    assert prompts.tolist() == [1, 2]
    assert rows.tolist() == [4, 5, 8, 9]
    assert unfinished(ended[1:2, :3])[1].tolist() == [0, 1]
    assert unfinished(torch.tensor([[1, 0, 0, 0, 0]], dtype=torch.bool))[1].tolist() == [0, 1, 2, 3, 4]
    assert len(unfinished(torch.ones(2, 3, dtype=torch.bool))[1]) == 0
