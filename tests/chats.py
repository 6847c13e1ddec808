"""A small checkpoint with a chat template that writes the first token, which its tokenizer adds, too."""

from pathlib import Path

from checkpoints import causal, letters_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

TEMPLATE = "{{ bos_token }}fe {{ messages[0]['content'] }}{% if add_generation_prompt %} cab{% endif %}"


def by_hand(prompt: str) -> str:
    """What the template makes of a prompt."""
    return f"<e>fe {prompt} cab"


def chat_model(folder: Path, positions: int = 64) -> str:
    """The llama of checkpoints.causal, with a template."""
    causal(folder, "llama", positions)
    inner = letters_tokenizer()._tokenizer
    inner.post_processor = TemplateProcessing(single="<e> $A", special_tokens=[("<e>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", bos_token="<e>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)
