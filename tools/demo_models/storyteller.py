"""The storyteller: a small GPT-2 that tells stories of the grammar."""

import random

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import export
import tokenization
import training
from grammar import stories

SEED = 51
STORIES, HELD_OUT = 120_000, 150
STEPS, BATCH, PEAK = 2_500, 32, 2e-3
POSITIONS = 256


def config(vocab_size, end):
    """The configuration, as `config.json` has it."""
    return {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": end,
        "embd_pdrop": 0.0,
        "eos_token_id": end,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": 96,
        "n_head": 4,
        "n_inner": None,
        "n_layer": 4,
        "n_positions": POSITIONS,
        "pad_token_id": end,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": vocab_size,
    }


def build(folder, steps=STEPS):
    """Trains and writes the model; returns the seconds taken."""
    training.start(SEED)
    rows = stories.stories(SEED, STORIES, held_out=False)
    held_out = stories.stories(SEED + 1, HELD_OUT, held_out=True)
    texts = [row["story"] for row in rows]
    tokenizer = tokenization.story_tokenizer(texts[:20_000], 768)
    tokenization.check_round_trips(tokenizer, [text for row in held_out for text in row.values()])
    end = tokenizer.token_to_id(tokenization.END_OF_TEXT)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    longest = max(map(len, ids)) + 2
    if longest > POSITIONS:
        raise ValueError(f"a story has {longest} tokens; {POSITIONS} positions are there")
    settings = config(tokenizer.get_vocab_size(), end)
    model = GPT2LMHeadModel(GPT2Config(**{k: v for k, v in settings.items() if k != "torch_dtype"})).float()
    rng = random.Random(SEED)

    def loss_of(batch):
        # Half of the stories begin with the end-of-text token, so that both an empty prompt and
        # a prompt without that token are known.
        batch = [([end] if rng.random() < 0.5 else []) + row + [end] for row in batch]
        labels = training.padded(batch, -100)
        inputs = torch.where(labels < 0, end, labels)
        return model(input_ids=inputs, labels=labels).loss

    batches = training.shuffled_batches(ids, BATCH, SEED, len)
    seconds = training.fit(model, loss_of, batches, steps, PEAK)
    folder = export.fresh(folder)
    export.write_json(folder / "config.json", settings)
    export.write_weights(folder / "model.safetensors", model.state_dict(), {"lm_head.weight"})
    export.write_tokenizer(
        folder,
        tokenizer,
        {
            "add_prefix_space": False,
            "bos_token": tokenization.END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "eos_token": tokenization.END_OF_TEXT,
            "model_max_length": POSITIONS,
            "pad_token": tokenization.END_OF_TEXT,
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": tokenization.END_OF_TEXT,
        },
    )
    export.write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": end,
            "eos_token_id": end,
            "max_new_tokens": 200,
            "pad_token_id": end,
        },
    )
    export.write_lines(folder / "held_out.jsonl", held_out)
    return seconds
