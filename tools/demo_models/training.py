"""The training loop that the demo models share."""

import math
import random
import time

import torch

THREADS = 1


def start(seed):
    """Fixes the seeds and the number of threads, on which the order of sums depends."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    random.seed(seed)


def learning_rate(step, steps, peak, warmup):
    """Linear warm-up, then a cosine down to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(model, loss_of, batches, steps, peak, warmup=300, report=200, weight_decay=0.01):
    """AdamW for `steps` batches; `loss_of(batch)` is the loss of one. Returns the seconds taken.

    Vectors (biases and norms) are not decayed.
    """
    parameters = list({id(p): p for p in model.parameters()}.values())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), eps=1e-9)
    model.train()
    began = time.time()
    total = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, warmup)
        loss = loss_of(next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % report == 0:
            print(f"  step {step + 1}/{steps}: loss {total / report:.4f}, {time.time() - began:.0f} s", flush=True)
            total = 0.0
    model.eval()
    return time.time() - began


def padded(rows, value):
    """Rows of ids as one rectangle."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def shuffled_batches(examples, size, seed, length):
    """Batches for ever, of examples of like length so that little is padding."""
    rng = random.Random(seed)
    pool = size * 50
    while True:
        order = list(range(len(examples)))
        rng.shuffle(order)
        for at in range(0, len(order), pool):
            part = sorted(order[at : at + pool], key=lambda i: length(examples[i]))
            batches = [part[i : i + size] for i in range(0, len(part), size)]
            rng.shuffle(batches)
            for batch in batches:
                yield [examples[i] for i in batch]
