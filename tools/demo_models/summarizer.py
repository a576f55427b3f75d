"""The summarizer: T5 from a short report to one sentence."""

import seq2seq
import tokenization
import training
from grammar import reports

SEED = 41
REPORTS, HELD_OUT = 150_000, 200
STEPS, BATCH, PEAK = 5_000, 48, 3e-3


def build(folder, steps=STEPS):
    """Trains and writes the model; returns the seconds taken."""
    training.start(SEED)
    tasks = reports.reports(SEED, REPORTS, held_out=False)
    held_out = reports.reports(SEED + 1, HELD_OUT, held_out=True)
    # Names are cut into their halves, so that an unseen name is made of pieces that were seen.
    texts = [text for row in tasks[:20_000] for text in row.values()]
    tokenizer = tokenization.seq2seq_tokenizer(reports.with_boundaries(texts), 896, reports.BOUNDARY)
    tokenization.check_round_trips(tokenizer, [text for row in held_out for text in row.values()])
    settings = seq2seq.config(tokenizer.get_vocab_size(), layers=3, d_model=96, d_kv=24, heads=4, d_ff=288)
    model = seq2seq.new_model(settings)
    seconds = seq2seq.train(model, tokenizer, tasks, steps, BATCH, PEAK, SEED)
    seq2seq.write(folder, model, tokenizer, settings, held_out)
    return seconds
