"""Writes tests/goldens_decoders: small random decoders with configurations that tests/goldens
does not have, with transformers' float64 answers, in its form.

    python tools/decoder_goldens.py tests/goldens_decoders

Needs torch, transformers and safetensors.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from encoder_goldens import randomise
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

SEED = 20180611
LENGTHS = [17, 6, 1]
PROMPTS = [9, 4]
NEW_TOKENS = 10

IDS = dict(bos_token_id=2, eos_token_id=1, pad_token_id=0)
GPT2 = dict(IDS, vocab_size=61, n_embd=33, n_head=3, n_layer=2, n_positions=29)
OPT = dict(
    IDS, vocab_size=61, hidden_size=30, num_attention_heads=2, num_hidden_layers=2, ffn_dim=41,
    max_position_embeddings=29, word_embed_proj_dim=30,
)
NEOX = dict(
    IDS, vocab_size=61, hidden_size=30, num_attention_heads=3, num_hidden_layers=2,
    intermediate_size=41, max_position_embeddings=50,
)
LLAMA = dict(
    IDS, vocab_size=61, hidden_size=33, num_attention_heads=3, num_key_value_heads=1, head_dim=10,
    num_hidden_layers=3, intermediate_size=41, max_position_embeddings=50,
)
FULL, SLIDING = "full_attention", "sliding_attention"
LINEAR = dict(rope_type="linear", factor=4.0, rope_theta=5000.0)

# Folder, class of transformers, configuration, storage.
MODELS = [
    ("gpt2_by_layer", "GPT2LMHeadModel",
     GPT2 | dict(scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False,
                 activation_function="relu"), torch.float32),
    ("gpt2_unscaled", "GPT2LMHeadModel", GPT2 | dict(scale_attn_weights=False), torch.float16),
    ("gpt2_trunk", "GPT2Model", GPT2, torch.float32),
    ("opt_post_norm", "OPTForCausalLM",
     OPT | dict(do_layer_norm_before=False, word_embed_proj_dim=14, activation_function="gelu"),
     torch.float32),
    ("opt_bare", "OPTForCausalLM",
     OPT | dict(enable_bias=False, layer_norm_elementwise_affine=False,
                _remove_final_layer_norm=True), torch.float32),
    ("opt_trunk", "OPTModel", OPT | dict(word_embed_proj_dim=7), torch.bfloat16),
    ("gpt_neox_in_turn", "GPTNeoXForCausalLM",
     NEOX | dict(use_parallel_residual=False, attention_bias=False, rotary_pct=0.4,
                 hidden_act="gelu_new"), torch.float32),
    ("gpt_neox_tied", "GPTNeoXForCausalLM",
     NEOX | dict(rotary_pct=1.0, tie_word_embeddings=True, rotary_emb_base=500), torch.float32),
    ("llama_biases", "LlamaForCausalLM",
     LLAMA | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu",
                  rope_parameters=LINEAR), torch.float32),
    ("llama_trunk", "LlamaModel", LLAMA | dict(num_key_value_heads=3), torch.bfloat16),
    ("mistral_unbounded", "MistralForCausalLM",
     LLAMA | dict(sliding_window=None, num_attention_heads=11, num_key_value_heads=11), torch.float32),
    ("qwen2_late_windows", "Qwen2ForCausalLM",
     LLAMA | dict(use_sliding_window=True, sliding_window=4, max_window_layers=2,
                  rope_parameters=dict(rope_type="default", rope_theta=50.0)), torch.float32),
    ("qwen3_mixed", "Qwen3ForCausalLM",
     LLAMA | dict(use_sliding_window=True, sliding_window=3, attention_bias=True,
                  layer_types=[SLIDING, FULL, SLIDING], hidden_size=42,
                  num_attention_heads=6, num_key_value_heads=2), torch.float32),
    ("gemma2_uncapped", "Gemma2ForCausalLM",
     LLAMA | dict(attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True,
                  sliding_window=5, query_pre_attn_scalar=7), torch.float32),
    ("gemma3_capped", "Gemma3ForCausalLM",
     LLAMA | dict(final_logit_softcapping=3.0, sliding_window=4, attention_bias=True,
                  num_hidden_layers=4, tie_word_embeddings=False), torch.float32),
]
# Built with `settings`, then saved with a configuration that leaves these keys out. A head that
# differs from its table stays itself even so, and missing caps have values.
TRIMMED = [
    ("gpt2_own_head", "GPT2LMHeadModel", GPT2 | dict(tie_word_embeddings=False),
     ["tie_word_embeddings"]),
    ("gemma3_own_head", "Gemma3ForCausalLM",
     LLAMA | dict(sliding_window=4, tie_word_embeddings=False), ["tie_word_embeddings"]),
    ("gemma2_default_caps", "Gemma2ForCausalLM",
     LLAMA | dict(sliding_window=5), ["attn_logit_softcapping", "final_logit_softcapping"]),
]
# Saved in the layout of transformers 4 as well, under another name.
OLDER = ["llama_biases", "qwen2_late_windows", "gemma2_uncapped"]


def older(config):
    """The same configuration as transformers 4 wrote it."""
    rope = config.pop("rope_parameters")
    config.pop("layer_types", None)
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None
    if rope["rope_type"] != "default":
        config["rope_scaling"] = {"type": rope.pop("rope_type")} | rope
    config["torch_dtype"] = config.pop("dtype")
    return config


def older_gemma3(config):
    config["sliding_window_pattern"] = 2
    rope = config.pop("rope_parameters")
    full, sliding = rope[FULL], rope[SLIDING]
    config.pop("layer_types")
    config.pop("_sliding_window_pattern")
    config["rope_local_base_freq"] = sliding["rope_theta"]
    config["rope_theta"] = full.pop("rope_theta")
    config["rope_scaling"] = full
    return config


def forward_case(model, tensors):
    """Texts one by one, put together with zeros where they are padded: windows leave queries of
    padding without keys, and their NaN would spread."""
    draw = lambda n: torch.randint(3, model.config.vocab_size, (n,))
    ids = pad_sequence([draw(n) for n in LENGTHS], batch_first=True)
    mask = pad_sequence([torch.ones(n, dtype=torch.long) for n in LENGTHS], batch_first=True)
    call = lambda row, n: model(input_ids=row[None, :n], output_hidden_states=True)
    results = [call(row, n) for row, n in zip(ids, LENGTHS)]
    together = lambda parts: pad_sequence([p[0] for p in parts], batch_first=True)
    states = [together(parts) for parts in zip(*(r.hidden_states for r in results))]
    logits = together([r.logits for r in results]) if "logits" in results[0] else None
    case = recorded("batch", tensors, ids, mask, states, logits)
    return case | {"ids": [row[:n] for row, n in zip(ids.tolist(), LENGTHS)]}


def left_padded_case(model, tensors):
    ids = torch.randint(3, model.config.vocab_size, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    result = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    return recorded("left", tensors, ids, mask, result.hidden_states, result.get("logits"))


def recorded(name, tensors, ids, mask, states, logits):
    tensors |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask}
    outputs = {"last_hidden_state": states[-1]}
    if logits is not None:
        outputs["logits"] = logits
    entries = {}
    for output, value in outputs.items():
        tensors[f"{name}.{output}"] = value.float().contiguous()
        entries[output] = {"mask": "attention_mask", "tensor": f"{name}.{output}"}
    names = [f"{name}.hidden_states.{i}" for i in range(len(states))]
    tensors |= {name: state.float().contiguous() for name, state in zip(names, states)}
    entries["hidden_states"] = {"mask": "attention_mask", "tensors": names}
    inputs = {given: f"{name}.{given}" for given in ["input_ids", "attention_mask"]}
    return {"name": name, "kind": "forward", "inputs": inputs, "outputs": entries}


def generate_case(model, name, length):
    """Greedy decoding by whole passes; the draw is repeated until no step is close."""
    while True:
        ids = torch.randint(3, model.config.vocab_size, (1, length))
        margin = float("inf")
        for _ in range(NEW_TOKENS):
            last = model(input_ids=ids).logits[0, -1]
            margin = min(margin, float(last.topk(2).values.diff().abs()))
            ids = torch.cat([ids, last.argmax()[None, None]], 1)
        if margin > 1e-3:
            break
    prompt, new = ids[0, :length].tolist(), ids[0, length:].tolist()
    case = {"name": name, "kind": "generate", "prompt_ids": prompt, "new_ids": new}
    return case | {"min_margin": margin, "params": {"max_new_tokens": NEW_TOKENS}}


def write(folder, model):
    tensors = {}
    with torch.no_grad():
        cases = [forward_case(model, tensors)]
        if model.config.model_type == "opt":
            # Its positions leave padding out, wherever it stands.
            cases.append(left_padded_case(model, tensors))
        if hasattr(model, "lm_head") or hasattr(model, "embed_out"):
            names = [f"greedy{i}" for i in range(len(PROMPTS))]
            cases += [generate_case(model, n, length) for n, length in zip(names, PROMPTS)]
            cases.append({"name": "greedy_batch", "kind": "generate_batch", "rows": names})
    save_file(tensors, folder / "golden.safetensors")
    golden = {"name": folder.name, "cases": cases}
    golden |= {"torch": torch.__version__, "transformers": transformers.__version__}
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def save(folder, model, rewrite=lambda config: config):
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(rewrite(json.loads(path.read_text())), indent=1) + "\n")


def build(seed, kind, settings, dtype=torch.float32):
    torch.manual_seed(seed)
    of = getattr(transformers, kind)
    model = of(of.config_class(**settings))
    randomise(model)
    model.config.dtype = dtype
    # Parameters alone: computed buffers, such as rotary frequencies, stay exact.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def main():
    to = Path(sys.argv[1])
    for index, (name, kind, settings, dtype) in enumerate(MODELS):
        model = build(SEED + index, kind, settings, dtype)
        save(to / name, model)
        if name in OLDER:
            save(to / f"{name}_older", model, older)
        model.double()
        write(to / name, model)
        if name in OLDER:
            for file in ["golden.json", "golden.safetensors"]:
                (to / f"{name}_older" / file).write_bytes((to / name / file).read_bytes())
    for index, (name, kind, settings, keys) in enumerate(TRIMMED):
        model = build(SEED + 100 + index, kind, settings)
        save(to / name, model, lambda c: {k: v for k, v in c.items() if k not in keys})
        model = getattr(transformers, kind).from_pretrained(to / name).eval()
        write(to / name, model.double())
    kinds = [SLIDING, FULL, SLIDING]
    ropes = {FULL: LINEAR, SLIDING: dict(rope_type="default", rope_theta=300.0)}
    settings = LLAMA | dict(layer_types=kinds, rope_parameters=ropes, sliding_window=6)
    model = build(SEED - 1, "Gemma3ForCausalLM", settings)
    save(to / "gemma3_alternating", model, older_gemma3)
    write(to / "gemma3_alternating", model.double())


if __name__ == "__main__":
    main()
