"""Short stories: a hero with a name and a home, a friend, a thing, a problem and its solution.

Every story keeps its facts: who is he or she, what colour the thing has, where it was left.
"""

import re
from dataclasses import dataclass

from .common import article, collect

GIRLS = "Mira Anna Lily Nora Ella Ruby Clara Ivy Tessa Maya Rosa Wilma".split()
BOYS = "Tom Ben Leo Max Oscar Finn Hugo Sam Noah Karl Emil Otto".split()
ANIMALS = "fox bear rabbit mouse hedgehog badger squirrel duck goose frog".split()
FRIENDS = ANIMALS + ["dog", "cat", "owl", "goat"]
TRAITS = "little brave kind clever shy curious cheerful quiet".split()
HOMES = [
    "in a small village",
    "near a deep forest",
    "by the sea",
    "on a green hill",
    "in an old mill",
    "at the edge of a lake",
    "in a house with a blue door",
    "on a farm",
    "in a town by the river",
    "in a little white house",
]
COLOURS = "red blue green yellow white golden silver".split()
TIMES = ["One morning", "One day", "One sunny afternoon", "One evening", "On a windy day", "One cold day in winter"]
SEARCHED = [
    "under the bed",
    "behind the door",
    "in the garden",
    "under the big tree",
    "by the well",
    "in the barn",
    "near the bridge",
]
TOYS = "kite ball drum hat scarf boat whistle bell basket lantern book cup ring coat".split()
HEIGHTS = ["a tall tree", "the roof", "a high wall", "the old tower"]
MENDERS = [
    ("thread", "sewed it together"),
    ("glue", "put the pieces together"),
    ("a nail and a hammer", "made it strong again"),
    ("a piece of rope", "tied it together"),
]
BREAKABLE = "kite drum boat basket lantern chair sled cart".split()
FOODS = "apple pie|loaf of bread|pot of soup|plum cake|basket of pears|bowl of berries|honey cake".split("|")
HOLLOWS = ["a dark cave", "the dark forest", "the old cellar", "a long tunnel"]
SHELTERS = ["an empty barn", "a hollow tree", "a small cave", "the old mill", "a stone hut"]
CARRIERS = ["a raft of logs", "a bridge of planks", "a little boat", "a bridge of stones"]
SECRETS = [
    "a map of the valley",
    "a letter from the king",
    "a silver flute",
    "seeds of a rare flower",
    "an old book of songs",
    "a gold coin",
]
FEELINGS = ["very sad", "worried", "close to tears"]
THANKS = ["Thank you", "Thank you so much", "You are a true friend", "What would I do without you"]
MORALS = [
    "From that day on, they were the best of friends.",
    "After that, they met every day.",
    "They laughed all the way home.",
    "That night they both slept well.",
    "And they never forgot that day.",
]

# What has a colour besides the thing of the story.
OTHER_COLOURED = ["house", "door", "hill", "flute"]


@dataclass
class Character:
    """Somebody with a name, and the pronouns that go with it."""

    name: str
    kind: str
    she: bool

    @property
    def subject(self):
        return "she" if self.she else "he"

    @property
    def object(self):
        return "her" if self.she else "him"

    @property
    def owner(self):
        return "her" if self.she else "his"


def character(rng, kinds, taken=""):
    """A character of one of the kinds, with a name that is not taken."""
    she = rng.random() < 0.5
    name = rng.choice([name for name in (GIRLS if she else BOYS) if name != taken])
    kind = rng.choice(kinds + (["girl" if she else "boy"] * len(kinds) if kinds is ANIMALS else []))
    return Character(name, kind, she)


def capital(text):
    return text[0].upper() + text[1:]


def known(place):
    """A place that was named before."""
    return "the " + place.split(" ", 1)[1]


def lost(rng, hero, friend, colour):
    toy = rng.choice(TOYS)
    first, second, there = rng.sample(SEARCHED, 3)
    way = rng.choice(["gone", "nowhere to be seen", "not in its place"])
    return f"{colour} {toy}", [
        f"{rng.choice(TIMES)}, the {toy} was {way}.",
        f"{hero.name} looked {first} and {second}, but {hero.subject} could not find it.",
        f"{capital(hero.subject)} was {rng.choice(FEELINGS)}.",
        f'Then {friend.name} came by and asked, "What is wrong, {hero.name}?"',
        f'"I have lost my {colour} {toy}," said {hero.name}.',
        rng.choice([f'"Let us look {there}," said {friend.name}.', f'{friend.name} said, "Did you look {there}?"']),
        f"They went and looked, and there {there} lay the {colour} {toy}.",
    ]


def stuck(rng, hero, friend, colour):
    toy, height = rng.choice("kite ball hat scarf".split()), rng.choice(HEIGHTS)
    tool, use = rng.choice(
        [
            ("a ladder", "climbed up"),
            ("a long stick", "reached up"),
            ("a strong rope", "pulled herself up" if friend.she else "pulled himself up"),
        ]
    )
    return f"{colour} {toy}", [
        f"{rng.choice(TIMES)}, the wind took the {toy} and carried it to the top of {height}.",
        f"{hero.name} jumped and jumped, but {hero.subject} could not reach it.",
        f"{capital(hero.subject)} was {rng.choice(FEELINGS)}.",
        f"{friend.name} heard {hero.object} and came with {tool}.",
        f'"Do not worry, {hero.name}," said {friend.name}.',
        f"{capital(friend.subject)} {use} and brought the {colour} {toy} down from {known(height)}.",
    ]


def broken(rng, hero, friend, colour):
    toy = rng.choice(BREAKABLE)
    mender, work = rng.choice(MENDERS)
    return f"{colour} {toy}", [
        f"{rng.choice(TIMES)}, {hero.name} {rng.choice(['fell', 'slipped on a stone', 'ran too fast'])} and the {toy} broke.",
        f'"Oh no, my {colour} {toy}!" cried {hero.name}.',
        f"{capital(hero.subject)} ran to {friend.name} and showed {friend.object} the broken {toy}.",
        f'"I can help you," said {friend.name}, and {friend.subject} took out {mender}.',
        f"{friend.name} {work}, and soon the {toy} was as good as new.",
    ]


def hungry(rng, hero, friend, colour):
    food = rng.choice(FOODS)
    where = rng.choice(["by the road", "under a tree", "by the well", "on the steps"])
    return f"{colour} coat", [
        f"{rng.choice(TIMES)}, {hero.name} put on the {colour} coat and packed {article(food)}.",
        f"On the way to the market {hero.subject} saw {friend.name}, who sat {where} and shivered.",
        f'"What is wrong, {friend.name}?" asked {hero.name}.',
        f'"I am cold, and I have eaten nothing all day," said {friend.name}.',
        f"{hero.name} gave {friend.object} half of the {food} and the {colour} coat.",
        f"Soon {friend.name} was warm and smiled at {hero.object}.",
    ]


def dark(rng, hero, friend, colour):
    light, hollow = rng.choice(["lantern", "lamp", "candle"]), rng.choice(HOLLOWS)
    return f"{colour} {light}", [
        f"{rng.choice(TIMES)}, {hero.name} heard a cry from {hollow}.",
        f"It was {friend.name}, who had lost {friend.owner} way in the dark.",
        f"{hero.name} was afraid, but {hero.subject} took the {colour} {light} and went in.",
        f'"Where are you, {friend.name}?" called {hero.name}.',
        f'"I am here," said {friend.name}, "but I cannot see a thing."',
        f"{hero.name} held up the {light}, took {friend.object} by the hand and led {friend.object} out of {known(hollow)}.",
    ]


def storm(rng, hero, friend, colour):
    shelter, thing = rng.choice(SHELTERS), rng.choice(["umbrella", "blanket", "tent"])
    return f"{colour} {thing}", [
        f"{rng.choice(TIMES)}, {hero.name} and {friend.name} went for a walk, and {hero.name} took the {thing} along.",
        rng.choice(
            ["Dark clouds came, and it began to rain.", "Suddenly a storm broke out.", "Soon it began to snow."]
        ),
        f"They were wet and cold, and {friend.name} was afraid of the {rng.choice(['thunder', 'wind'])}.",
        f'"Look, there is {shelter}!" said {hero.name}.',
        f"They ran into {known(shelter)} and sat close together under the {colour} {thing}.",
        f"{hero.name} told {friend.object} a story until the sky was clear again.",
    ]


def locked(rng, hero, friend, colour):
    box, secret = rng.choice(["box", "chest", "trunk"]), rng.choice(SECRETS)
    place = rng.choice(["under a stone", "in a bird nest", "at the bottom of the well", "behind a picture"])
    return f"{colour} {box}", [
        f"The {box} was locked, and nobody knew what was in it.",
        f"{rng.choice(TIMES)}, {hero.name} showed the {box} to {friend.name}.",
        f'"I have seen a little key {place}," said {friend.name}.',
        "They went to look, and the key was still there.",
        f"{hero.name} put the key into the lock, and the {colour} {box} opened.",
        f"In the {box} lay {secret}.",
    ]


def river(rng, hero, friend, colour):
    toy, carrier = rng.choice([toy for toy in TOYS if toy not in ("coat", "scarf")]), rng.choice(CARRIERS)
    return f"{colour} {toy}", [
        f"{rng.choice(TIMES)}, {hero.name} wanted to give the {toy} to {friend.name}, who lived on the other side of the river.",
        "But the water was deep, and the bridge was gone.",
        f"{hero.name} sat down and thought for a while.",
        f"Then {hero.subject} made {carrier} and crossed the river with great care.",
        f'"I have brought you my {colour} {toy}," said {hero.name}.',
        f"{friend.name} was so happy that {friend.subject} danced.",
    ]


# Each problem, and whether it is the friend who gives thanks.
PROBLEMS = [
    (lost, False),
    (stuck, False),
    (broken, False),
    (hungry, True),
    (dark, True),
    (storm, True),
    (locked, False),
    (river, True),
]


def story(rng):
    """One story as {"prompt", "story"}; the story begins with its prompt."""
    hero = character(rng, ANIMALS)
    friend = character(rng, FRIENDS, hero.name)
    home, colour, trait = rng.choice(HOMES), rng.choice(COLOURS), rng.choice(TRAITS)
    problem, friend_thanks = rng.choice(PROBLEMS)
    thing, events = problem(rng, hero, friend, colour)
    named = f"{article(trait)} {hero.kind} named {hero.name}"
    opening = rng.choice(
        [
            f"Once upon a time there was {named}, who lived {home}.",
            f"Once there was {named}. {capital(hero.subject)} lived {home}.",
            f"There once lived {named} {home}.",
            f"{hero.name} was {article(trait)} {hero.kind} who lived {home}.",
        ]
    )
    owned = rng.choice(
        [
            f"{hero.name} had {article(thing)} and loved it very much.",
            f"{capital(hero.owner)} grandmother had given {hero.object} {article(thing)}.",
            f"For {hero.owner} birthday {hero.subject} had been given {article(thing)}.",
        ]
    )
    friendship = rng.choice(
        [
            f"{capital(hero.owner)} best friend was {article(friend.kind)} named {friend.name}.",
            f"Not far away lived {friend.name}, {article(friend.kind)}.",
            f"{capital(hero.subject)} often played with {article(friend.kind)} named {friend.name}.",
        ]
    )
    glad, other = (friend, hero) if friend_thanks else (hero, friend)
    ending = [
        rng.choice(
            [
                f'"{rng.choice(THANKS)}, {other.name}!" said {glad.name}.',
                f"{glad.name} was happy and thanked {other.object}.",
                f'{glad.name} hugged {other.name} and said, "{rng.choice(THANKS)}!"',
            ]
        ),
        rng.choice(MORALS),
    ]
    # After the friend's sentence a pronoun could mean either, so the hero is named again.
    start = [opening, owned, friendship] if rng.random() < 0.5 else [opening, friendship, by_name(owned, hero)]
    prompt = " ".join(start[: rng.choice([1, 2, 3])])
    return {
        "prompt": prompt,
        "story": " ".join(start + events + ending),
        "side": f"{hero.name} {home} {thing} {friend.name}",
    }


def by_name(sentence, hero):
    """The sentence with the hero's name where it began with a pronoun."""
    for start, name in (
        (f"{capital(hero.owner)} grandmother", f"{hero.name}'s grandmother"),
        (f"For {hero.owner} birthday {hero.subject}", f"For {hero.owner} birthday {hero.name}"),
    ):
        if sentence.startswith(start):
            return name + sentence[len(start) :]
    return sentence


def stories(seed, count, held_out):
    """Stories of one side of the split; hero, home, thing and friend decide the side together."""
    rows = collect(story, lambda row: row["story"], seed, count, held_out, lambda row: row["side"])
    return [{"prompt": row["prompt"], "story": row["story"]} for row in rows]


def keeps_its_facts(text):
    """Whether a story has one pair of names, one coloured thing, and pronouns that can be theirs.

    A check of the text alone, for stories that a model made up.
    """
    words = re.findall(r"[A-Za-z]+", text)
    named = {word for word in words if word in GIRLS + BOYS}
    pairs = zip(words, words[1:])
    things = {pair for pair in pairs if pair[0] in COLOURS and pair[1] not in OTHER_COLOURED}
    lower = {word.lower() for word in words}
    she, he = lower & {"she", "her"}, lower & {"he", "him", "his"}
    fitting = (not she or named & set(GIRLS)) and (not he or named & set(BOYS))
    return len(named) == 2 and len(things) == 1 and bool(fitting)
