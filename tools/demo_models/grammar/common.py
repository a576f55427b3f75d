"""What the grammars share: the train / held-out split and the making of names."""

import hashlib
import random


def is_held_out(text, percent=4):
    """Whether a text belongs to the held-out side of the split.

    The side is a property of the text itself (a hash), so the two sides are disjoint whatever
    the seed and the number of examples.
    """
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent


def collect(make, key, seed, count, held_out, side=None):
    """`count` different examples of one side of the split.

    `make(rng)` writes an example, `key(example)` is its text, and `side(example)` the text that
    decides its side (the key where not given).
    """
    rng = random.Random(seed)
    seen = set()
    examples = []
    for _ in range(count * 200):
        if len(examples) == count:
            return examples
        example = make(rng)
        text = key(example)
        if text in seen or is_held_out(side(example) if side else text) != held_out:
            continue
        seen.add(text)
        examples.append(example)
    raise ValueError(f"the grammar wrote {len(examples)} different examples; {count} are needed")


def article(word):
    """`word` with its indefinite article."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def listing(words):
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def names(starts, ends, held_out):
    """All names `start + end` of one side of the split.

    A held-out name is never seen in training, though each of its halves is.
    """
    made = sorted({start + end for start in starts for end in ends})
    return [name for name in made if is_held_out(name, 15) == held_out]
