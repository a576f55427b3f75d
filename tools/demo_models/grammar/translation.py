"""Controlled English and Talu, a language invented here, from one abstract sentence.

Talu: subject, place, receiver, object, manner, verb. Nouns take plural, article or owner, and case as
suffixes whose vowels follow the stem (back: a, u; front: e, i); a numeral replaces the plural.
Adjectives follow their noun in reversed order and agree in class and number. Verbs carry
negation, tense, and the person and class of the subject, so `i`, `you` and `we` are dropped.
Questions put `ka` and the verb first; reasons and times come before what they explain.
The morphemes of Talu are joined by `·` until the last step: the tokenizer learns from them.
"""

from dataclasses import dataclass

from .common import article, collect

BOUNDARY = "·"

# English singular, English plural, Talu stem.
ANIMATE = [
    row.split()
    for row in """
man men toral|woman women selim|boy boys kipen|girl girls mirel|child children tunok|dog dogs hukar
cat cats pisel|horse horses dovan|bird birds lirik|wolf wolves gornu|teacher teachers sevin
farmer farmers bulon|doctor doctors medrik|king kings ralok|queen queens rilen|friend friends amul
baker bakers pondak|sailor sailors navur|goat goats bekit|fox foxes zilen|hunter hunters hatrok
""".strip()
    .replace("\n", "|")
    .split("|")
]
THINGS = [
    row.split()
    for row in """
apple apples obar|book books liven|letter letters skirel|boat boats vuland|stone stones grodam
flower flowers fenil|key keys tikel|lamp lamps lumor|basket baskets korban|box boxes dekin
cup cups pelit|ring rings rundo|drum drums domal|map maps miteg|knife knives zakur|coat coats hanol
mirror mirrors sivrel|blanket blankets wolam|bottle bottles glenik|rope ropes turag
""".strip()
    .replace("\n", "|")
    .split("|")
]
PLACES = [
    row.split()
    for row in """
river rivers sulan|garden gardens yelin|market markets bazun|forest forests arbok
bridge bridges pentel|school schools eskil|hill hills montu|village villages vikerd|tower towers turmal
harbour harbours portag|kitchen kitchens kesin|field fields agrun|mill mills milek|island islands olanu
""".strip()
    .replace("\n", "|")
    .split("|")
]

# English base, third person, past, Talu stem; what the object may be.
INTRANSITIVE = [
    row.split()
    for row in """
sleep sleeps slept dorm|run runs ran kur|sing sings sang kant|wait waits waited ved|laugh laughs laughed hih
dance dances danced tanz|swim swims swam nat|work works worked lab|cry cries cried plor
rest rests rested paz|shout shouts shouted galt|play plays played jok
""".strip()
    .replace("\n", "|")
    .split("|")
]
TRANSITIVE = [
    row.split()
    for row in """
see sees saw vid both|find finds found trov both|carry carries carried port both
help helps helped aid animate|follow follows followed sek animate|love loves loved lub animate
know knows knew ken animate|call calls called vok animate|buy buys bought kup thing
lose loses lost perd thing|paint paints painted maz both|clean cleans cleaned lav thing
break breaks broke frak thing|want wants wanted vol both|hide hides hid skur both
hear hears heard aud animate|need needs needed bez both|take takes took zem thing|keep keeps kept gard both
""".strip()
    .replace("\n", "|")
    .split("|")
]
DITRANSITIVE = [
    row.split()
    for row in """
give gives gave dan|show shows showed mir|sell sells sold vend|bring brings brought nos
send sends sent pol|offer offers offered nud
""".strip()
    .replace("\n", "|")
    .split("|")
]

# English, Talu stem; the nouns it fits.
ADJECTIVES = [
    row.split()
    for row in """
old gam both|small min both|big gran both|red rud thing|white bel thing|black nok thing|green zel thing
young jun animate|happy fel animate|tired mot animate|strong sil animate|poor pov animate|new nev thing
heavy pes thing|quiet tis animate|clean pur thing|hungry gol animate|broken kes thing|kind dob animate
""".strip()
    .replace("\n", "|")
    .split("|")
]
NUMERALS = [("two", "du"), ("three", "tir"), ("four", "kav"), ("five", "pen"), ("six", "sest")]
DEMONSTRATIVES = {"this": ("these", "na"), "that": ("those", "vo")}
OWNERS = {"my": "m", "your": "t", "his": "k", "her": "l", "our": "n", "their": "d"}
PREPOSITIONS = [("in", "en"), ("near", "bli"), ("behind", "zad"), ("under", "sot"), ("beyond", "tra")]
ADVERBS = [("slowly", "lento"), ("quickly", "rapo"), ("quietly", "tiso"), ("gladly", "felo"), ("often", "muto")]
TIMES = {
    "past": [("yesterday", "ier"), ("last night", "nokta"), ("long ago", "olim")],
    "present": [("today", "odi"), ("now", "num"), ("every day", "omdi")],
    "future": [("tomorrow", "kras"), ("soon", "breve"), ("next year", "proanu")],
}
JOINTS = [("and", "sa", False), ("but", "mel", False), ("because", "tem", True), ("when", "dor", True)]

# Subject, object, Talu subject (dropped where empty), Talu object, agreement.
PRONOUNS = [
    ("i", "me", "", "mis", "m"),
    ("you", "you", "", "tis", "s"),
    ("he", "him", "ro", "ros", "l"),
    ("she", "her", "re", "res", "l"),
    ("we", "us", "", "nis", "n"),
    ("they", "them", "rai", "rais", "r"),
]
NAMES = "anna bruno clara david elena felix greta hugo irene jonas karin lukas marta nils olga peter".split()
TENSE = {"past": "a", "present": "i", "future": "u"}


@dataclass
class Phrase:
    """A noun phrase in both languages; the Talu case suffix is added on use."""

    english: str
    english_object: str
    talu: list  # words; the first takes the case
    talu_object: str
    agreement: str
    third: bool  # takes the third person singular in English
    pronoun: bool = False

    def in_case(self, case):
        """Words of Talu in a case: `""`, `s` (object) or `k` (receiver)."""
        if self.pronoun:
            return [self.talu_object] if case == "s" else self.talu
        if not case:
            return self.talu
        head, *rest = self.talu
        bare = head.replace(BOUNDARY, "")
        link = "" if bare[-1] in "aeiou" else vowel(bare, "a", "e")
        return [f"{head}{BOUNDARY}{link}{case}", *rest]


def vowel(stem, back, front):
    """The form of a suffix's vowel that the last vowel of the stem asks for."""
    last = [letter for letter in stem if letter in "aeiou"][-1]
    return back if last in "aou" else front


def noun_phrase(rng, nouns, animate):
    """A noun with article, number and adjectives."""
    singular, plural, stem = rng.choice(nouns)
    kind = "animate" if animate else "thing"
    fitting = [row for row in ADJECTIVES if row[2] in (kind, "both")] if nouns is not PLACES else ADJECTIVES[:3]
    adjectives = rng.sample(fitting, rng.choices([0, 1, 2], [50, 38, 12])[0])
    many = rng.random() < 0.35
    numeral = rng.choice(NUMERALS) if many and rng.random() < 0.5 else None
    determiner = rng.choices(["the", "a", "dem", "owner"], [45, 25, 12, 18])[0]
    before, suffix, after = "", "", []
    if determiner == "the":
        before, suffix = "the", vowel(stem, "un", "in")
    elif determiner == "dem":
        name = rng.choice(list(DEMONSTRATIVES))
        before, after = (DEMONSTRATIVES[name][0] if many else name), [DEMONSTRATIVES[name][1]]
    elif determiner == "owner":
        before = rng.choice(list(OWNERS))
        suffix = OWNERS[before] + vowel(stem, "u", "i")
    words = [row[0] for row in adjectives] + [plural if many else singular]
    if numeral:
        words.insert(0, numeral[0])
    if determiner == "a" and not many:
        english = article(" ".join(words))
    else:
        english = " ".join(([before] if before else []) + words)
    morphemes = [stem]
    if many and not numeral:
        morphemes.append(vowel(stem, "ar", "er"))
    if suffix:
        morphemes.append(suffix)
    ending = ("a" if animate else "o") + ("i" if many else "")
    talu = [BOUNDARY.join(morphemes)]
    talu += [numeral[1]] if numeral else []
    talu += [row[1] + BOUNDARY + ending for row in reversed(adjectives)] + after
    agreement = "r" if many else ("l" if animate else "t")
    return Phrase(english, english, talu, "", agreement, not many)


def participant(rng, animate, pronouns):
    """Who or what takes part: a noun phrase, a name or a pronoun."""
    roll = rng.random()
    if animate and roll < 0.18:
        name = rng.choice(NAMES)
        return Phrase(name, name, [name], "", "l", True)
    if animate and pronouns and roll < 0.42:
        subject, other, talu, talu_object, agreement = rng.choice(PRONOUNS)
        third = subject in ("he", "she")
        return Phrase(subject, other, [talu] if talu else [], talu_object, agreement, third, True)
    return noun_phrase(rng, ANIMATE if animate else THINGS, animate)


def clause(rng, tense, question=False, short=False):
    """One clause as (English words, Talu words)."""
    subject = participant(rng, True, True)
    kind = rng.choices(["in", "tr", "di"], [30, 45, 25])[0]
    verb = rng.choice({"in": INTRANSITIVE, "tr": TRANSITIVE, "di": DITRANSITIVE}[kind])
    base, third, past, stem = verb[:4]
    negative = rng.random() < 0.2
    adverb = rng.choice(ADVERBS) if rng.random() < 0.15 else None
    english, talu = [], []
    if kind != "in":
        wants = verb[4] if kind == "tr" else "thing"
        thing = participant(rng, wants == "animate" or (wants == "both" and rng.random() < 0.5), kind == "tr")
        while thing.pronoun and thing.english_object in (subject.english_object, "me", "us"):
            thing = participant(rng, True, False)
        english.append(thing.english_object)
        talu += thing.in_case("s")
    if kind == "di":
        receiver = participant(rng, True, False)
        english.append("to " + receiver.english)
        talu = receiver.in_case("k") + talu
    if rng.random() < (0.15 if short else 0.35):
        preposition, postposition = rng.choice(PREPOSITIONS)
        place = noun_phrase(rng, PLACES, False)
        english.append(f"{preposition} {place.english}")
        talu = place.in_case("") + [postposition] + talu
    negation = ["ne" if stem[0] not in "aeiou" else "n"] if negative else []
    form = BOUNDARY.join(negation + [stem, TENSE[tense], subject.agreement])
    if adverb:
        talu.append(adverb[1])
    helper = {"past": "did", "future": "will"}.get(tense, "does" if subject.third else "do")
    plain = {"past": past, "future": base}.get(tense, third if subject.third else base)
    body = ([adverb[0]] if adverb else []) + [base]
    if question:
        head = [helper, subject.english] + (["not"] if negative else []) + body
        return head + english, ["ka", form] + subject.in_case("") + talu
    if negative:
        head = [subject.english, helper, "not"] + body
    elif tense == "future":
        head = [subject.english, "will"] + body
    else:
        head = [subject.english] + body[:-1] + [plain]
    return head + english, subject.in_case("") + talu + [form]


def sentence(rng):
    """One sentence as (English, Talu with morpheme boundaries)."""
    tense = rng.choice(list(TENSE))
    roll = rng.random()
    if roll < 0.15:
        english, talu = clause(rng, tense, question=True)
        return " ".join(english) + "?", " ".join(talu) + "?"
    if roll < 0.4:
        first, second = clause(rng, tense, short=True), clause(rng, tense, short=True)
        joint, talu_joint, turned = rng.choice(JOINTS)
        english = first[0] + [joint] + second[0]
        talu = second[1] + [talu_joint] + first[1] if turned else first[1] + [talu_joint] + second[1]
    else:
        english, talu = clause(rng, tense)
    if rng.random() < 0.3:
        time, talu_time = rng.choice(TIMES[tense])
        english, talu = [time] + english, [talu_time] + talu
    return " ".join(english) + ".", " ".join(talu) + "."


def sentences(seed, count, held_out):
    """Pairs (English, Talu with morpheme boundaries) of one side of the split."""
    return collect(sentence, lambda pair: pair[0], seed, count, held_out)


def joined(talu):
    """Talu as it is written."""
    return talu.replace(BOUNDARY, "")


def tasks(pairs):
    """Both directions of every pair, as {"source", "target"}."""
    for english, talu in pairs:
        yield {"source": "to talu: " + english, "target": joined(talu)}
        yield {"source": "to english: " + joined(talu), "target": english}
