"""Questions about short news, answered by words of the news.

A text tells two or three facts with the names of `news.py`; the question is about one of them, and
its answer is a run of words of the text. Two facts never share a name, so there is one answer.
"""

from . import news
from .common import collect

# A fact, and questions with the slot that answers them. Slots are those of `news.py`, numbered
# where a fact has several of a kind.
FACTS = [
    (
        "{P} was born in {L} {D}",
        [("where was {P} born", "L"), ("who was born in {L}", "P"), ("when was {P} born", "D")],
    ),
    (
        "{P} works for {C} in {L}",
        [("who works for {C}", "P"), ("where does {P} work", "L"), ("which company does {P} work for", "C")],
    ),
    (
        "{C} will open a factory in {L} {F}",
        [
            ("who will open a factory in {L}", "C"),
            ("where will {C} open a factory", "L"),
            ("when will {C} open a factory", "F"),
        ],
    ),
    (
        "{C1} , a maker of {G} , has bought {C2}",
        [("who has bought {C2}", "C1"), ("which company has {C1} bought", "C2"), ("what does {C1} make", "G")],
    ),
    (
        "{P} left {C} {D} and joined the {I}",
        [
            ("who left {C}", "P"),
            ("which company did {P} leave", "C"),
            ("what did {P} join", "I"),
            ("when did {P} leave {C}", "D"),
        ],
    ),
    (
        "{P} studied at the {I} and later lived in {L}",
        [("who studied at the {I}", "P"), ("where did {P} study", "I"), ("where did {P} live", "L")],
    ),
    (
        "{C} hired {P} as {R} {D}",
        [("who hired {P}", "C"), ("whom did {C} hire", "P"), ("when did {C} hire {P}", "D")],
    ),
    (
        "{P1} won the race in {L} , ahead of {P2}",
        [("who won the race in {L}", "P1"), ("where did {P1} win the race", "L"), ("who came in behind {P1}", "P2")],
    ),
    (
        "the {I} was founded {D} by {P}",
        [("who founded the {I}", "P"), ("what did {P} found", "I"), ("when was the {I} founded", "D")],
    ),
    (
        "{P} moved from {L1} to {L2} {D}",
        [
            ("where did {P} move from", "L1"),
            ("where did {P} move to", "L2"),
            ("who moved to {L2}", "P"),
            ("when did {P} move to {L2}", "D"),
        ],
    ),
    (
        "{P} has written {N} books about {L}",
        [("who has written books about {L}", "P"), ("how many books has {P} written", "N")],
    ),
    (
        "{N} workers of {C} went on strike {D}",
        [("how many workers of {C} went on strike", "N"), ("when did workers of {C} go on strike", "D")],
    ),
    (
        "the headquarters of {C} are in {L}",
        [("where are the headquarters of {C}", "L"), ("which company has its headquarters in {L}", "C")],
    ),
    (
        "{P} , who comes from {L} , leads {C}",
        [("who leads {C}", "P"), ("where does {P} come from", "L"), ("which company does {P} lead", "C")],
    ),
    (
        "the trial of {P} begins {F} in {L}",
        [("where does the trial of {P} begin", "L"), ("when does the trial of {P} begin", "F")],
    ),
    (
        "{P1} met {P2} in {L}",
        [("whom did {P1} meet", "P2"), ("where did {P1} meet {P2}", "L"), ("who met {P2}", "P1")],
    ),
    (
        "flights from {L1} to {L2} will begin {F} , said {C}",
        [("when will flights from {L1} to {L2} begin", "F"), ("who spoke of flights to {L2}", "C")],
    ),
]


def values(fact, world, rng):
    """A value for every slot of a fact; (words in front, words) for dates."""
    make = {
        "P": world.person,
        "L": world.place,
        "C": world.company,
        "I": world.institution,
        "R": lambda r: r.choice(news.ROLES),
        "G": lambda r: r.choice(news.GOODS),
        "N": lambda r: r.choice(news.NUMBERS),
    }
    found = {}
    for word in fact.split():
        slot = word.strip("{}")
        if slot == word:
            continue
        if slot in "DF":
            before, date = news.when(world, rng, "last" if slot == "D" else "next").split("[DATE:")
            found[slot] = (before.strip(), date.strip("]"))
        else:
            found[slot] = ("", make[slot[0]](rng))
    return found


def joined(words):
    """Words as text: no space in front of a comma, a full stop or a question mark."""
    return "".join(word if at == 0 or word in ",.?" else f" {word}" for at, word in enumerate(words))


def example(rng, world):
    """{"question", "context", "answer", "start"}, `start` in characters; None where names meet twice."""
    facts = rng.sample(FACTS, rng.choice([2, 2, 3]))
    slots = [values(fact, world, rng) for fact, _ in facts]
    names = [word for each in slots for _, value in each.values() for word in value.split() if len(word) > 3]
    asked = rng.randrange(len(facts))
    question, answer = rng.choice(facts[asked][1])
    words, start = [], 0
    for (fact, _), each in zip(facts, slots):
        for word in fact.split():
            slot = word.strip("{}")
            before, value = each[slot] if slot != word else ("", word)
            words += before.split()
            if each is slots[asked] and slot == answer:
                start = len(joined([*words, "x"])) - 1
            words += value.split()
        words.append(".")
    if len(names) != len(set(names)):
        return None
    wording = " ".join(slots[asked][w.strip("{}")][1] if w.startswith("{") else w for w in question.split())
    return {"question": f"{wording}?", "context": joined(words), "answer": slots[asked][answer][1], "start": start}


def examples(seed, count, held_out):
    """Questions of one side of the split; the held-out side has names never seen in training."""
    world = news.World(held_out)

    def make(rng):
        while (row := example(rng, world)) is None:
            pass
        return row

    return collect(make, lambda row: f"{row['question']} {row['context']}", seed, count, held_out)
