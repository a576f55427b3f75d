"""Writes tests/goldens_encoders: small random encoders of every family and class, with the outputs
of transformers in float64, in the form of tests/goldens.

    python tools/encoder_goldens.py tests/goldens_encoders

Needs torch, transformers and safetensors.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

SEED = 20260117
LENGTHS = [5, 11, 1]
COMMON = dict(
    vocab_size=61,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=35,
    max_position_embeddings=19,
    type_vocab_size=2,
    pad_token_id=1,
)
DISTILBERT = dict(
    vocab_size=61, dim=24, n_layers=2, n_heads=3, hidden_dim=35, max_position_embeddings=19,
    pad_token_id=1, activation="relu",
)
ALBERT = dict(COMMON, embedding_size=14, num_hidden_layers=5, num_hidden_groups=2)
T5 = dict(
    vocab_size=61, d_model=20, d_kv=6, d_ff=26, num_layers=2, num_heads=3, pad_token_id=1,
    relative_attention_num_buckets=7, relative_attention_max_distance=9,
)
LABELS = dict(id2label={0: "O", 1: "B-A", 2: "I-A"}, label2id={"O": 0, "B-A": 1, "I-A": 2})

# Folder, class, configuration.
MODELS = [
    ("albert_base", "AlbertModel", ALBERT),
    ("albert_cls", "AlbertForSequenceClassification", ALBERT | LABELS),
    ("albert_mlm", "AlbertForMaskedLM", ALBERT),
    ("albert_ner", "AlbertForTokenClassification", ALBERT | LABELS | dict(hidden_act="gelu")),
    ("bert_qa_relu", "BertForQuestionAnswering", COMMON | dict(hidden_act="relu")),
    ("distilbert_base", "DistilBertModel", DISTILBERT),
    ("distilbert_mlm", "DistilBertForMaskedLM", DISTILBERT),
    ("distilbert_ner", "DistilBertForTokenClassification", DISTILBERT | LABELS),
    ("distilbert_qa", "DistilBertForQuestionAnswering", DISTILBERT),
    ("electra_cls", "ElectraForSequenceClassification", COMMON | LABELS | dict(embedding_size=14)),
    ("electra_detect", "ElectraForPreTraining", COMMON | dict(embedding_size=24)),
    ("electra_mlm", "ElectraForMaskedLM", COMMON | dict(embedding_size=14)),
    ("mpnet_base", "MPNetModel", COMMON),
    ("mpnet_cls", "MPNetForSequenceClassification", COMMON | LABELS),
    ("mpnet_mlm", "MPNetForMaskedLM", COMMON),
    ("roberta_base", "RobertaModel", COMMON | dict(type_vocab_size=1, pad_token_id=3)),
    ("roberta_cls", "RobertaForSequenceClassification", COMMON | LABELS | dict(type_vocab_size=1)),
    ("roberta_untied", "RobertaForMaskedLM", COMMON | dict(tie_word_embeddings=False)),
    ("xlmr_ner", "XLMRobertaForTokenClassification", COMMON | LABELS | dict(type_vocab_size=1)),
    ("bert_pretraining", "BertForPreTraining", COMMON),
    ("t5_encoder", "T5EncoderModel", T5),
]


def randomise(model):
    """Norm weights near 1, all other values wide enough that a mistake shows."""
    for name, parameter in model.named_parameters():
        norm = "norm" in name.lower() and name.endswith("weight")
        parameter.data = torch.randn_like(parameter) * 0.3 + (1.0 if norm else 0.0)


def inputs(config):
    """One batch of rows of different lengths, padded on the right."""
    pad, longest = config.pad_token_id, max(LENGTHS)
    ids = torch.full((len(LENGTHS), longest), pad)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(4, config.vocab_size, (length,))
        mask[row, :length] = 1
    given = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1 and config.model_type != "mpnet":
        given["token_type_ids"] = torch.randint(0, 2, ids.shape) * mask
    return given


def write(folder, name, model):
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    given = inputs(model.config)
    with torch.no_grad():
        result = model.double()(**given, output_hidden_states=True, return_dict=True)
    tensors = {f"batch.{k}": v for k, v in given.items()}
    outputs = {}
    for output, value in result.items():
        per_token = value[0].dim() > 1 if isinstance(value, tuple) else value.shape[1:2] == given["input_ids"].shape[1:]
        entry = {"mask": "attention_mask" if per_token else None}
        if isinstance(value, tuple):
            entry["tensors"] = [f"batch.{output}.{i}" for i in range(len(value))]
            tensors |= {n: v.float().contiguous() for n, v in zip(entry["tensors"], value)}
        else:
            entry |= {"tensor": f"batch.{output}", "f64": None, "shape": list(value.shape)}
            tensors[entry["tensor"]] = value.float().contiguous()
        outputs[output] = entry
    case = {
        "name": "batch",
        "kind": "forward",
        "inputs": {k: f"batch.{k}" for k in given},
        "outputs": outputs,
    }
    save_file(tensors, folder / "golden.safetensors")
    golden = {"name": name, "transformers": transformers.__version__, "cases": [case]}
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def main():
    to = Path(sys.argv[1])
    for index, (name, kind, settings) in enumerate(MODELS):
        torch.manual_seed(SEED + index)
        of = getattr(transformers, kind)
        model = of(of.config_class(**settings)).eval()
        randomise(model)
        write(to / name, name, model)


if __name__ == "__main__":
    main()
