"""The tokenizers of the demo models, as `tokenizer.json` files of the fast format."""

import re
from collections import Counter

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import Metaspace, Punctuation

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
END_OF_TEXT = "<|endoftext|>"
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ASCII = [chr(code) for code in range(33, 127) if not chr(code).isupper()]


def seq2seq_tokenizer(texts, vocab_size, boundary=None):
    """A lower-casing BPE with `▁` for spaces and `</s>` at the end, as T5's.

    Where `boundary` is given, the texts mark with it the places that no merge may cross.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    split = [Metaspace(replacement="▁", prepend_scheme="always"), Punctuation()]
    marked = [pre_tokenizers.Split(boundary, "removed")] if boundary else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split[:1] + marked + split[1:])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS, UNK],
        initial_alphabet=ASCII + ["▁"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    end = (EOS, tokenizer.token_to_id(EOS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[end]
    )
    return tokenizer


def story_tokenizer(texts, vocab_size):
    """A byte-level BPE as GPT-2's, with one special token for both ends of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bert_tokenizer(texts, starts, ends, size):
    """A lower-casing WordPiece as BERT's.

    Its vocabulary: every character alone and as a continuation, the halves of names, a few
    endings, and then the most frequent words of the texts that are not two halves of a name.
    """
    counts = Counter(word for text in texts for word in re.findall("[a-z]+", text))
    pieces = [*BERT_SPECIAL, *ASCII, *("##" + letter for letter in ASCII if letter.isalnum())]
    pieces += [*starts, *("##" + end for end in [*ends, "s", "ed", "ing", "ly", "er", "est", "en", "or", "an"])]
    made = {start + end for start in starts for end in ends}
    common = [word for word in counts if counts[word] >= 20 and word not in made]
    words = sorted(common, key=lambda word: (-counts[word], word))
    pieces = list(dict.fromkeys([*pieces, *words]))[:size]
    vocab = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(BERT_SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    special = [(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return tokenizer


def check_round_trips(tokenizer, texts):
    """Every text must come back from its ids exactly."""
    for text in texts:
        back = tokenizer.decode(tokenizer.encode(text).ids)
        if back != text:
            raise ValueError(f"the tokenizer turns {text!r} into {back!r}")
