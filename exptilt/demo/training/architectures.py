"""The shapes of the demo's tokenizers and tiny models, before any training of the models."""

from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

END: Final = "<|end|>"
PAD: Final = "<|pad|>"
VOCABULARY: Final = 1536
CONTEXT: Final = 2048
REWARD_CONTEXT: Final = 512
_FAST: Final[Any] = PreTrainedTokenizerFast


def _bpe(texts: Iterable[str], special: list[str]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def lm_tokenizer(texts: Iterable[str]) -> Any:
    """Byte-level pairs over any text; no token is added before or after it."""
    return _FAST(
        tokenizer_object=_bpe(texts, [PAD, END]),
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def reward_tokenizer(texts: Iterable[str]) -> Any:
    """Byte-level pairs over any text, between [CLS] and [SEP]."""
    bpe = _bpe(texts, ["[PAD]", "[CLS]", "[SEP]"])
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", bpe.token_to_id("[CLS]")), ("[SEP]", bpe.token_to_id("[SEP]"))],
    )
    return _FAST(
        tokenizer_object=bpe,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=REWARD_CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def new_lm(tokenizer: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def new_reward(tokenizer: Any, names: dict[int, str]) -> Any:
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=REWARD_CONTEXT,
        dim=64,
        hidden_dim=128,
        n_layers=2,
        n_heads=4,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        id2label=names,
        label2id={name: i for i, name in names.items()},
        pad_token_id=tokenizer.pad_token_id,
    )
    return DistilBertForSequenceClassification(config)
