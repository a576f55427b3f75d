"""Sentences of news with their named entities: PER, ORG, LOC and DATE.

Names are put together from pieces, and the pieces of persons, places and companies overlap: the
same `tormin` is a person who speaks, a company that hires or a town one travels to, so only the
sentence tells. Text is lower case with words, commas and full stops; an entity is a run of words.
"""

from .common import collect, names

KINDS = ["PER", "ORG", "LOC", "DATE"]
LABELS = ["O"] + [f"{place}-{kind}" for kind in KINDS for place in "BI"]

FIRST_NAMES = (
    "anna bruno clara david elena felix greta hugo irene jonas karin lukas marta nils olga peter rosa simon "
    "tessa viktor wilma emil ida oskar maria paul julia thomas sarah john"
).split()
STARTS = "tor bel kar mer vel han dol gar lin sor fel ros nor wes bran cal dun hol jen kes mar pal rud sel tam ver wil zan".split()
ENDS = "min ler ven dan sen mont ric well by land ton nor vik berg os".split()
TOWN_ENDS = "ford mere wick stad burg holm mouth haven dale field".split()
COUNTRIES = (
    "norway france spain italy germany poland canada brazil japan kenya egypt india chile peru sweden portugal".split()
)
CITIES = "london paris berlin madrid rome vienna oslo lisbon prague dublin cairo tokyo".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()
TRADES = "bank|steel|motors|airlines|foods|energy|pharma|software|media|records|shipping|railways|electric|glass works|insurance".split(
    "|"
)
OFFICES = "education health defence finance trade transport justice culture".split()
ROLES = "mayor minister director professor captain doctor judge painter singer engineer senator coach".split()
GOODS = "trains ships phones cars medicines windows films tractors batteries turbines".split()
CONSONANTS = "b c d g h j k l m n p r s t v w z br ch dr gr kr pl sk st th tr".split()
VOWELS = "a a e e i i o o u ai ea ie oo ou".split()
CODAS = "d k l ll m n nd r rd rn rt s st t th x".split()
NUMBERS = "two three four five six ten twelve twenty fifty hundred".split()


class World:
    """The names of one side of the split."""

    def __init__(self, held_out):
        self.names = names(STARTS, ENDS, held_out)
        self.towns = names(STARTS, TOWN_ENDS, held_out)

    def name(self, rng):
        """A name that a person, a place or a company may have; some are free inventions."""
        if rng.random() < 0.15:
            syllables = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.choice([2, 2, 3]))]
            return "".join(syllables) + rng.choice(CODAS)
        return rng.choice(self.names)

    def person(self, rng):
        roll = rng.random()
        last = self.name(rng)
        if roll < 0.5:
            return f"{rng.choice(FIRST_NAMES)} {last}"
        if roll < 0.6:
            return f"{rng.choice(FIRST_NAMES)} {rng.choice(FIRST_NAMES)} {last}"
        return last if roll < 0.85 else rng.choice(FIRST_NAMES)

    def place(self, rng):
        roll = rng.random()
        town = rng.choice(self.towns)
        if roll < 0.35:
            return town
        if roll < 0.5:
            return self.name(rng)
        if roll < 0.7:
            return rng.choice(COUNTRIES + CITIES)
        return rng.choice(
            [
                f"new {town}",
                f"port {town}",
                f"lake {town}",
                f"mount {town}",
                f"{town} island",
                f"{town} bay",
                f"saint {rng.choice(FIRST_NAMES)}",
            ]
        )

    def company(self, rng):
        roll = rng.random()
        name = self.name(rng)
        if roll < 0.45:
            return f"{name} {rng.choice(TRADES)}"
        if roll < 0.65:
            return name
        if roll < 0.8:
            return f"{name} and {self.name(rng)} {rng.choice(['limited', 'group', 'partners'])}"
        return f"{rng.choice(self.towns + CITIES)} {rng.choice(TRADES)}"

    def institution(self, rng):
        return rng.choice(
            [
                f"university of {rng.choice(self.towns + CITIES)}",
                f"ministry of {rng.choice(OFFICES)}",
                f"{rng.choice(self.towns)} football club",
                f"museum of {rng.choice(self.towns + CITIES)}",
                f"{rng.choice(self.names)} foundation",
                f"{rng.choice(self.towns)} city council",
            ]
        )

    def date(self, rng, word):
        day, month, year = str(rng.randrange(1, 32)), rng.choice(MONTHS), str(rng.randrange(1950, 2030))
        return rng.choice(
            [
                f"{day} {month} {year}",
                f"{month} {day}",
                f"{day} {month}",
                f"{month} {year}",
                year,
                rng.choice(DAYS),
                rng.choice(DAYS),
                f"{word} {rng.choice(DAYS + ['week', 'year', 'month', 'summer', 'winter'])}",
                f"the {rng.choice(['first', 'second', 'third', 'fourth', 'tenth'])} of {month}",
                rng.choice(["today", "yesterday" if word == "last" else "tomorrow"]),
            ]
        )


def when(world, rng, word):
    """A date with the preposition it needs, as template text; `word` is `last` or `next`."""
    date = world.date(rng, word)
    if date.split()[0] in ("last", "next", "today", "yesterday", "tomorrow"):
        return f"[DATE:{date}]"
    first, last = date.split()[0], date.split()[-1]
    only_month = first in MONTHS and last.isdigit() and len(last) == 4
    return f"{'in' if only_month or date.isdigit() else 'on'} [DATE:{date}]"


# {P} a person, {L} a place, {C} a company, {I} an institution (with `the`), {D} a date with its
# preposition ({F} one to come), {R} a role, {G} goods, {N} a number.
TEMPLATES = """
{P} was born in {L} {D}
{P} , director of the {I} , met {P} in {L}
{C} will open a factory in {L} {F}
{C} , a maker of {G} , has bought {C}
{R} {P} travelled to {L} {D}
{P} works for {C} in {L}
{P} left {C} {D} and joined the {I}
the {I} invited {P} to {L}
shares of {C} rose {D} after {P} spoke
{P} told reporters in {L} that {C} would sell {N} {G}
{D} {P} and {P} arrived in {L}
the road from {L} to {L} was closed {D}
{P} studied at the {I} and later lived in {L}
{C} hired {P} as {R} {D}
{P} won the race in {L} , ahead of {P}
heavy rain fell in {L} and {L} {D}
{C} and {C} signed a contract in {L}
the {I} was founded {D} by {P}
{D} the {I} rejected the plan of {R} {P}
{P} thanked the people of {L}
{R} {P} of {L} praised {C}
flights from {L} to {L} will begin {F} , said {C}
{P} has written {N} books about {L}
{N} workers of {C} went on strike {D}
{P} moved from {L} to {L} {D}
{P} and her brother {P} own {C}
the trial of {P} begins {F} in {L}
the headquarters of {C} are in {L}
{P} died {D} in {L}
in {L} , {R} {P} opened a school
{C} employs {N} people in {L}
{P} works for the {I}
customers of {C} in {L} complained {D}
{P} , who comes from {L} , leads {C}
{P} painted {L} {N} times
it snowed {D}
nobody was hurt
{P} smiled
the {R} did not answer
prices of {G} fell {D}
my name is {P} and i live in {L}
i work for {C}
she called {P} {D}
{P} lives in {L}
{P} met {P} {D}
we visited {L} {D}
""".strip().split("\n")


def filled(template, world, rng):
    """A template with its slots filled; entities are marked as `[KIND:words]`."""
    words = []
    for word in template.split():
        slot = word.strip("{}")
        if slot == word:
            words.append(word)
        elif slot in "DF":
            words.append(when(world, rng, "last" if slot == "D" else "next"))
        elif slot in "RGN":
            words.append(rng.choice({"R": ROLES, "G": GOODS, "N": NUMBERS}[slot]))
        else:
            kind, make = {
                "P": ("PER", world.person),
                "L": ("LOC", world.place),
                "C": ("ORG", world.company),
                "I": ("ORG", world.institution),
            }[slot]
            words.append(f"[{kind}:{make(rng)}]")
    return " ".join(words)


def example(rng, world):
    """One text as {"text", "entities"}, with character offsets, and its words with BIO labels."""
    count = rng.choices([1, 2], [70, 30])[0]
    marked = " ".join(filled(rng.choice(TEMPLATES), world, rng) + " ." for _ in range(count))
    text, entities, words, labels = "", [], [], []
    rest = marked.replace("[", "\n[").replace("]", "]\n").split("\n")
    for piece in (piece.strip() for piece in rest):
        kind, inner = ("O", piece) if not piece.startswith("[") else piece[1:-1].split(":")
        for at, word in enumerate(inner.split()):
            text += ("" if not text or word in ",." else " ") + word
            words.append(word)
            labels.append("O" if kind == "O" else ("I-" if at else "B-") + kind)
            if labels[-1].startswith("B-"):
                entities.append({"label": kind, "start": len(text) - len(word), "end": len(text)})
            elif labels[-1].startswith("I-"):
                entities[-1]["end"] = len(text)
    return {"text": text, "entities": entities, "words": words, "labels": labels}


def examples(seed, count, held_out):
    """Texts of one side of the split; the held-out side has names never seen in training."""
    world = World(held_out)
    return collect(lambda rng: example(rng, world), lambda row: row["text"], seed, count, held_out)
