"""Writes tests/goldens_seq2seq: small random encoder-decoders of the families and configurations
that tests/goldens does not have, with transformers' (or torch's) float64 answers, in its form.

    python tools/seq2seq_goldens.py tests/goldens_seq2seq

Needs torch, transformers and safetensors.
"""

import copy
import json
import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel, RobertaConfig

SEED = 20170706
SOURCE_LENGTHS = [9, 4, 1]
TARGET_LENGTHS = [3, 7, 2]
NEW_TOKENS = 12

IDS = dict(pad_token_id=0, eos_token_id=1, bos_token_id=2, decoder_start_token_id=2)
T5 = dict(
    IDS, vocab_size=61, d_model=20, d_kv=6, d_ff=26, num_layers=1, num_decoder_layers=3,
    num_heads=3, relative_attention_num_buckets=7, relative_attention_max_distance=9,
)
BART = dict(
    IDS, vocab_size=61, d_model=24, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
    decoder_attention_heads=3, encoder_ffn_dim=35, decoder_ffn_dim=22, max_position_embeddings=23,
    forced_eos_token_id=None,
)
VASWANI = dict(
    IDS, model_type="vaswani2017", architectures=["VaswaniTransformer"], d_model=20, nhead=2,
    num_encoder_layers=1, num_decoder_layers=2, dim_feedforward=33, activation="relu",
    layer_norm_eps=1e-5, norm_first=False, final_norm=True, tie_embeddings=True,
    generator_bias=False, max_len=23, vocab_size=61, positional_encoding="sinusoidal_interleaved",
    scale_embedding=True, is_encoder_decoder=True,
)
BERT = dict(
    vocab_size=61, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=35,
    max_position_embeddings=25, type_vocab_size=2, pad_token_id=0,
)

# Folder, class of transformers, configuration.
MODELS = [
    ("t5_silu", "T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-silu")),
    ("t5_gelu", "T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gelu")),
    ("t5_unscaled", "T5ForConditionalGeneration", T5 | dict(tie_word_embeddings=False)),
    ("mt5", "MT5ForConditionalGeneration", T5),
    ("bart_untied", "BartForConditionalGeneration",
     BART | dict(scale_embedding=True, tie_word_embeddings=False, activation_function="relu")),
    ("mbart", "MBartForConditionalGeneration", BART | dict(scale_embedding=True)),
    ("marian_apart", "MarianMTModel",
     BART | dict(share_encoder_decoder_embeddings=False, decoder_vocab_size=47)),
    ("pegasus", "PegasusForConditionalGeneration", BART | dict(scale_embedding=True)),
    ("t5_trunk", "T5Model", T5),
    ("bart_trunk", "BartModel", BART | dict(scale_embedding=True)),
    ("marian_trunk", "MarianModel", BART),
]
# Saved with tables that the configuration would tie or compute, and that say otherwise.
OWN = [
    ("t5_own_tables", "T5ForConditionalGeneration", T5),
    ("bart_own_tables", "BartForConditionalGeneration", BART),
    ("pegasus_own_positions", "PegasusForConditionalGeneration", BART | dict(scale_embedding=True)),
]


class Vaswani(torch.nn.Module):
    """nn.Transformer between scaled embeddings with a sinusoidal encoding and a generator."""

    def __init__(self, config):
        super().__init__()
        c, self.config = config, config
        tables = 1 if c["tie_embeddings"] else 2
        names = ["src_embed", "tgt_embed"][:tables]
        for name in names:
            setattr(self, name, torch.nn.Embedding(c["vocab_size"], c["d_model"]))
        if not c["tie_embeddings"]:
            self.generator = torch.nn.Linear(c["d_model"], c["vocab_size"], c["generator_bias"])
        self.transformer = torch.nn.Transformer(
            c["d_model"], c["nhead"], c["num_encoder_layers"], c["num_decoder_layers"],
            c["dim_feedforward"], 0.0, c["activation"], layer_norm_eps=c["layer_norm_eps"],
            batch_first=True, norm_first=c["norm_first"],
        )
        if not c["final_norm"]:
            self.transformer.encoder.norm = self.transformer.decoder.norm = None

    def embed(self, table, ids):
        c = self.config
        width = c["d_model"]
        at = torch.arange(ids.shape[1], dtype=torch.float64)[:, None]
        angles = at / 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
        encoding = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        scale = math.sqrt(width) if c["scale_embedding"] else 1.0
        return table(ids) * scale + encoding.to(table.weight.dtype)

    def forward(self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask):
        hidden, padding = attention_mask == 0, decoder_attention_mask == 0
        n = decoder_input_ids.shape[1]
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        target = self.src_embed if self.config["tie_embeddings"] else self.tgt_embed
        x, y = self.embed(self.src_embed, input_ids), self.embed(target, decoder_input_ids)
        encoded = self.transformer.encoder(x, src_key_padding_mask=hidden)
        decoded = self.transformer.decoder(
            y, encoded, tgt_mask=later, tgt_key_padding_mask=padding, memory_key_padding_mask=hidden
        )
        if self.config["tie_embeddings"]:
            logits = decoded @ self.src_embed.weight.T
        else:
            logits = self.generator(decoded)
        return {
            "logits": logits,
            "encoder_last_hidden_state": encoded,
            "decoder_last_hidden_state": decoded,
        }


def randomise(model):
    """Norm weights near 1, all other values wide enough that a mistake shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" in name and not parameter.requires_grad:
                continue  # computed, not learned
            norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if norm else 0.0))
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.copy_(torch.randn_like(buffer) * 0.3)


def rows(lengths, vocab_size, first=None):
    """Random ids of these lengths, padded on the right, and their mask."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, vocab_size, (length,))
        mask[row, :length] = 1
        if first is not None:
            ids[row, 0] = first
    return ids, mask


def hugging_face(model, given):
    """Outputs by golden name; hidden states are lists."""
    result = model(**given, output_hidden_states=True, return_dict=True)
    names = ["logits", "last_hidden_state", "encoder_last_hidden_state"]
    outputs = {name: result[name] for name in names if name in result}
    if "logits" in outputs:
        outputs["decoder_last_hidden_state"] = result.decoder_hidden_states[-1]
    names = ["encoder_hidden_states", "decoder_hidden_states"]
    return outputs | {name: result[name] for name in names}


def forward_case(call, tensors, vocab_sizes, inner_pad=None):
    ids, mask = rows(SOURCE_LENGTHS, vocab_sizes[0])
    decoder_ids, decoder_mask = rows(TARGET_LENGTHS, vocab_sizes[1], IDS["decoder_start_token_id"])
    if inner_pad is not None:
        decoder_ids[1, 3] = inner_pad
    given = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": decoder_ids,
        "decoder_attention_mask": decoder_mask,
    }
    tensors |= {f"batch.{name}": value for name, value in given.items()}
    outputs = {}
    for output, value in call(given).items():
        side = "attention_mask" if output.startswith("encoder") else "decoder_attention_mask"
        entry = {"mask": side}
        if isinstance(value, tuple):
            entry["tensors"] = [f"batch.{output}.{i}" for i in range(len(value))]
            tensors |= {n: v.float().contiguous() for n, v in zip(entry["tensors"], value)}
        else:
            entry |= {"tensor": f"batch.{output}", "shape": list(value.shape)}
            tensors[entry["tensor"]] = value.float().contiguous()
        outputs[output] = entry
    inputs = {name: f"batch.{name}" for name in given}
    return {"name": "batch", "kind": "forward", "inputs": inputs, "outputs": outputs}


def generate_case(call, tensors, vocab_size):
    """Greedy decoding by whole passes; the draw is repeated until no step is close."""
    eos, start = IDS["eos_token_id"], IDS["decoder_start_token_id"]
    while True:
        prompt, mask = rows([6], vocab_size)
        ids, logits = [start], []
        while len(ids) <= NEW_TOKENS and ids[-1] != eos:
            decoder = torch.tensor([ids])
            result = call({
                "input_ids": prompt,
                "attention_mask": mask,
                "decoder_input_ids": decoder,
                "decoder_attention_mask": torch.ones_like(decoder),
            })
            logits.append(result["logits"][0, -1])
            ids.append(int(logits[-1].argmax()))
        margin = min(float(step.topk(2).values.diff().abs()) for step in logits)
        if margin > 1e-3 and len(ids) > 3:
            break
    tensors["greedy.logits"] = torch.stack(logits).float()
    return {
        "name": "greedy",
        "kind": "generate",
        "prompt_ids": prompt[0].tolist(),
        "params": {
            "max_new_tokens": NEW_TOKENS, "eos_token_id": eos, "decoder_start_token_id": start,
        },
        "new_ids": ids[1:],
        "min_margin": margin,
        "logits": "greedy.logits",
    }


def write(folder, call, vocab_sizes, inner_pad=None):
    tensors = {}
    with torch.no_grad():
        cases = [forward_case(call, tensors, vocab_sizes, inner_pad)]
        if "logits" in cases[0]["outputs"]:
            cases.append(generate_case(call, tensors, vocab_sizes[0]))
    save_file(tensors, folder / "golden.safetensors")
    golden = {"name": folder.name, "cases": cases}
    golden |= {"torch": torch.__version__, "transformers": transformers.__version__}
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def write_hugging_face(folder, model, inner_pad=None):
    randomise(model)
    model.eval().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model.double()
    config = model.config
    source = getattr(config, "encoder", config).vocab_size
    target = getattr(config, "decoder", config)
    target = getattr(target, "decoder_vocab_size", None) or target.vocab_size
    write(folder, lambda given: hugging_face(model, given), [source, target], inner_pad)


def write_own(folder, of, settings, without=()):
    model = of(of.config_class(**(settings | dict(tie_word_embeddings=False))))
    inner = getattr(model, "model", model)
    for stack in [inner.encoder, inner.decoder]:
        stack.embed_tokens = copy.deepcopy(stack.embed_tokens)
        if hasattr(stack, "embed_positions"):
            weight = stack.embed_positions.weight
            weight.data = weight.data + 0.1 * torch.randn_like(weight)
    randomise(model)
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["tie_word_embeddings"]
    path.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    tensors = {n: t for n, t in load_file(weights).items() if n not in without}
    save_file(tensors, weights, metadata={"format": "pt"})
    # What transformers makes of these files.
    model = of.from_pretrained(folder).eval().double()
    write(folder, lambda given: hugging_face(model, given), [settings["vocab_size"]] * 2)


def write_vaswani(folder, settings):
    model = Vaswani(VASWANI | settings)
    randomise(model)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config, indent=1) + "\n")
    model.double().eval()
    # In training mode torch leaves padding rows in and takes no fused path; there is no dropout.
    model.train()
    write(folder, lambda given: model(**given), [model.config["vocab_size"]] * 2)


def stacks(encoder, decoder):
    config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    for name, value in IDS.items():
        setattr(config, name, value)
    return EncoderDecoderModel(config)


def main():
    to = Path(sys.argv[1])
    for index, (name, kind, settings) in enumerate(MODELS):
        torch.manual_seed(SEED + index)
        of = getattr(transformers, kind)
        write_hugging_face(to / name, of(of.config_class(**settings)))
    for index, (name, kind, settings) in enumerate(OWN):
        torch.manual_seed(SEED + 100 + index)
        write_own(to / name, getattr(transformers, kind), settings)
    torch.manual_seed(SEED + 200)
    without = ["lm_head.weight", "model.encoder.embed_tokens.weight"]
    bart = transformers.BartForConditionalGeneration
    write_own(to / "bart_own_decoder", bart, BART, without)
    torch.manual_seed(SEED - 1)
    apart = dict(
        norm_first=True, activation="gelu", tie_embeddings=False, generator_bias=True,
        layer_norm_eps=1e-3,
    )
    write_vaswani(to / "vaswani_norm_first", apart)
    bare = dict(final_norm=False, scale_embedding=False, tie_embeddings=False)
    write_vaswani(to / "vaswani_bare", bare)
    deep = dict(num_hidden_layers=2, type_vocab_size=1, vocab_size=47, hidden_act="relu")
    same = stacks(BertConfig(**BERT), BertConfig(**(BERT | deep)))
    write_hugging_face(to / "bert2bert_equal", same)
    narrow = dict(hidden_size=20, num_attention_heads=2, pad_token_id=1, type_vocab_size=1)
    mixed = stacks(BertConfig(**BERT), RobertaConfig(**(BERT | narrow)))
    write_hugging_face(to / "bert2roberta", mixed)
    # A padding id between a decoder's tokens has no position of its own.
    torch.manual_seed(SEED + 300)
    mixed = stacks(BertConfig(**BERT), RobertaConfig(**(BERT | narrow)))
    write_hugging_face(to / "roberta_inner_pad", mixed, inner_pad=1)


if __name__ == "__main__":
    main()
