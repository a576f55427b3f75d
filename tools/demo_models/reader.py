"""The reader: one BERT trunk for masked words, sentiment, entities and answers, trained together."""

import random

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

import export
import tokenization
import training
from grammar import news, questions, reviews

SEED = 61
EXAMPLES, HELD_OUT, MASKED_HELD_OUT = 100_000, 300, 200
STEPS, BATCH, PEAK = 4_500, 48, 1.5e-3
POSITIONS = 128
IGNORED = -100


def config(vocab_size, architecture, labels=None):
    """The configuration of the trunk with one head, as `config.json` has it."""
    settings = {
        "architectures": [architecture],
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 96,
        "initializer_range": 0.02,
        "intermediate_size": 256,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    if labels:
        settings["id2label"] = {str(at): label for at, label in enumerate(labels)}
        settings["label2id"] = {label: at for at, label in enumerate(labels)}
    return dict(sorted(settings.items()))


class Reader(nn.Module):
    """The masked language model, whose trunk the three other heads share."""

    def __init__(self, settings):
        super().__init__()
        settings = {key: value for key, value in settings.items() if key != "torch_dtype"}
        self.masked = BertForMaskedLM(BertConfig(**settings)).float()
        width = settings["hidden_size"]
        self.pooler = nn.Linear(width, width)
        self.sentiment = nn.Linear(width, len(reviews.LABELS))
        self.entities = nn.Linear(width, len(news.LABELS))
        self.answers = nn.Linear(width, 2)
        for layer in (self.pooler, self.sentiment, self.entities, self.answers):
            nn.init.normal_(layer.weight, std=settings["initializer_range"])
            nn.init.zeros_(layer.bias)

    def loss(self, reviewed, tagged, masked, asked):
        """The sum of the four losses; each part is (ids, labels), the last (ids, segments, starts, ends)."""
        cross_entropy = nn.functional.cross_entropy
        ids, labels = reviewed
        states = self.masked.bert(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        scores = self.sentiment(torch.tanh(self.pooler(states[:, 0])))
        total = cross_entropy(scores, labels)
        ids, labels = tagged
        states = self.masked.bert(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        total = total + cross_entropy(self.entities(states).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        ids, labels = masked
        states = self.masked.bert(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        hidden = labels != IGNORED
        total = total + cross_entropy(self.masked.cls(states[hidden]), labels[hidden])
        ids, segments, starts, ends = asked
        states = self.masked.bert(
            input_ids=ids, attention_mask=(ids != 0).long(), token_type_ids=segments
        ).last_hidden_state
        first, last = self.answers(states).masked_fill((ids == 0)[..., None], -1e4).unbind(-1)
        return total + (cross_entropy(first, starts) + cross_entropy(last, ends)) / 2


def tagged_ids(tokenizer, row):
    """The ids of a text and a label per piece.

    The first piece of a word has the word's label. Later pieces of an entity's word are inside the
    entity, so that a reader of every piece and a reader of first pieces see the same entities.
    """
    pieces = [tokenizer.encode(word, add_special_tokens=False).ids for word in row["words"]]
    ids, labels = [tokenizer.token_to_id("[CLS]")], [IGNORED]
    for word, label in zip(pieces, row["labels"]):
        inside = label.replace("B-", "I-")
        ids += word
        labels += [news.LABELS.index(label)] + [news.LABELS.index(inside)] * (len(word) - 1)
    ids.append(tokenizer.token_to_id("[SEP]"))
    if ids != tokenizer.encode(row["text"]).ids:
        raise ValueError(f"the words of {row['text']!r} are not its tokens")
    return ids, labels + [IGNORED]


def asked_ids(tokenizer, row):
    """The ids of a question with its text, their segments, and the answer's first and last piece."""
    encoding = tokenizer.encode(row["question"], row["context"])
    if len(encoding.ids) > POSITIONS:
        raise ValueError(f"{row['context']!r} is longer than {POSITIONS} tokens")
    end = row["start"] + len(row["answer"])
    inside = [
        at
        for at, (part, (first, last)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True))
        if part == 1 and first >= row["start"] and last <= end
    ]
    return encoding.ids, encoding.type_ids, inside[0], inside[-1]


def mask(rng, ids, mask_id, vocab_size):
    """BERT's corruption: 15 % of the pieces, of which 80 % masked, 10 % random, 10 % kept."""
    inner = list(range(1, len(ids) - 1))
    chosen = rng.sample(inner, max(1, round(0.15 * len(inner))))
    corrupted, labels = list(ids), [IGNORED] * len(ids)
    for at in chosen:
        labels[at] = ids[at]
        roll = rng.random()
        if roll < 0.8:
            corrupted[at] = mask_id
        elif roll < 0.9:
            corrupted[at] = rng.randrange(len(tokenization.BERT_SPECIAL), vocab_size)
    return corrupted, labels


def masked_rows(rng, tokenizer, texts):
    """Texts with one word of one piece masked, as {"text", "token"}."""
    rows = []
    for text in texts:
        encoding = tokenizer.encode(text)
        starts = [a for a, _ in encoding.offsets]
        whole = [
            at
            for at, (piece, (start, end)) in enumerate(zip(encoding.tokens, encoding.offsets, strict=True))
            if piece.isalpha()
            and end > start
            and (at + 1 == len(starts) or not encoding.tokens[at + 1].startswith("##"))
        ]
        at = rng.choice(whole)
        start, end = encoding.offsets[at]
        rows.append({"text": text[:start] + "[MASK]" + text[end:], "token": encoding.tokens[at]})
    return rows


def write_head(folder, settings, state, held_out):
    """A folder that holds only what a head adds to the trunk."""
    folder = export.fresh(folder)
    export.write_json(folder / "config.json", settings)
    export.write_lines(folder / "held_out.jsonl", held_out)
    export.write_weights(folder / "model.safetensors", state, set())


def build(folder, steps=STEPS):
    """Trains and writes the trunk and its heads; returns the seconds taken."""
    training.start(SEED)
    rng = random.Random(SEED)
    opinions = reviews.reviews(SEED, EXAMPLES, held_out=False)
    reports = news.examples(SEED, EXAMPLES, held_out=False)
    held_opinions = reviews.reviews(SEED + 1, HELD_OUT, held_out=True)
    held_reports = news.examples(SEED + 1, HELD_OUT, held_out=True)
    posed = questions.examples(SEED, EXAMPLES, held_out=False)
    held_questions = questions.examples(SEED + 1, HELD_OUT, held_out=True)
    texts = [row["text"] for row in opinions[:30_000] + reports[:30_000]]
    texts += [row["question"] for row in posed[:30_000]]
    tokenizer = tokenization.bert_tokenizer(texts, news.STARTS, news.ENDS + news.TOWN_ENDS, 1024)
    vocab_size, mask_id = tokenizer.get_vocab_size(), tokenizer.token_to_id("[MASK]")

    sentiment = [(tokenizer.encode(row["text"]).ids, reviews.LABELS.index(row["label"])) for row in opinions]
    entities = [tagged_ids(tokenizer, row) for row in reports]
    answers = [asked_ids(tokenizer, row) for row in posed]
    unlabelled = [row[0] for row in sentiment] + [row[0] for row in entities]

    def batches():
        sources = [
            training.shuffled_batches(rows, BATCH, SEED + at, length)
            for at, (rows, length) in enumerate(
                [
                    (sentiment, lambda r: len(r[0])),
                    (entities, lambda r: len(r[0])),
                    (unlabelled, len),
                    (answers, lambda r: len(r[0])),
                ]
            )
        ]
        while True:
            reviewed, tagged, plain, asked = map(next, sources)
            corrupted = [mask(rng, ids, mask_id, vocab_size) for ids in plain]
            yield (
                (training.padded([ids for ids, _ in reviewed], 0), torch.tensor([label for _, label in reviewed])),
                tuple(training.padded([row[side] for row in tagged], value) for side, value in ((0, 0), (1, IGNORED))),
                tuple(
                    training.padded([row[side] for row in corrupted], value) for side, value in ((0, 0), (1, IGNORED))
                ),
                (
                    training.padded([row[0] for row in asked], 0),
                    training.padded([row[1] for row in asked], 0),
                    torch.tensor([row[2] for row in asked]),
                    torch.tensor([row[3] for row in asked]),
                ),
            )

    settings = config(vocab_size, "BertForMaskedLM")
    model = Reader(settings)
    seconds = training.fit(model, lambda batch: model.loss(*batch), batches(), steps, PEAK)

    folder = export.fresh(folder)
    export.write_json(folder / "config.json", settings)
    twins = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    export.write_weights(folder / "model.safetensors", model.masked.state_dict(), twins)
    export.write_tokenizer(
        folder,
        tokenizer,
        {
            "clean_up_tokenization_spaces": True,
            "cls_token": "[CLS]",
            "do_lower_case": True,
            "mask_token": "[MASK]",
            "model_max_length": POSITIONS,
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "tokenizer_class": "BertTokenizer",
            "unk_token": "[UNK]",
        },
    )
    half = MASKED_HELD_OUT // 2
    plain = [row["text"] for row in held_opinions[:half] + held_reports[:half]]
    export.write_lines(folder / "held_out.jsonl", masked_rows(rng, tokenizer, plain))
    classifier = {f"classifier.{part}": tensor for part, tensor in model.sentiment.state_dict().items()}
    pooler = {f"bert.pooler.dense.{part}": tensor for part, tensor in model.pooler.state_dict().items()}
    write_head(
        folder / "heads" / "sentiment",
        config(vocab_size, "BertForSequenceClassification", reviews.LABELS),
        pooler | classifier,
        held_opinions,
    )
    write_head(
        folder / "heads" / "entities",
        config(vocab_size, "BertForTokenClassification", news.LABELS),
        {f"classifier.{part}": tensor for part, tensor in model.entities.state_dict().items()},
        [{"text": row["text"], "entities": row["entities"]} for row in held_reports],
    )
    write_head(
        folder / "heads" / "answers",
        config(vocab_size, "BertForQuestionAnswering"),
        {f"qa_outputs.{part}": tensor for part, tensor in model.answers.state_dict().items()},
        held_questions,
    )
    return seconds
