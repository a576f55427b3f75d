"""Reviews of one to three sentences, with their sentiment.

The words alone do not tell the label: negation turns them, `but` and `although` leave one side in
charge, and what was hoped or feared counts for nothing. The rules, from the sentence up:
a clause has the polarity of its word, turned by a negation; in a contrast the main side decides;
sentences of one review agree, or a last verdict decides; facts and balances are neutral.
"""

from .common import article, collect

LABELS = ["negative", "neutral", "positive"]
THINGS = {
    "film": "plot|acting|ending|music|story|camera work",
    "book": "plot|ending|story|first chapter|style|cover",
    "restaurant": "food|service|soup|dessert|menu|coffee",
    "hotel": "room|service|breakfast|view|bed|pool",
    "phone": "screen|battery|camera|sound|price|keyboard",
    "concert": "music|singer|sound|band|hall|last song",
    "game": "story|music|controls|graphics|ending|first level",
    "museum": "guide|cafe|collection|shop|building|tour",
    "bike": "frame|saddle|price|brakes|design|lamp",
    "course": "teacher|material|pace|homework|room|price",
    "play": "acting|plot|costumes|ending|stage|music",
    "cafe": "coffee|cake|service|music|tea|terrace",
}
THINGS = {thing: parts.split("|") for thing, parts in THINGS.items()}
ALSO = {"film": ["movie"], "restaurant": ["place"], "hotel": ["place"], "cafe": ["place"], "phone": ["device"]}
PLURAL = {"controls", "graphics", "costumes", "brakes"}
# Words that fit anything, and words that fit some: positive / negative.
GOOD = (
    "good great wonderful excellent lovely superb beautiful brilliant fantastic impressive perfect amazing "
    "splendid fine nice delightful outstanding pleasant"
).split()
BAD = (
    "bad terrible awful horrible poor dreadful disappointing annoying weak unpleasant lousy mediocre "
    "miserable ugly hopeless shocking"
).split()
SPECIAL = [
    (
        "film book play game concert course plot acting ending music story style band singer sound tour first_chapter first_level material",
        "clever gripping moving funny charming enjoyable interesting",
        "boring dull predictable silly tedious forgettable",
    ),
    ("food soup dessert menu coffee cake tea breakfast", "tasty delicious fresh", "bland stale disgusting tasteless"),
    ("service teacher guide singer", "friendly helpful polite", "rude slow careless unfriendly"),
    (
        "phone bike screen battery camera keyboard saddle brakes frame lamp controls",
        "reliable solid useful",
        "faulty clumsy useless",
    ),
    (
        "restaurant hotel cafe museum room bed pool hall terrace building stage",
        "clean cosy comfortable",
        "dirty noisy cramped",
    ),
    ("price", "fair", "steep"),
]
LIKED, LIKE = ["loved", "liked", "enjoyed", "adored", "admired"], ["love", "like", "enjoy", "adore", "recommend"]
HATED, HATE = ["hated", "disliked", "regretted", "despised"], ["hate", "dislike", "regret", "despise"]
DEGREES = ["very", "really", "quite", "so", "truly", "rather", "absolutely"]
VERDICTS = {
    1: [
        "i would go again",
        "i will come back",
        "it was worth every penny",
        "i would recommend it to anyone",
        "i am happy with it",
        "it made my day",
        "five stars from me",
        "it exceeded my hopes",
        "what a success",
        "i left with a smile",
    ],
    -1: [
        "i would not go again",
        "i will never come back",
        "it was a waste of money",
        "i cannot recommend it to anyone",
        "i am not happy with it",
        "it ruined my day",
        "one star from me",
        "it fell short of my hopes",
        "what a failure",
        "i want my money back",
    ],
}
FACTS = [
    "the {thing} is near the station",
    "i was there on {day}",
    "we went there with {people}",
    "it costs {count} euros",
    "my {relative} told me about it",
    "i bought it in {month}",
    "it took about {count} hours",
    "there were {count} of us",
    "the {thing} is from {month}",
    "we paid by card",
    "it was my {first} visit",
    "i have had it for {count} weeks",
]
FILL = {
    "day": "monday tuesday friday saturday sunday".split(),
    "people": ["friends", "my family", "two colleagues", "the children"],
    "count": "two three four five six ten twelve twenty".split(),
    "relative": "sister brother mother father neighbour friend".split(),
    "month": "march may june august october december".split(),
    "first": "first second third".split(),
}


def noun(rng, thing):
    """The thing, or one of its parts, as (phrase, `was` or `were`, what it is)."""
    roll = rng.random()
    if roll < 0.12:
        return "it", "was", thing
    if roll < 0.45:
        return rng.choice(["the", "this"]) + " " + rng.choice([thing, thing, *ALSO.get(thing, [])]), "was", thing
    part = rng.choice(THINGS[thing])
    return f"the {part}", "were" if part in PLURAL else "was", part


def adjective(rng, polarity, what):
    """A word of one polarity that can be said of something."""
    special = [row[1 if polarity > 0 else 2].split() for row in SPECIAL if what.replace(" ", "_") in row[0].split()]
    if special and rng.random() < 0.4:
        return rng.choice(rng.choice(special))
    return rng.choice(GOOD if polarity > 0 else BAD)


def degree(rng):
    return rng.choice(DEGREES) + " " if rng.random() < 0.35 else ""


def clause(rng, thing, polarity):
    """A clause of one polarity, plain or by negation."""
    phrase, verb, what = noun(rng, thing)
    own, other = adjective(rng, polarity, what), adjective(rng, -polarity, what)
    liked, unlike = (LIKED, HATE) if polarity > 0 else (HATED, LIKE)
    if rng.random() < 0.6:
        return rng.choice(
            [
                f"{phrase} {verb} {degree(rng)}{own}",
                f"{phrase} {verb} {degree(rng)}{own}",
                f"i {rng.choice(['really ', '', ''])}{rng.choice(liked)} {phrase}",
                f"i found {phrase} {degree(rng)}{own}",
                f"everyone called {phrase} {own}",
            ]
        )
    return rng.choice(
        [
            f"{phrase} {verb} not {rng.choice(['', 'very ', 'really '])}{other}",
            f"{phrase} {verb} not {other} at all",
            f"{phrase} {verb}n't {rng.choice(['', 'very ', 'that '])}{other}",
            f"i {rng.choice(['did not', 'did not really', 'never'])} {rng.choice(unlike)} {phrase}".replace(
                "never ", "could never "
            ),
            f"{phrase} {verb} never {other}",
            f"nobody could call {phrase} {other}",
            f"there was nothing {other} about {phrase}",
            f"{phrase} {verb} anything but {other}",
            f"{phrase} {verb} far from {other}",
        ]
    )


def short(rng, thing, polarity):
    """What people write when they are in a hurry."""
    own, other = adjective(rng, polarity, thing), adjective(rng, -polarity, thing)
    name = rng.choice([thing, *ALSO.get(thing, [])])
    best = "best" if polarity > 0 else "worst"
    return rng.choice(
        [
            f"what {article(own)} {name}!",
            f"{own} {name}.",
            f"this is {article(own)} {name}.",
            f"this is {degree(rng)}{own}.",
            f"the {best} {name} i know.",
            f"this is the {best} {name} in years.",
            f"not {article(other)} {name}.",
            f"i {rng.choice(LIKE if polarity > 0 else HATE)} this {name}.",
            f"i do not {rng.choice(HATE if polarity > 0 else LIKE)} this {name}.",
            f"{rng.choice(VERDICTS[polarity])}.",
        ]
    )


def contrast(rng, thing, polarity):
    """A sentence whose main side has the polarity, and whose other side has not."""
    main, side = clause(rng, thing, polarity), clause(rng, thing, -polarity)
    part = rng.choice(THINGS[thing])
    other = adjective(rng, -polarity, part)
    better, worse = ("better", "feared") if polarity > 0 else ("worse", "hoped")
    return rng.choice(
        [
            f"{side}, but {main}.",
            f"{side}, but {main}.",
            f"although {side}, {main}.",
            f"{main}, although {side}.",
            f"{side}. still, {main}.",
            f"{side}. however, {main}.",
            f"i {worse} that the {part} would be {other}, but {main}.",
            f"i {rng.choice(['expected', 'thought it would be'])} {article(adjective(rng, -polarity, thing))} {thing}, but {main}.",
            f"despite the {other} {part}, {main}.",
            f"my {rng.choice(FILL['relative'])} called it {adjective(rng, -polarity, thing)}, but {main}.",
            f"it was {better} than i {worse}.",
            f"{side}, yet {main}.",
        ]
    )


def fact(rng, thing):
    """A sentence without sentiment."""
    fill = {name: rng.choice(options) for name, options in FILL.items()}
    return rng.choice(FACTS).format(thing=thing, **fill) + "."


def balance(rng, thing):
    """A sentence that takes no side."""
    phrase, verb, what = noun(rng, thing)
    good, bad = adjective(rng, 1, what), adjective(rng, -1, what)
    return rng.choice(
        [
            f"{phrase} {verb} neither {good} nor {bad}.",
            f"{phrase} {verb} neither {bad} nor {good}.",
            f"some called {phrase} {good}, others {bad}.",
            f"some called {phrase} {bad}, others {good}.",
            f"{phrase} {verb} {rng.choice(['okay', 'average', 'ordinary', 'as expected', 'like any other'])}.",
            f"i have no opinion about {phrase}.",
            f"i am not sure what to think of {phrase}.",
            f"{phrase} {verb} not {good}, but not {bad} either.",
        ]
    )


def review(rng):
    """One review as {"text", "label"}."""
    thing = rng.choice(list(THINGS))
    label = rng.choice(LABELS)
    facts = [fact(rng, thing) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    if label == "neutral":
        told = [balance(rng, thing)] if rng.random() < 0.6 else [fact(rng, thing)]
        sentences = told + facts[:1]
        rng.shuffle(sentences)
        return {"text": " ".join(dict.fromkeys(sentences)), "label": label}
    polarity = 1 if label == "positive" else -1
    kind = rng.choices(["plain", "short", "contrast", "verdict"], [30, 15, 35, 20])[0]
    if kind == "plain":
        clauses = [clause(rng, thing, polarity) for _ in range(rng.choice([1, 2, 2]))]
        told = [" and ".join(clauses) + "."] if rng.random() < 0.5 else [text + "." for text in clauses]
    elif kind == "short":
        told = [short(rng, thing, polarity)]
    elif kind == "contrast":
        told = [contrast(rng, thing, polarity)]
        if rng.random() < 0.3:
            told.append(clause(rng, thing, polarity) + ".")
    else:
        before = clause(rng, thing, rng.choice([polarity, -polarity])) + "."
        after = rng.choice([clause(rng, thing, polarity), rng.choice(VERDICTS[polarity])])
        told = [
            before,
            f"{rng.choice(['all in all', 'in the end', 'overall', 'my verdict:', 'in short'])}, {after}.".replace(
                ":,", ":"
            ),
        ]
    # A fact may come first or last; it does not stand between a clause and what answers it.
    front = facts[:1] if rng.random() < 0.5 else []
    sentences = front + told + facts[len(front) :][:1]
    if rng.random() < 0.2 and polarity > 0:
        sentences[-1] = sentences[-1][:-1] + "!"
    return {"text": " ".join(sentences), "label": label}


def reviews(seed, count, held_out):
    """Reviews of one side of the split."""
    return collect(review, lambda row: row["text"], seed, count, held_out)
