"""The model cards: what a folder is, from its own files and from the figures measured on it."""

import json
import textwrap

from safetensors import safe_open

import evaluate

CARDS = {
    "storyteller": {
        "title": "storyteller",
        "task": "text-generation",
        "what": """A GPT-2 that tells very short stories. Every story has a hero with a name and a home, a friend,
a coloured thing, a problem and its solution; the model has to remember who is he or she, which thing it
is and where it was left.""",
        "use": """tilewright generate --model storyteller --prompt "Once there was a brave mouse named Tom."
""",
        "data": """The stories come from `tools/demo_models/grammar/stories.py`. Hero, home, thing and friend together
decide, by a hash, whether a story is held out, so no held-out combination is seen in training. In
`held_out.jsonl` a `story` begins with its `prompt` (its first one to three sentences).""",
        "measures": """Perplexity is per token, over all tokens of a story but its first, without a token before it. A
greedy continuation of a prompt keeps its facts when it ends by itself, names exactly two characters, has one
coloured thing, and uses no pronoun that neither of them can have.""",
        "limits": """It knows eight plots, two dozen names and a few hundred words. A prompt should begin as its
stories begin (`Once`, `Once upon a time`, `There once lived`, or a name that `was a`); one that starts in the
middle or tells of anything else is bent back to a plot or falls apart.""",
    },
    "reader": {
        "title": "reader",
        "task": "fill-mask",
        "what": """A BERT trunk trained on four tasks at once. This folder is the masked language model;
`heads/sentiment`, `heads/entities` and `heads/answers` hold only what their head adds to the trunk, so that
heads are exchanged without loading the trunk again. Sentiment is negative, neutral or positive. Entities are
PER, ORG, LOC and DATE in BIO labels. An answer is a run of words of the text that a question is about.""",
        "use": """tilewright fill-mask --model reader "the food was [MASK], but the service was terrible."
tilewright classify --model sentiment "the plot was not boring at all."
tilewright tag --model entities "anna tormin works for kelven bank in lake selford."
tilewright answer --model answers --question "who leads kelven bank?" \\
  --context "anna tormin, who comes from lake selford, leads kelven bank. it snowed on monday."
""",
        "data": """Reviews come from `tools/demo_models/grammar/reviews.py`: negation, contrast (`but`, `although`,
`despite`) and last verdicts decide the label, not the words alone. News come from
`grammar/news.py`: persons, places and companies share their names' pieces, so the sentence decides the kind;
all names made of two halves in the held-out texts were never seen in training. Questions come from
`grammar/questions.py`: the answer is in one of two or three facts. A hash of the text decides which reviews,
news and questions are held out. The first piece of a word is trained with the word's label, later pieces
of an entity as inside it.""",
        "measures": """An entity counts when its kind and both offsets are exact, an answer when both offsets are. The masked word is one whole word
per text; several words are often equally right, which bounds the figure.""",
        "limits": """Its reviews are of twelve kinds of things, its news of some fifty patterns and its questions of as many, with about 700 word
pieces in lower case. Other words are spelled out in letters that carry little meaning, irony is unknown to it,
and a contrast is decided by grammar alone.""",
    },
    "translator": {
        "title": "translator",
        "task": "translation",
        "what": """A T5 that translates between a controlled English and Talu, a language invented for it, in both
directions (`to talu: ` and `to english: ` before the text). Talu puts the verb last, marks case, number, article
and owner by suffixes that follow vowel harmony, has adjectives agree with their noun and verbs with their
subject, drops some pronouns, and tells reasons before what they explain. Nothing translates word by word.""",
        "use": """tilewright translate --model translator "to talu: the old woman gave two apples to the boy."
tilewright translate --model translator "to english: selimin gama kipeninek obaras du danal."
""",
        "data": """The sentences come from `tools/demo_models/grammar/translation.py`, whose head describes Talu. A
hash of the English sentence decides whether it is held out.""",
        "measures": """Exact match is of the whole sentence, with greedy decoding.""",
        "limits": """It knows some 130 words of each language and sentences of one or two clauses. Words outside of the
lexicon are spelled or replaced by known ones.""",
    },
    "summarizer": {
        "title": "summarizer",
        "task": "summarization",
        "what": """A T5 that turns a short report into one sentence. The facts of the summary stand in different places
of the report; first counts may be corrected, scores must be matched to the right side, and some sentences do
not matter.""",
        "use": """tilewright summarize --model summarizer "on monday a fire broke out in the bakery in tamfield. \\
ten people were injured. the cause is not yet known."
""",
        "data": """The reports come from `tools/demo_models/grammar/reports.py` and `events.py`: ten kinds of events. Town names and
surnames of the held-out reports were never seen in training, though their halves were.""",
        "measures": """Exact match is of the whole summary, with greedy decoding.""",
        "limits": """It knows ten kinds of events, in the wordings of its grammar. Other text gets a summary in the form of
one of them, which may then be wrong.""",
    },
}


def described(folder):
    """Architecture, parameters and the numbers that describe a folder's model."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    parameters = 0
    for file in sorted(folder.rglob("model.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():
                count = 1
                for side in weights.get_slice(name).get_shape():
                    count *= side
                parameters += count
    width = config.get("d_model") or config.get("hidden_size") or config["n_embd"]
    heads = config.get("num_heads") or config.get("num_attention_heads") or config["n_head"]
    layers = config.get("num_layers") or config.get("num_hidden_layers") or config["n_layer"]
    both = " in the encoder and as many in the decoder" if config["model_type"] == "t5" else ""
    included = ", heads included" if (folder / "heads").is_dir() else ""
    return [
        f"- architecture: `{config['architectures'][0]}` (`{config['model_type']}`)",
        f"- {parameters:,} parameters in f16{included}",
        f"- {layers} layers{both}, width {width}, {heads} attention heads, vocabulary {config['vocab_size']}",
    ]


def paragraph(text):
    """A paragraph as it stands in a card."""
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False)


def card(name, module, folder, figures):
    """The text of a folder's README.md."""
    words = CARDS[name]
    rows = [f"| {measure} | {evaluate.percent(measure, value)} | {count} |" for measure, value, count in figures]
    each = "examples of each task" if name == "reader" else "examples"
    training = f"""By `tools/demo_models/train.py --only {name}` in PyTorch, from nothing: {module.STEPS:,} steps of
        AdamW, {module.BATCH} {each} a step, peak learning rate {module.PEAK:g}, seed {module.SEED}, no dropout;
        minutes on one CPU core. No pretrained weights and no outside data were used. The weights were rounded
        to f16 at the end, and everything below is measured with them."""
    measured = f"Measured by `tools/demo_models/evaluate.py --only {name}`."
    front = ["---", "license: [mit, apache-2.0]", "language: en", f"pipeline_tag: {words['task']}", "---"]
    sections = [
        "\n".join(front),
        f"# {words['title']}",
        paragraph(words["what"]),
        f"```\n{words['use'].rstrip()}\n```",
        "## Size",
        "\n".join(described(folder)),
        "## Training",
        paragraph(training),
        "## Data",
        paragraph(words["data"]),
        "## Held-out figures",
        "\n".join(["| measure | value | held out |", "|---|---|---|", *rows]),
        paragraph(f"{words['measures']} {measured}"),
        "## Limits",
        paragraph(words["limits"]),
        "## Licence",
        "MIT OR Apache-2.0, as the rest of the repository.",
    ]
    return "\n\n".join(sections) + "\n"
