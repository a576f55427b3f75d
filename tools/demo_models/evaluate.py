"""Measures the shipped folders on their held-out files, through transformers' Auto classes.

    python evaluate.py [--only NAME] [--models FOLDER]

Weights are widened to f32; generation is greedy. Prints one table.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

import training
from grammar import stories

MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"


def lines(folder):
    """The held-out rows of a folder."""
    return [json.loads(line) for line in (folder / "held_out.jsonl").read_text("utf-8").splitlines()]


def chunks(rows, size=50):
    """Rows in batches."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def loaded(auto, folder):
    """A model with f32 weights; a missing or unexpected tensor is an error."""
    model, report = auto.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {key: names for key, names in report.items() if names}
    if wrong:
        raise ValueError(f"{folder}: {wrong}")
    return model.eval()


def seq2seq(folder):
    """Exact match of greedy generation; as many figures as there are prefixes."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), loaded(AutoModelForSeq2SeqLM, folder)
    scores, wrong = {}, []
    for batch in chunks(lines(folder)):
        inputs = tokenizer([row["source"] for row in batch], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        outputs = model.generate(**inputs, do_sample=False, num_beams=1)
        for row, text in zip(batch, tokenizer.batch_decode(outputs, skip_special_tokens=True)):
            task = row["source"].split(":")[0] if row["source"].startswith("to ") else "all"
            scores.setdefault(task, []).append(text == row["target"])
            if text != row["target"]:
                wrong.append((row["source"], row["target"], text))
    figures = [
        (f"exact match, {task}" if task != "all" else "exact match", sum(hits) / len(hits), len(hits))
        for task, hits in sorted(scores.items())
    ]
    return figures, wrong


def storyteller(folder):
    """Perplexity of the stories, and how many greedy continuations of the prompts keep their facts."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), loaded(AutoModelForCausalLM, folder)
    rows, lost, tokens, kept, wrong = lines(folder), 0.0, 0, 0, []
    for row in rows:
        ids = torch.tensor([tokenizer(row["story"]).input_ids])
        lost += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
        prompt = torch.tensor([tokenizer(row["prompt"]).input_ids])
        output = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False)[0]
        text = tokenizer.decode(output, skip_special_tokens=True)
        ended = output[-1].item() == model.config.eos_token_id
        if ended and stories.keeps_its_facts(text):
            kept += 1
        else:
            wrong.append((row["prompt"], text))
    return [
        (f"perplexity ({tokens} tokens)", math.exp(lost / tokens), len(rows)),
        ("stories that keep their facts", kept / len(rows), len(rows)),
    ], wrong


def with_head(auto, folder, head):
    """The trunk of a folder under one of its heads."""
    model = auto.from_config(AutoConfig.from_pretrained(folder / "heads" / head)).float()
    trunk = load_file(folder / "model.safetensors")
    state = {name: tensor.float() for name, tensor in trunk.items() if name.startswith("bert.")}
    state |= {name: tensor.float() for name, tensor in load_file(folder / "heads" / head / "model.safetensors").items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def masked_words(folder, tokenizer):
    """How often the masked word is the best, or among the five best."""
    model = loaded(AutoModelForMaskedLM, folder)
    rows, first, five, wrong = lines(folder), 0, 0, []
    for row in rows:
        ids = tokenizer(row["text"], return_tensors="pt").input_ids
        scores = model(input_ids=ids).logits[ids == tokenizer.mask_token_id][0]
        best = tokenizer.convert_ids_to_tokens(scores.topk(5).indices.tolist())
        first += best[0] == row["token"]
        five += row["token"] in best
        if row["token"] not in best:
            wrong.append((row["text"], row["token"], best))
    return [
        ("masked word, top 1", first / len(rows), len(rows)),
        ("masked word, top 5", five / len(rows), len(rows)),
    ], wrong


def sentiment(folder, tokenizer):
    """Accuracy over the three labels."""
    model = with_head(AutoModelForSequenceClassification, folder, "sentiment")
    rows, right, wrong = lines(folder / "heads" / "sentiment"), 0, []
    for row in rows:
        found = model.config.id2label[model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax().item()]
        right += found == row["label"]
        if found != row["label"]:
            wrong.append((row["text"], row["label"], found))
    return [("sentiment accuracy", right / len(rows), len(rows))], wrong


def grouped(encoding, labels):
    """Entities of a text: the labels of the words' first pieces, joined by BIO."""
    found, last = [], None
    for at, word in enumerate(encoding.word_ids()):
        if word is None:
            continue
        start, end = encoding["offset_mapping"][at]
        if word == last:
            if found and found[-1]["word"] == word:
                found[-1]["end"] = end
            continue
        last, (place, _, kind) = word, labels[at].partition("-")
        if place == "I" and found and found[-1]["word"] == word - 1 and found[-1]["label"] == kind:
            found[-1] |= {"end": end, "word": word}
        elif place in "BI":
            found.append({"label": kind, "start": start, "end": end, "word": word})
    return {(entity["label"], entity["start"], entity["end"]) for entity in found}


def entities(folder, tokenizer):
    """F1 over entities with exact kind and offsets, and texts without any mistake."""
    model = with_head(AutoModelForTokenClassification, folder, "entities")
    rows, hits, found_count, wanted_count, right, wrong = lines(folder / "heads" / "entities"), 0, 0, 0, 0, []
    for row in rows:
        encoding = tokenizer(row["text"], return_offsets_mapping=True)
        scores = model(input_ids=torch.tensor([encoding.input_ids])).logits[0]
        found = grouped(encoding, [model.config.id2label[at] for at in scores.argmax(-1).tolist()])
        wanted = {(entity["label"], entity["start"], entity["end"]) for entity in row["entities"]}
        hits, found_count, wanted_count = (
            hits + len(found & wanted),
            found_count + len(found),
            wanted_count + len(wanted),
        )
        right += found == wanted
        if found != wanted:
            wrong.append((row["text"], sorted(wanted - found), sorted(found - wanted)))
    return [
        ("entity F1 (exact)", 2 * hits / (found_count + wanted_count), wanted_count),
        ("texts with all entities right", right / len(rows), len(rows)),
    ], wrong


def answers(folder, tokenizer):
    """How often the best span of the text is the answer, exactly."""
    model = with_head(AutoModelForQuestionAnswering, folder, "answers")
    rows, right, wrong = lines(folder / "heads" / "answers"), 0, []
    for row in rows:
        encoding = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
        inputs = {name: torch.tensor([encoding[name]]) for name in ("input_ids", "token_type_ids")}
        scores = model(**inputs)
        spans = scores.start_logits[0][:, None] + scores.end_logits[0][None, :]
        text = torch.tensor([part == 1 for part in encoding.sequence_ids()])
        allowed = (text[:, None] & text[None, :]).triu().tril(14)
        first, last = divmod(spans.masked_fill(~allowed, -1e9).argmax().item(), len(text))
        start, end = encoding["offset_mapping"][first][0], encoding["offset_mapping"][last][1]
        right += (start, end) == (row["start"], row["start"] + len(row["answer"]))
        if row["context"][start:end] != row["answer"]:
            wrong.append((row["context"], row["question"], row["answer"], row["context"][start:end]))
    return [("answers, exactly", right / len(rows), len(rows))], wrong


def reader(folder):
    """All four tasks of the trunk."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = [sentiment(folder, tokenizer), entities(folder, tokenizer)]
    parts += [answers(folder, tokenizer), masked_words(folder, tokenizer)]
    return sum((figures for figures, _ in parts), []), sum((wrong for _, wrong in parts), [])


CHECKS = {"storyteller": storyteller, "reader": reader, "translator": seq2seq, "summarizer": seq2seq}


def evaluate(name, folder):
    """The figures of one model: (measure, value, held-out examples), and what went wrong."""
    training.start(0)
    with torch.no_grad():
        return CHECKS[name](Path(folder))


def percent(measure, value):
    """A figure as it is printed."""
    return f"{value:.2f}" if "perplexity" in measure else f"{100 * value:.1f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CHECKS)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--errors", action="store_true", help="also print what went wrong")
    arguments = parser.parse_args()
    print(f"| {'model':12} | {'measure':28} | {'value':>8} | held-out |\n|{'-' * 14}|{'-' * 30}|{'-' * 10}|{'-' * 10}|")
    for name in [arguments.only] if arguments.only else CHECKS:
        figures, wrong = evaluate(name, arguments.models / name)
        for measure, value, count in figures:
            print(f"| {name:12} | {measure:28} | {percent(measure, value):>8} | {count:8} |", flush=True)
        if arguments.errors:
            for row in wrong:
                print("   ", *row, sep="\n      ")


if __name__ == "__main__":
    main()
