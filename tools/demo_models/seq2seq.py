"""What the translator and the summarizer share: T5's configuration, training and folder."""

from transformers import T5Config, T5ForConditionalGeneration

import export
import training

MAX_TOKENS = 256


def config(vocab_size, layers, d_model, d_kv, heads, d_ff):
    """The configuration of a first-generation T5 (ReLU, tied embedding), as `config.json` has it."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "classifier_dropout": 0.0,
        "d_ff": d_ff,
        "d_kv": d_kv,
        "d_model": d_model,
        "decoder_start_token_id": 0,
        "dense_act_fn": "relu",
        "dropout_rate": 0.0,
        "eos_token_id": 1,
        "feed_forward_proj": "relu",
        "initializer_factor": 1.0,
        "is_decoder": False,
        "is_encoder_decoder": True,
        "is_gated_act": False,
        "layer_norm_epsilon": 1e-6,
        "model_type": "t5",
        "num_decoder_layers": layers,
        "num_heads": heads,
        "num_layers": layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": vocab_size,
    }


def new_model(settings):
    """A model of fresh f32 weights."""
    settings = {key: value for key, value in settings.items() if key != "torch_dtype"}
    return T5ForConditionalGeneration(T5Config(**settings)).float()


def train(model, tokenizer, tasks, steps, batch, peak, seed):
    """Trains on {"source", "target"} rows; returns the seconds taken."""
    ids = [
        (s.ids, t.ids)
        for s, t in zip(
            tokenizer.encode_batch([task["source"] for task in tasks]),
            tokenizer.encode_batch([task["target"] for task in tasks]),
        )
    ]
    tokens = sum(len(source) + len(target) for source, target in ids)
    print(f"  {len(ids)} examples, {tokens / len(ids):.0f} tokens each")
    batches = training.shuffled_batches(ids, batch, seed, lambda pair: (len(pair[0]), len(pair[1])))

    def loss_of(rows):
        sources = training.padded([row[0] for row in rows], 0)
        labels = training.padded([row[1] for row in rows], -100)
        return model(input_ids=sources, attention_mask=(sources != 0).long(), labels=labels).loss

    return training.fit(model, loss_of, batches, steps, peak)


def write(folder, model, tokenizer, settings, held_out):
    """The model's folder, but for its card."""
    folder = export.fresh(folder)
    export.write_json(folder / "config.json", settings)
    twins = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    export.write_weights(folder / "model.safetensors", model.state_dict(), twins)
    export.write_tokenizer(
        folder,
        tokenizer,
        {
            "clean_up_tokenization_spaces": False,
            "eos_token": "</s>",
            "extra_ids": 0,
            "model_max_length": MAX_TOKENS,
            "pad_token": "<pad>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
    )
    export.write_json(
        folder / "generation_config.json",
        {
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            "max_new_tokens": 96,
            "pad_token_id": 0,
        },
    )
    export.write_lines(folder / "held_out.jsonl", held_out)
