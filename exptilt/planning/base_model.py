"""p0 of a run: the base model, what draws from it, its dtype, end tokens and chat template; and a sampler it
asks for instead."""

from dataclasses import replace

from exptilt.config.settings import Config
from exptilt.conversation import Template
from exptilt.engines import registry
from exptilt.engines.base import P0, Reasoning
from exptilt.errors import ConfigError, ModelError, StorageError
from exptilt.models import vllm_command
from exptilt.models.reference import HUGGINGFACE, ModelRef
from exptilt.models.vllm_command import VLLM
from exptilt.storage import filesystem
from exptilt.storage.findings import found
from exptilt.wording import counted


def p0_of(config: Config, device: str) -> P0:
    """What defines p0 in a run of `config` on `device`; ModelError where the base model cannot draw so."""
    vllm = vllm_command.find(config.vllm_command) if config.engine == VLLM else None
    model = _served_by_vllm(config.basemodel) if vllm else registry.base_model(config.basemodel)
    ends, named = _end_tokens(model)
    template = _template(config)
    return P0(
        model=model,
        dtype=registry.dtype_of(model, device, config.dtype),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        chat=registry.chat_digest(model, template) if config.chat else "",
        template=template,
        ends=ends,
        named_ends=named,
        stop=config.stop,
        vllm=vllm,
        reasoning=_reasoning(config, model),
    )


def _served_by_vllm(name: str) -> ModelRef:
    """The base model, to be drawn from by vLLM; an error where it is no checkpoint, or has adapters."""
    ref = registry.base_model(name)
    if ref.engine != HUGGINGFACE:
        raise ConfigError(f"--engine vllm serves a checkpoint, which {name} is not: leave it out")
    if ref.adapters:
        raise ModelError(
            f"--engine vllm: {name!r} is a base with {counted(len(ref.adapters), 'adapter')}, and exptilt "
            "serves only whole checkpoints: pass a merged one, or leave --engine out"
        )
    return replace(ref, engine=VLLM)


def _reasoning(config: Config, model: ModelRef) -> Reasoning:
    """What becomes of reasoning; ConfigError where nothing sets it apart."""
    if config.reasoning == "refuse":
        return ""
    if not registry.capabilities(model).separates_reasoning:
        raise ConfigError(
            f"--reasoning {config.reasoning}: only a server sets reasoning apart from the answer, "
            f"and {model.name} is none"
        )
    return config.reasoning


def _template(config: Config) -> Template:
    """How the run fills a chat template in; ConfigError where its file cannot be read."""
    if not config.chat_template:
        return Template("", config.options)
    try:
        return Template(filesystem.read_bytes(config.chat_template).decode(), config.options)
    except (StorageError, UnicodeDecodeError) as error:
        raise ConfigError(f"--chat-template {config.chat_template}: {error}") from error


def _end_tokens(model: ModelRef) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The base model's end tokens, as generation_config.end_tokens; ModelError where it continues no text."""
    if not registry.capabilities(model).has_checkpoint:
        return (), ()

    def find() -> list[list[int]]:
        from exptilt.models import generation_config, loading

        loading.check_causal(model)
        return [list(ids) for ids in generation_config.end_tokens(model)]

    ends, named = found("end tokens", model.identity, find)
    return tuple(ends), tuple(named)


def is_opened(model: ModelRef, texts: list[str]) -> bool:
    """Whether of the special tokens that the model's tokenizer puts around `texts` some are left out."""
    if not registry.capabilities(model).has_checkpoint:
        return False

    def find() -> bool:
        from exptilt.models.loading import load_tokenizer
        from exptilt.models.tokenization import are_opened

        return are_opened(load_tokenizer(model), texts)

    return found("opened", [model.identity, texts], find)


def other_sampler(p0: P0) -> str:
    """How the checkpoint's generation configuration would draw otherwise, in a few words; "" where it would
    not, or has none."""
    if not registry.capabilities(p0.model).has_checkpoint:
        return ""
    numbers = {"temperature": p0.temperature, "top_k": p0.top_k, "top_p": p0.top_p}
    used = {**numbers, "stop_strings": list(p0.stop)}

    def find() -> str:
        from exptilt.models.generation_config import unlike

        return unlike(p0.model, used)

    return found("other sampler", [p0.model.identity, used], find)
