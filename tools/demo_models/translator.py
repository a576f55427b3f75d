"""The translator: T5 between controlled English and Talu, in both directions."""

import seq2seq
import tokenization
import training
from grammar import translation

SEED = 31
PAIRS, HELD_OUT = 200_000, 120
STEPS, BATCH, PEAK = 7_000, 64, 3e-3


def build(folder, steps=STEPS):
    """Trains and writes the model; returns the seconds taken."""
    training.start(SEED)
    pairs = translation.sentences(SEED, PAIRS, held_out=False)
    held_out = list(translation.tasks(translation.sentences(SEED + 1, HELD_OUT, held_out=True)))
    marked = [text for pair in pairs[:20_000] for text in pair]
    tokenizer = tokenization.seq2seq_tokenizer(marked + ["to talu: to english: "] * 500, 768, translation.BOUNDARY)
    tokenization.check_round_trips(tokenizer, [row[side] for row in held_out for side in row])
    settings = seq2seq.config(tokenizer.get_vocab_size(), layers=3, d_model=96, d_kv=24, heads=4, d_ff=288)
    model = seq2seq.new_model(settings)
    tasks = list(translation.tasks(pairs))
    seconds = seq2seq.train(model, tokenizer, tasks, steps, BATCH, PEAK, SEED)
    seq2seq.write(folder, model, tokenizer, settings, held_out)
    return seconds
