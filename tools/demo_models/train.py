"""Trains the demo models and writes their folders and cards.

python train.py [--only NAME] [--output FOLDER] [--steps N] [--cards]
"""

import argparse
from pathlib import Path

import cards
import evaluate
import export
import reader
import storyteller
import summarizer
import translator

MODELS = {"storyteller": storyteller, "reader": reader, "translator": translator, "summarizer": summarizer}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS, help="one model instead of all")
    parser.add_argument("--output", type=Path, default=evaluate.MODELS, help="where the folders go")
    parser.add_argument("--steps", type=int, help="fewer steps, to try things out")
    parser.add_argument("--cards", action="store_true", help="no training: measure again and rewrite the cards")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else MODELS:
        folder = arguments.output / name
        module = MODELS[name]
        if not arguments.cards:
            print(f"{name}: training", flush=True)
            seconds = module.build(folder, arguments.steps or module.STEPS)
            print(f"{name}: trained in {seconds / 60:.1f} minutes", flush=True)
        figures, _ = evaluate.evaluate(name, folder)
        for measure, value, count in figures:
            print(f"  {measure}: {evaluate.percent(measure, value)} of {count}", flush=True)
        (folder / "README.md").write_text(cards.card(name, module, folder, figures), encoding="utf-8")
        print(f"{name}: {export.check_size(folder)} bytes", flush=True)


if __name__ == "__main__":
    main()
