#!/usr/bin/env python3
"""Writes a golden folder in the form of tests/goldens: a small model of one family with random
weights, and what transformers makes of it in float64.

    tools/make_golden.py --list
    tools/make_golden.py llama FOLDER [--seed 7] [--set num_key_value_heads=1 …]
    tools/make_golden.py bert FOLDER --class BertForTokenClassification --set num_labels=3
    tools/make_golden.py t5 FOLDER --check target/release/tilewright

FOLDER must not exist. `--set` replaces or adds fields of the configuration (values as in JSON).
`--check` runs that program on the folder's inputs, on the CPU path or on `--device`, and compares
every output that it gives. Needs torch, transformers and safetensors; there is no tokenizer in
the folder, its cases are ids.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from encoder_goldens import COMMON, DISTILBERT
from decoder_goldens import GPT2, LLAMA, NEOX, OPT
from safetensors.torch import load_file, save_file
from seq2seq_goldens import BART, T5, randomise

GRANITE = dict(
    attention_multiplier=0.4, embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=2.0
)
LENGTHS = [13, 6, 1]
DECODER_LENGTHS = [4, 9, 2]
NEW_TOKENS = 10
# Of the largest value, as in the tests.
LIMIT = 5e-5

# Family, class unless another is asked for, configuration.
FAMILIES = {
    "albert": ("AlbertForMaskedLM", COMMON | dict(embedding_size=14)),
    "bart": ("BartForConditionalGeneration", BART),
    "bert": ("BertForMaskedLM", COMMON),
    "distilbert": ("DistilBertForMaskedLM", DISTILBERT),
    "electra": ("ElectraForMaskedLM", COMMON | dict(embedding_size=14)),
    "gemma": ("GemmaForCausalLM", LLAMA),
    "gemma2": ("Gemma2ForCausalLM", LLAMA | dict(sliding_window=5, query_pre_attn_scalar=7)),
    "gemma3": ("Gemma3ForCausalLM", LLAMA | dict(sliding_window=4)),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", NEOX),
    "granite": ("GraniteForCausalLM", LLAMA | GRANITE),
    "llama": ("LlamaForCausalLM", LLAMA),
    "marian": ("MarianMTModel", BART),
    "mbart": ("MBartForConditionalGeneration", BART | dict(scale_embedding=True)),
    "mistral": ("MistralForCausalLM", LLAMA | dict(sliding_window=5)),
    "modernbert": ("ModernBertForMaskedLM", COMMON | dict(local_attention=6)),
    "mpnet": ("MPNetForMaskedLM", COMMON),
    "mt5": ("MT5ForConditionalGeneration", T5),
    "olmo2": ("Olmo2ForCausalLM", LLAMA),
    "opt": ("OPTForCausalLM", OPT),
    "pegasus": ("PegasusForConditionalGeneration", BART | dict(scale_embedding=True)),
    "phi3": ("Phi3ForCausalLM", LLAMA | dict(sliding_window=5)),
    "qwen2": ("Qwen2ForCausalLM", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", LLAMA),
    "roberta": ("RobertaForMaskedLM", COMMON | dict(type_vocab_size=1)),
    "smollm3": ("SmolLM3ForCausalLM", LLAMA | dict(no_rope_layer_interval=2)),
    "starcoder2": ("Starcoder2ForCausalLM", LLAMA | dict(sliding_window=5)),
    "t5": ("T5ForConditionalGeneration", T5),
}


def draw(config, lengths, start=None):
    """Rows of ids, none of them a special one; a decoder's begin with `start`."""
    rows = [torch.randint(4, config.vocab_size, (1, n)) for n in lengths]
    for row in rows if start is not None else []:
        row[0, 0] = start
    return rows


def call(model, given):
    """Outputs by golden name; hidden states are tuples."""
    result = model(**given, output_hidden_states=True, use_cache=False, return_dict=True)
    if not model.config.is_encoder_decoder:
        outputs = dict(result.items())
        outputs.setdefault("last_hidden_state", result.hidden_states[-1])
        return outputs
    names = ["logits", "last_hidden_state", "encoder_last_hidden_state"]
    outputs = {name: result[name] for name in names if name in result}
    if "logits" in outputs:
        outputs["decoder_last_hidden_state"] = result.decoder_hidden_states[-1]
    return outputs | {n: result[n] for n in ["encoder_hidden_states", "decoder_hidden_states"]}


def join(parts, lengths):
    """What the rows gave, put together: padded with zeros where it has a token's axis."""
    if isinstance(parts[0], tuple):
        return tuple(join(list(layer), lengths) for layer in zip(*parts))
    longest = lengths.index(max(lengths))
    if parts[longest].dim() > 1 and parts[longest].shape[1] == lengths[longest]:
        rows = [part[0] for part in parts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return torch.cat(parts)


def forward_case(name, models, rows, decoder_rows, tensors):
    """One batch. Every text runs alone, so that padding has no say in the numbers."""
    inputs = {}
    for prefix, given in [("", rows), ("decoder_", decoder_rows)]:
        if given:
            pad = lambda parts: torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            inputs[f"{prefix}input_ids"] = pad([row[0] for row in given])
            inputs[f"{prefix}attention_mask"] = pad([torch.ones_like(row[0]) for row in given])
    tensors |= {f"{name}.{key}": value for key, value in inputs.items()}

    def run(model):
        parts = []
        for i, row in enumerate(rows):
            given = {"input_ids": row}
            if decoder_rows:
                given["decoder_input_ids"] = decoder_rows[i]
            parts.append(call(model, given))
        outputs = {}
        for output in parts[0]:
            own = decoder_rows if decoder_rows and not output.startswith("encoder") else rows
            lengths = [row.shape[1] for row in own]
            outputs[output] = join([part[output] for part in parts], lengths)
        return outputs

    single, double = (run(model) for model in models)
    entries = {}
    for output, value in double.items():
        side = "decoder_attention_mask" if decoder_rows and not output.startswith("encoder") else "attention_mask"
        shape = inputs[side].shape
        one = value[0] if isinstance(value, tuple) else value
        entry = {"mask": side if one.shape[:2] == shape else None}
        if isinstance(value, tuple):
            entry["tensors"] = [f"{name}.{output}.{i}" for i in range(len(value))]
            tensors |= {n: v.float().contiguous() for n, v in zip(entry["tensors"], value)}
        else:
            tensor = f"{name}.{output}"
            entry |= {
                "tensor": tensor,
                "f64": f"{tensor}.f64",
                "shape": list(value.shape),
                "max_abs": float(value.abs().max()),
                "f32_vs_f64_max_abs": float((single[output].double() - value).abs().max()),
            }
            tensors |= {tensor: single[output].contiguous(), f"{tensor}.f64": value.contiguous()}
        entries[output] = entry
    given = {key: f"{name}.{key}" for key in inputs}
    return {"name": name, "kind": "forward", "inputs": given, "outputs": entries}


def generate_case(model):
    """Greedy decoding by whole passes; the draw is repeated until no step is close."""
    config = model.config
    while True:
        prompt = draw(config, [7])[0]
        both = config.is_encoder_decoder
        ids = torch.tensor([[config.decoder_start_token_id]]) if both else prompt
        before, margin = ids.shape[1], float("inf")
        while ids.shape[1] < before + NEW_TOKENS and (ids.shape[1] == before or ids[0, -1] != config.eos_token_id):
            given = {"input_ids": prompt, "decoder_input_ids": ids} if both else {"input_ids": ids}
            last = model(**given).logits[0, -1]
            margin = min(margin, float(last.topk(2).values.diff().abs()))
            ids = torch.cat([ids, last.argmax()[None, None]], 1)
        if margin > 1e-3:
            break
    params = {"max_new_tokens": NEW_TOKENS, "eos_token_id": config.eos_token_id}
    if both:
        params["decoder_start_token_id"] = config.decoder_start_token_id
    return {
        "name": "greedy", "kind": "generate", "prompt_ids": prompt[0].tolist(), "params": params,
        "new_ids": ids[0, before:].tolist(), "min_margin": margin,
    }


def write(folder, family, kind, settings, seed):
    torch.manual_seed(seed)
    of = getattr(transformers, kind)
    model = of(of.config_class(**settings)).eval()
    randomise(model)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # As the files have it, so that what saving leaves out or ties shows in the numbers.
    models = [of.from_pretrained(folder).eval().to(dtype) for dtype in [torch.float32, torch.float64]]
    config, tensors = model.config, {}
    start = config.decoder_start_token_id if config.is_encoder_decoder else None
    with torch.no_grad():
        cases = []
        for name, at in [("single", slice(0, 1)), ("batch", slice(0, 3))]:
            decoder_rows = draw(config, DECODER_LENGTHS[at], start) if start is not None else []
            cases.append(forward_case(name, models, draw(config, LENGTHS[at]), decoder_rows, tensors))
        if kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")):
            cases.append(generate_case(models[1]))
    save_file(tensors, folder / "golden.safetensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    golden = {
        "name": folder.name, "model_type": family, "architecture": kind, "seed": seed,
        "written_by": "tools/make_golden.py", "versions": versions, "cases": cases,
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def check(program, folder, device):
    """The program's outputs against the folder's."""
    golden = json.loads((folder / "golden.json").read_text())
    tensors = load_file(folder / "golden.safetensors")
    compared = 0
    for case in (c for c in golden["cases"] if c["kind"] == "forward"):
        with tempfile.TemporaryDirectory() as scratch:
            given, got = Path(scratch) / "in.safetensors", Path(scratch) / "out.safetensors"
            save_file({k: tensors[n] for k, n in case["inputs"].items()}, given)
            subprocess.run([program, "run", "--model", folder, "--input", given, "--output", got,
                            "--hidden-states", "--device", device], check=True, stdout=subprocess.DEVNULL)
            outputs = load_file(got)
        for output, entry in case["outputs"].items():
            wanted = {output: entry["f64"]} if "f64" in entry else {
                f"{output}.{i}": name for i, name in enumerate(entry["tensors"])}
            for name, tensor in wanted.items():
                if name not in outputs:
                    continue
                want, have = tensors[tensor].double(), outputs[name].double()
                if entry["mask"]:
                    keep = tensors[case["inputs"][entry["mask"]]] == 1
                    want, have = want[keep], have[keep]
                error = float((have - want).abs().max() / want.abs().max())
                compared += 1
                if not error <= LIMIT:
                    sys.exit(f"error: {case['name']} {name}: off by {error:.1e} of the largest value")
    if compared == 0:
        sys.exit("error: the program gave none of the outputs")
    print(f"{folder}: {compared} tensors within {LIMIT} of the largest value on {device}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", choices=FAMILIES)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--list", action="store_true", help="the families")
    parser.add_argument("--class", dest="kind", help="another class of transformers")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=20170612)
    parser.add_argument("--check", metavar="PROGRAM", help="a built tilewright")
    parser.add_argument("--device", default="cpu", help="as the program's --device")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:<12} {kind}" for name, (kind, _) in FAMILIES.items()))
        return
    if args.folder is None:
        parser.error("a family and a folder are needed")
    if args.folder.exists():
        sys.exit(f"error: {args.folder} exists already")
    kind, settings = FAMILIES[args.family]
    for text in args.set:
        key, _, value = text.partition("=")
        settings = settings | {key: json.loads(value)}
    write(args.folder, args.family, args.kind or kind, settings, args.seed)
    print(f"{args.folder}: written")
    if args.check:
        check(args.check, args.folder, args.device)


if __name__ == "__main__":
    main()
