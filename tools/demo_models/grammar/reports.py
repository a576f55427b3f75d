"""Short news reports and their one-sentence summaries.

A report opens with its event, tells the facts in any order and in several wordings, and mixes in
sentences that do not matter: other days, other places, first counts that are corrected later.
The summary is a function of the facts alone, so it can be checked word for word.
"""

import re

from .common import collect, listing
from .events import COUNTS, DAYS, EVENTS, SURNAME_ENDS, SURNAME_STARTS, TOWN_ENDS, TOWN_STARTS, World

BOUNDARY = "·"


def aside(rng, world, day):
    """A sentence that does not matter."""
    other_day = rng.choice([name for name in DAYS if name != day])
    return rng.choice(
        [
            f"{world.person(rng)} saw it from a window.",
            f"the news reached {world.town(rng)} within an hour.",
            f"a meeting is planned for {other_day}.",
            f"something like it happened in {world.town(rng)} {rng.choice(COUNTS)} years ago.",
            f'"i could not believe it", said {world.person(rng)}.',
            "the weather had been fine all week.",
            f"the newspaper of {world.town(rng)} will print a longer story on {other_day}.",
            f"visitors had come from {listing(rng.sample(world.towns, 2))}.",
        ]
    )


def report(rng, world):
    """One report as {"source", "target"}."""
    town, day = world.town(rng), rng.choice(DAYS)
    lead, facts, summary = rng.choice(EVENTS)(rng, world, town, day)
    rest = facts + [aside(rng, world, day) for _ in range(rng.choice([0, 1, 1, 2]))]
    rng.shuffle(rest)
    return {"source": " ".join([lead, *rest]), "target": summary}


def reports(seed, count, held_out):
    """Reports of one side of the split; the held-out side has names never seen in training."""
    world = World(held_out)
    return collect(lambda rng: report(rng, world), lambda row: row["source"], seed, count, held_out)


def with_boundaries(texts):
    """The texts with a mark between the halves of every name, for the tokenizer to learn from."""
    halves = [(TOWN_STARTS, TOWN_ENDS), (SURNAME_STARTS, SURNAME_ENDS)]
    marked = {start + end: start + BOUNDARY + end for starts, ends in halves for start in starts for end in ends}
    return [re.sub(r"[a-z]+", lambda word: marked.get(word[0], word[0]), text) for text in texts]
