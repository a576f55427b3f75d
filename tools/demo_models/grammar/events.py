"""The events that reports tell of, each as (opening, facts, summary)."""

from .common import article, names

TOWN_STARTS = "kar bel tol mar ven lin dor hal sel fen ros wil bran gar os nor tam wes hol cal".split()
TOWN_ENDS = "ven mere ton wick dale ford stead burg mouth field holm ley".split()
SURNAME_STARTS = "hol ber lan kes mor ral tor win dun bor gal jen pal ruk sam vel".split()
SURNAME_ENDS = "t man ner ley sen dorf rick well ak os".split()
FIRST_NAMES = "anna bruno clara david elena felix greta hugo irene jonas karin lukas marta nils olga peter".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
COUNTS = "two three four five six seven eight nine ten twelve".split()
HUNDREDS = "fifty sixty eighty ninety".split() + [n + " hundred" for n in "one two three four five six".split()]
SITES = [
    "old mill",
    "town hall",
    "primary school",
    "paper factory",
    "bakery",
    "railway station",
    "grain store",
    "furniture shop",
    "hotel",
    "museum",
    "harbour office",
    "wood yard",
]
PLANS = [
    "bridge",
    "library",
    "school",
    "swimming pool",
    "bus station",
    "park",
    "hospital",
    "sports hall",
    "market hall",
]
LOOT = ["painting", "silver cup", "gold watch", "violin", "bicycle", "stone statue", "stamp collection", "church bell"]
# What a factory makes, and the word before `factory`.
GOODS = [
    ("bicycles", "bicycle"),
    ("glass", "glass"),
    ("shoes", "shoe"),
    ("paper", "paper"),
    ("tractors", "tractor"),
    ("clocks", "clock"),
    ("chocolate", "chocolate"),
    ("pumps", "pump"),
    ("carpets", "carpet"),
]
JOBS = ["teacher", "nurse", "baker", "farmer", "engineer", "student", "carpenter", "doctor"]
PRIZES = ["science prize", "book prize", "peace prize", "garden prize", "music prize", "bravery medal"]
WATERS = ["lighthouse", "harbour", "river mouth", "sandbank", "northern pier"]


class World:
    """The names of one side of the split, and the choices of one report."""

    def __init__(self, held_out):
        self.towns = names(TOWN_STARTS, TOWN_ENDS, held_out)
        self.surnames = names(SURNAME_STARTS, SURNAME_ENDS, held_out)

    def town(self, rng):
        return rng.choice(self.towns)

    def person(self, rng):
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(self.surnames)}"


def injuries(rng):
    """How many were hurt: (sentences that tell it, phrase of the summary)."""
    roll = rng.random()
    if roll < 0.3:
        return [rng.choice(["no one was hurt.", "nobody was injured.", "everyone escaped unhurt."])], "no one"
    if roll < 0.45:
        who = rng.choice(["one person was", "one man was", "one woman was"])
        return [f"{who} {rng.choice(['hurt', 'injured', 'taken to hospital'])}."], who.replace(" was", "")
    count, other = rng.sample(COUNTS, 2)
    verb = rng.choice(["hurt", "injured", "taken to hospital"])
    if roll < 0.75:
        return [f"{count} people were {verb}."], f"{count} people"
    return [
        rng.choice(
            [
                f"early reports spoke of {other} injured, but the police later said {count}.",
                f"at first {other} people were thought to be hurt, but the number is {count}.",
                f"not {other} but {count} people were {verb}, a doctor said.",
            ]
        )
    ], f"{count} people"


def fire(rng, world, town, day):
    site = rng.choice(SITES)
    told, hurt = injuries(rng)
    lead = rng.choice(
        [
            f"on {day} a fire broke out in the {site} in {town}.",
            f"the {site} in {town} caught fire on {day}.",
            f"a fire burned through the {site} of {town} on {day}.",
            f"flames were seen above the {site} in {town} on {day}.",
        ]
    )
    facts = told + [
        rng.choice(
            [
                f"it took firefighters {rng.choice(COUNTS)} hours to put it out.",
                f"{rng.choice(COUNTS)} fire engines came to help.",
                "a broken cable is thought to be the cause.",
                "the cause is not yet known.",
            ]
        )
    ]
    return lead, facts, f"a fire in the {site} in {town} on {day} hurt {hurt}."


def storm(rng, world, town, day):
    homes, other = rng.sample(HUNDREDS, 2)
    lead = rng.choice(
        [
            f"a strong storm hit {town} on {day}.",
            f"on {day} a storm crossed {town}.",
            f"heavy wind and rain reached {town} on {day}.",
        ]
    )
    told = rng.choice(
        [
            f"{homes} homes lost power.",
            f"the power failed in {homes} homes.",
            f"{homes} houses were left in the dark.",
            f"not {other}, as the radio said, but {homes} homes had no power.",
            f"the mayor spoke of {other} homes without power, but the power company counted {homes}.",
        ]
    )
    facts = [
        told,
        rng.choice(
            [
                "trees fell on the main road.",
                f"winds of {rng.choice(HUNDREDS)} kilometres an hour were measured.",
                "the schools stayed closed.",
                f"{rng.choice(COUNTS)} cars were damaged.",
            ]
        ),
    ]
    return lead, facts, f"a storm in {town} on {day} cut the power of {homes} homes."


def match(rng, world, town, day):
    other = world.town(rng)
    while other == town:
        other = world.town(rng)
    loser_goals = rng.randrange(0, 5)
    winner_goals = loser_goals + rng.randrange(1, 4)
    words = "no one two three four five six seven".split()
    high, low = words[winner_goals], words[loser_goals]
    low_score = "nil" if loser_goals == 0 else low

    def goals(word):
        return f"{word} goal" if word == "one" else f"{word} goals"

    lead, told = rng.choice(
        [
            (f"{town} met {other} on {day}.", f"{town} scored {goals(high)} and {other} {goals(low)}."),
            (f"{other} met {town} on {day}.", f"{other} scored {goals(low)} and {town} {goals(high)}."),
            (f"{other} played against {town} on {day}.", f"{other} lost with {goals(low)} to {high}."),
            (f"{town} played against {other} on {day}.", f"{town} won with {goals(high)} to {low}."),
            (f"on {day} {other} was host to {town}.", f"the guests scored {goals(high)}, the hosts {goals(low)}."),
            (f"on {day} {town} was host to {other}.", f"the guests scored {goals(low)}, the hosts {goals(high)}."),
        ]
    )
    facts = [
        told,
        rng.choice(
            [
                f"{world.person(rng)} scored the last goal.",
                "rain fell through the second half.",
                f"{rng.choice(HUNDREDS)} people watched the match.",
                "it was the last match of the season.",
            ]
        ),
    ]
    return lead, facts, f"{town} beat {other} {high} to {low_score} on {day}."


def vote(rng, world, town, day):
    plan = rng.choice(PLANS)
    cost, other = rng.sample(COUNTS, 2)
    yes = rng.random() < 0.6
    lead = rng.choice(
        [
            f"the council of {town} met on {day} to vote on a new {plan}.",
            f"on {day} the council of {town} voted on a new {plan}.",
            f"should {town} have a new {plan}? on {day} its council voted.",
        ]
    )
    told = rng.choice(
        [
            "the plan was accepted.",
            "most members said yes.",
            "it passed by a few votes.",
            "after a long debate the plan went through.",
        ]
        if yes
        else [
            "the plan was turned down.",
            "most members said no.",
            "it failed by a few votes.",
            "after a long debate the plan was stopped.",
        ]
    )
    price = rng.choice(
        [
            f"the {plan} would cost {cost} million crowns.",
            f"the price is {cost} million crowns, not {other} million as was said before.",
            f"{cost} million crowns would be needed.",
        ]
    )
    verb = "accepted" if yes else "rejected"
    return lead, [told, price], f"on {day} the council of {town} {verb} a new {plan} for {cost} million crowns."


def theft(rng, world, town, day):
    loot, site = rng.choice(LOOT), rng.choice(SITES)
    lead = rng.choice(
        [
            f"{article(loot)} was stolen from the {site} in {town} on {day}.",
            f"on {day} a thief took {article(loot)} from the {site} in {town}.",
            f"the {site} in {town} is missing {article(loot)} since {day}.",
        ]
    )
    roll = rng.random()
    if roll < 0.5:
        who = rng.choice(["man", "woman"])
        told = rng.choice(
            [
                f"the police have arrested a {who}.",
                f"a {who} was caught near the station.",
                f"a {who} of {rng.choice('twenty thirty forty fifty'.split())} years was arrested.",
            ]
        )
        end = f"and a {who} was arrested."
    else:
        told = rng.choice(
            ["there is no trace of the thief.", "the thief got away.", "the police are still looking for the thief."]
        )
        end = "and the thief got away."
    facts = [
        told,
        rng.choice(
            [
                f"it is worth {rng.choice(HUNDREDS)} crowns.",
                "a window had been broken.",
                "the alarm did not ring.",
                f"it had been there for {rng.choice(COUNTS)} years.",
            ]
        ),
    ]
    return lead, facts, f"{article(loot)} was stolen from the {site} in {town} on {day} {end}"


def opening(rng, world, town, day):
    plan, person = rng.choice(PLANS), world.person(rng)
    builder = world.person(rng)
    lead = rng.choice(
        [
            f"{town} has a new {plan} since {day}.",
            f"a new {plan} was opened in {town} on {day}.",
            f"on {day} the new {plan} of {town} opened its doors.",
        ]
    )
    told = rng.choice(
        [
            f"mayor {person} cut the ribbon.",
            f"the mayor, {person}, gave a speech.",
            f'"we are proud", said mayor {person}.',
            f"it was opened by mayor {person}.",
        ]
    )
    facts = [
        told,
        rng.choice(
            [
                f"architect {builder} drew the plans.",
                f"it was planned by {builder}.",
                f"the work took {rng.choice(COUNTS)} years.",
                f"it cost {rng.choice(COUNTS)} million crowns.",
            ]
        ),
    ]
    return lead, facts, f"mayor {person} opened a new {plan} in {town} on {day}."


def rescue(rng, world, town, day):
    at = rng.randrange(len(COUNTS) - 2)
    count, total = COUNTS[at], COUNTS[at + 1]
    water = rng.choice(WATERS)
    lead = rng.choice(
        [
            f"on {day} a boat sank near the {water} of {town}.",
            f"a boat went down near the {water} of {town} on {day}.",
            f"near the {water} of {town} a boat ran into trouble on {day}.",
        ]
    )
    told = rng.choice(
        [
            f"{count} people were saved.",
            f"all {count} people on board were rescued.",
            f"fishermen pulled {count} people out of the water.",
            f"of {total} people on board one swam ashore, and {count} were saved by the coast guard.",
        ]
    )
    facts = [
        told,
        rng.choice(
            [
                "the sea was rough.",
                f"the boat was {rng.choice(COUNTS)} years old.",
                "fog had hidden the rocks.",
                f"captain {world.person(rng)} sent the call for help.",
            ]
        ),
    ]
    return lead, facts, f"{count} people were rescued from a boat near the {water} of {town} on {day}."


def road(rng, world, town, day):
    other = world.town(rng)
    while other == town:
        other = world.town(rng)
    until = rng.choice([name for name in DAYS if name != day])
    reason, because = rng.choice(
        [
            ("repairs", "the surface must be repaired."),
            ("repairs", "workers will repair the surface."),
            ("flooding", "the river has flooded it."),
            ("flooding", "it lies under water."),
            ("snow", "there is too much snow."),
            ("snow", "snow has made it dangerous."),
            ("a race", "a bicycle race will use it."),
            ("a race", "runners will race on it."),
        ]
    )
    lead = rng.choice(
        [
            f"the road from {town} to {other} was closed on {day}.",
            f"since {day} no car may use the road from {town} to {other}.",
            f"drivers found the road from {town} to {other} closed on {day}.",
        ]
    )
    told = rng.choice(
        [
            f"it will stay closed until {until}.",
            f"it will be open again on {until}.",
            f"traffic can return on {until}.",
        ]
    )
    return lead, [because, told], f"the road from {town} to {other} is closed until {until} because of {reason}."


def factory(rng, world, town, day):
    (goods, kind), person = rng.choice(GOODS), rng.choice(world.surnames)
    count, other = rng.sample(HUNDREDS, 2)
    opens = rng.random() < 0.5
    word = "open" if opens else "close"
    lead = rng.choice(
        [
            f"{person}, a maker of {goods}, will {word} a factory in {town}.",
            f"a factory for {goods} in {town} will {word}, the company {person} said on {day}.",
            f"on {day} the company {person}, which makes {goods}, said it will {word} a factory in {town}.",
        ]
    )
    told = rng.choice(
        [
            f"{count} people will find work there.",
            f"that means {count} new jobs.",
            f"{count} workers are wanted, and {other} have already written.",
        ]
        if opens
        else [
            f"{count} people will lose their jobs.",
            f"that means the end of {count} jobs.",
            f"{other} workers will be moved, but {count} will lose their jobs.",
        ]
    )
    facts = [
        told,
        rng.choice(
            [
                f"the union had asked for a meeting on {rng.choice(DAYS)}.",
                f"it was founded {rng.choice(COUNTS)} years ago.",
                f"mayor {world.person(rng)} was told by telephone.",
            ]
        ),
    ]
    end = f"bringing {count} jobs" if opens else f"ending {count} jobs"
    return lead, facts, f"{person} will {word} a {kind} factory in {town}, {end}."


def award(rng, world, town, day):
    person, rival = world.person(rng), world.person(rng)
    job, prize = rng.choice(JOBS), rng.choice(PRIZES)
    lead = rng.choice(
        [
            f"{person}, {article(job)} from {town}, received the {prize} on {day}.",
            f"the {prize} went to {person} on {day}.",
            f"on {day} the {prize} was given to {person}.",
            f"{rival} had hoped for the {prize}, but on {day} it went to {person}.",
        ]
    )
    told = (
        []
        if town in lead
        else [
            rng.choice(
                [
                    f"{person.split()[0]} is {article(job)} in {town}.",
                    f"the winner works as {article(job)} in {town}.",
                ]
            )
        ]
    )
    facts = told + [
        rng.choice(
            [
                f"last year {rival} had won." if rival not in lead else "it was a close decision.",
                f"it is worth {rng.choice(HUNDREDS)} crowns.",
                "the hall was full.",
            ]
        )
    ]
    return lead, facts, f"{person}, {article(job)} from {town}, won the {prize} on {day}."


EVENTS = [fire, storm, match, vote, theft, opening, rescue, road, factory, award]
