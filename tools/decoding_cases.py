"""Writes tests/goldens/decoding.json: what transformers' `generate` answers for a toy model.

The toy has no weights. The logit of token `t` after tokens `a, b` (the last two; `a` is 0 when
there is one only) of a sequence of `n` tokens is a hash, a whole number of 20 bits, scaled to
[-8, 8) times `spread`; every such value is exact in f32, so any language gets the same logits:

    x = a * 0x9E3779B1 ^ b * 0x85EBCA77 ^ t * 0xC2B2AE3D ^ (seed + n) * 0x27D4EB2F    (mod 2^32)
    x = (x ^ x >> 15) * 0x2C1B3C6D;  x = (x ^ x >> 12) * 0x297A2D39;  x = x ^ x >> 15
    logit = ((x >> 12) - 2^19) / 2^16 * spread

Each case has the generation config, the prompt, and the ids and score that came out; of
sampling cases, the tokens that remain and their probabilities for one row.

    python tools/decoding_cases.py tests/goldens/decoding.json
"""

import json
import random
import sys

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.generation.logits_process import LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutput

MASK = 0xFFFFFFFF


def logit(ids, token, seed, spread):
    a, b = (ids[-2] if len(ids) > 1 else 0), ids[-1]
    x = a * 0x9E3779B1 ^ b * 0x85EBCA77 ^ token * 0xC2B2AE3D ^ (seed + len(ids)) * 0x27D4EB2F
    x &= MASK
    x = (x ^ x >> 15) * 0x2C1B3C6D & MASK
    x = (x ^ x >> 12) * 0x297A2D39 & MASK
    x ^= x >> 15
    return ((x >> 12) - 2**19) / 2**16 * spread


class Toy(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        rows = [
            [logit(ids, token, self.config.seed, self.config.spread) for token in range(self.config.vocab_size)]
            for ids in input_ids.tolist()
        ]
        return CausalLMOutput(logits=torch.tensor(rows, dtype=torch.float32)[:, None])


def toy(vocab, seed, spread):
    return Toy(PretrainedConfig(vocab_size=vocab, seed=seed, spread=spread, is_encoder_decoder=False))


def generate(vocab, seed, spread, prompt, params):
    out = toy(vocab, seed, spread).generate(
        torch.tensor([prompt]),
        generation_config=GenerationConfig(
            **{"pad_token_id": 0, "use_cache": False, "return_dict_in_generate": True, "output_scores": True, **params}
        ),
    )
    ids = out.sequences[0].tolist()[len(prompt):]
    score = getattr(out, "sequences_scores", None)
    # Beam search pads behind the end token where another beam went on for longer.
    eos = params.get("eos_token_id", [])
    eos = eos if isinstance(eos, list) else [eos]
    ends = [i for i, token in enumerate(ids) if token in eos]
    ids = ids[: ends[0] + 1] if ends else ids
    case = {"vocab": vocab, "seed": seed, "spread": spread, "prompt": prompt, "params": params, "ids": ids}
    if score is not None:
        case["score"] = float(score[0])
    return case


def random_params(rng, vocab):
    tokens = lambda n: rng.sample(range(vocab), n)
    params = {"max_new_tokens": rng.choice([1, 2, 5, 9, 14])}
    params["num_beams"] = rng.choice([1, 1, 2, 3, 4, 6])
    if rng.random() < 0.9:
        params["eos_token_id"] = rng.choice([tokens(1)[0], tokens(2), tokens(5)])
    if params["num_beams"] > 1:
        params["length_penalty"] = rng.choice([1.0, 0.0, 0.6, 2.0, -1.0])
        params["early_stopping"] = rng.choice([False, True, "never"])
    optional = {
        "repetition_penalty": lambda: rng.choice([1.3, 2.0, 0.8]),
        "no_repeat_ngram_size": lambda: rng.choice([1, 2, 3]),
        "bad_words_ids": lambda: [tokens(1), tokens(2), tokens(2), tokens(3)],
        "min_new_tokens": lambda: rng.choice([1, 3]),
        "min_length": lambda: rng.choice([2, 4]),
        "forced_bos_token_id": lambda: tokens(1)[0],
        "forced_eos_token_id": lambda: rng.choice([tokens(1)[0], tokens(2)]),
        "suppress_tokens": lambda: tokens(2),
        "begin_suppress_tokens": lambda: tokens(3),
        "renormalize_logits": lambda: True,
        "remove_invalid_values": lambda: True,
    }
    for name, make in optional.items():
        if rng.random() < 0.2:
            params[name] = make()
    if params["num_beams"] > 1 and isinstance(params.get("forced_eos_token_id"), list):
        # Forced tokens are level, and which of them `topk` takes is not defined.
        params["forced_eos_token_id"] = params["forced_eos_token_id"][0]
    return params


def kept(rng):
    """The distribution that temperature, top-k, top-p and min-p leave of one row."""
    vocab, seed = rng.choice([11, 40, 300]), rng.randrange(1 << 20)
    params = {"do_sample": True, "temperature": rng.choice([0.3, 0.7, 1.0, 1.7])}
    params["top_k"] = rng.choice([0, 1, 5, 50])
    params["top_p"] = rng.choice([1.0, 0.95, 0.6, 0.1, 0.0])
    if rng.random() < 0.5:
        params["min_p"] = rng.choice([0.02, 0.2, 1.0])
    spread = rng.choice([0.25, 0.5, 1.0])
    model = toy(vocab, seed, spread)
    config = GenerationConfig(**params, num_beams=1)
    config._eos_token_tensor = None
    processors = model._get_logits_processor(config, input_ids_seq_length=1, logits_processor=LogitsProcessorList())
    row = torch.tensor([[logit([1], token, seed, spread) for token in range(vocab)]])
    left = processors(torch.tensor([[1]]), row)[0].double().softmax(0)
    pairs = [[i, float(f"{p:.6g}")] for i, p in enumerate(left.tolist()) if p > 0]
    return {"vocab": vocab, "seed": seed, "spread": spread, "params": params, "kept": pairs}


def main():
    rng = random.Random(3)
    transformers.logging.set_verbosity_error()
    generated = []
    while len(generated) < 400:
        vocab = rng.choice([9, 13, 31])
        prompt = [rng.randrange(vocab) for _ in range(rng.choice([1, 1, 3]))]
        args = vocab, rng.randrange(1 << 20), rng.choice([0.125, 0.25, 0.5]), prompt
        try:
            case = generate(*args, random_params(rng, vocab))
        except ValueError:  # Settings that contradict each other.
            continue
        # Where nothing finished, the answer is whatever filled up the beams.
        if case.get("score", 0.0) > -1e6:
            generated.append(case)
    cases = {"transformers": transformers.__version__, "generate": generated, "sample": [kept(rng) for _ in range(60)]}
    with open(sys.argv[1], "w") as file:
        body = {k: json.dumps(v) if isinstance(v, str) else "[\n" + ",\n".join(map(json.dumps, v)) + "\n]" for k, v in cases.items()}
        file.write("{" + ",\n".join(f'"{k}": {v}' for k, v in body.items()) + "}\n")


if __name__ == "__main__":
    main()
