"""Small random reward models of the catalogue's very classes, each with a tokenizer of its kind.

Vocabularies of words and of scored pieces are written out: the trainers number what is equally frequent in
another order in every process, and so would give every process another model.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

CORPUS = [
    "the room was fine and the goose paid for the towels",
    "Ärger im Café: 100 % naïve!",
    "\n\nHuman: why?",
]
SIGNS = "!%01:?acdefghilmnoprstuvwy"
WORDS = "the room was fine and goose paid for towels arger im cafe 100 naive human why".split()
PIECES = ["▁t", "▁f", "▁w", "oo", "an", *"▁\n!%01:?CHacdefghilmnoprstuvwyÄéï"]
KINDS = ["distilbert", "bert", "roberta", "deberta", "gpt2", "gpt2 without pad", "llama"]
POSITIONS = 64


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's kind: lower case, [CLS] … [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*special, *SIGNS, *(f"##{sign}" for sign in SIGNS), *WORDS]
    inner = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=POSITIONS, **names)


def byte_level(roberta: bool, pad: bool = True) -> PreTrainedTokenizerFast:
    """GPT-2's kind, or RoBERTa's with <s> … </s> and the padding token at 1."""
    special = ["<s>", "<pad>", "</s>"] if roberta else ["<|endoftext|>", "<|pad|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    inner.train_from_iterator(CORPUS, trainer)
    if not roberta:
        names = {"eos_token": special[0], **({"pad_token": special[1]} if pad else {})}
        return PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, sep_token="</s>", **names)


def unigram(deberta: bool) -> PreTrainedTokenizerFast:
    """SentencePiece's kind: DeBERTa's with [CLS] … [SEP], or Llama's with a leading <s>."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"] if deberta else ["<unk>", "<s>", "</s>"]
    unknown = special.index("[UNK]" if deberta else "<unk>")
    scores = [(name, 0.0) for name in special] + [(piece, -3.0) for piece in PIECES]
    inner = Tokenizer(models.Unigram(scores, unk_id=unknown))
    inner.add_special_tokens(special)
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    if deberta:
        inner.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


ENCODER = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}


def build(kind: str, folder: Path, labels: int = 2) -> str:
    """Save a random model of `kind` and its tokenizer in `folder`."""
    torch.manual_seed(0)
    tokenizer, model = MAKERS[kind](labels)
    for name, weight in model.named_parameters():  # far from zero, so that mistakes show
        if weight.dim() > 1 and "orm" not in name:
            weight.data.mul_(15 if kind != "distilbert" else 60)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _bert(labels: int):
    tokenizer = wordpiece()
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS}
    return tokenizer, BertForSequenceClassification(BertConfig(num_labels=labels, **size, **ENCODER))


def _distilbert(labels: int):
    tokenizer = wordpiece()
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        num_labels=labels,
    )
    return tokenizer, DistilBertForSequenceClassification(config)


def _roberta(labels: int):
    tokenizer = byte_level(roberta=True)
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1}
    return tokenizer, RobertaForSequenceClassification(RobertaConfig(num_labels=labels, **size, **ENCODER))


def _deberta(labels: int):
    tokenizer = unigram(deberta=True)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        share_att_key=True,
        num_labels=labels,
        **ENCODER,
    )
    return tokenizer, DebertaV2ForSequenceClassification(config)


def _gpt2(labels: int, pad: bool = True):
    tokenizer = byte_level(roberta=False, pad=pad)
    config = GPT2Config(
        vocab_size=320,
        n_positions=POSITIONS,
        n_embd=32,
        n_layer=2,
        n_head=2,
        num_labels=labels,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1 if pad else None,
    )
    return tokenizer, GPT2ForSequenceClassification(config)


def _llama(labels: int):
    tokenizer = unigram(deberta=False)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        num_key_value_heads=1,
        num_labels=labels,
        **ENCODER,
    )
    return tokenizer, LlamaForSequenceClassification(config)


def embedder(folder: Path) -> str:
    """A random BERT encoder with a pooler, as SimCSE's."""
    torch.manual_seed(1)
    tokenizer = wordpiece()
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS}
    BertModel(BertConfig(**size, **ENCODER)).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


MAKERS = {
    "distilbert": _distilbert,
    "bert": _bert,
    "roberta": _roberta,
    "deberta": _deberta,
    "gpt2": _gpt2,
    "gpt2 without pad": lambda labels: _gpt2(labels, pad=False),
    "llama": _llama,
}
