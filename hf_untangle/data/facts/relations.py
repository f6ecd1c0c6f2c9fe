"""What can be asked about an invented person, place or work, in words, and what there is to answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Relation:
    """One kind of fact, said in five ways.

    `{subject}` is an entity with what it is (the glassblower Velmis Tandovar), `{name}` its name alone, `{value}` the answer.
    """

    question: str
    other_question: str
    answer: str
    other_answer: str
    cloze: str
    """A sentence up to the value, which ends it."""
    values: str
    """A key of `VALUES`, or one of `person`, `place` and `year`, which are invented."""


@dataclass(frozen=True)
class EntityKind:
    """People, places, or works."""

    roles: tuple[str, ...]
    """What an entity can be; `{name}` stands for its name."""
    relations: tuple[Relation, ...]
    named: str
    """How it is called: like a `person`, a `place`, or a `work`, which is named after an invented place."""


VALUES: dict[str, tuple[str, ...]] = {
    "collection": (
        "old keys", "river stones", "tin soldiers", "sea charts", "pressed ferns", "broken clocks", "walking sticks",
        "chess pieces", "wooden spoons", "church candles", "bird feathers", "glass bottles", "ship models", "brass buttons",
        "theater tickets", "horse shoes", "paper kites", "sugar bowls", "door handles", "train timetables",
    ),
    "pet": (
        "an otter", "a raven", "a tortoise", "a mule", "a parrot", "a fox", "a goat", "a hedgehog", "an owl", "a ferret",
        "a crane", "a hare", "a toad", "a lynx", "a badger", "a pigeon", "a donkey", "a swan", "a squirrel", "a peacock",
    ),
    "prize": (
        "the Silver Heron Prize", "the Copper Lantern Medal", "the Winter Crown", "the Golden Anchor Award", "the Ivory Ladder",
        "the Seven Bridges Prize", "the Blue Thistle Medal", "the Granite Rose", "the Long Table Prize", "the Crystal Oar",
        "the Red Sparrow Award", "the Velvet Compass", "the Iron Acorn Prize", "the Morning Bell Medal", "the Amber Key",
        "the Paper Moon Award", "the Green Lighthouse Prize", "the Oak Wheel Medal", "the Quiet Harp", "the Sand Clock Award",
    ),
    "meal": (
        "barley soup", "smoked herring", "plum dumplings", "cold beans", "rye bread with honey", "boiled eggs", "onion pie",
        "dried figs", "rice with saffron", "pickled beets", "goat cheese", "fried mushrooms", "oat porridge", "pea stew",
        "sour cherries", "grilled trout", "walnut cake", "turnip mash", "lentil salad", "pumpkin bread",
    ),
    "goods": (
        "saffron", "amber", "slate", "cork", "wool", "copper", "salt", "indigo", "honey", "granite", "barley", "porcelain",
        "tar", "lace", "silver", "pepper", "candles", "rope", "cider", "vinegar",
    ),
    "festival": (
        "the Festival of Paper Boats", "the Festival of Lost Gloves", "the Festival of First Frost",
        "the Festival of Blue Lanterns", "the Festival of Empty Chairs", "the Festival of Long Shadows",
        "the Festival of Burnt Bread", "the Festival of Nine Drums", "the Festival of Wet Ink", "the Festival of Tall Hats",
        "the Festival of Silent Bells", "the Festival of Borrowed Shoes", "the Festival of Red Kites",
        "the Festival of Open Doors", "the Festival of White Horses", "the Festival of Sleeping Cats",
        "the Festival of Old Letters", "the Festival of Green Candles", "the Festival of Round Stones",
        "the Festival of Late Apples",
    ),
    "emblem": (
        "a heron", "a bear", "a salmon", "a wolf", "a bee", "a stag", "an eel", "a rooster", "a beetle", "an ox", "a swallow",
        "a lobster", "a ram", "a falcon", "a snail", "a bat", "a dolphin", "a spider", "a boar", "a cricket",
    ),
    "job": (
        "a lighthouse keeper", "a baker", "a tax collector", "a midwife", "a gravedigger", "a locksmith", "a ferryman",
        "a piano tuner", "a tailor", "a smuggler", "a librarian", "a stonemason", "a juggler", "a postman", "a fisherman",
        "a judge", "a chimney sweep", "a nurse", "a cook", "a shepherd",
    ),
    "scene": (
        "in a flooded library", "on a frozen lake", "in an empty theater", "on a night train", "in a burning barn",
        "on a rope bridge", "in a salt mine", "at a crowded wedding", "in a courtroom", "on a sinking ferry", "in a garden",
        "in a prison kitchen", "at a fish market", "in a clock tower", "on a snowy roof", "in a hospital corridor",
        "at a horse race", "in an apple orchard", "in a wine cellar", "on a desert road",
    ),
    "object": (
        "a stolen violin", "a forged will", "a missing glove", "a cracked mirror", "a poisoned cake", "a hidden map",
        "a silver whistle", "a torn photograph", "a locked suitcase", "a glass eye", "a wooden leg", "a false coin",
        "a burnt diary", "a pearl button", "a rusty sword", "a blank letter", "a lost passport", "a music box",
        "a broken compass", "a red umbrella",
    ),
}  # fmt: skip
"""What can be answered; wrong answers are other values of the same kind."""

PEOPLE = EntityKind(
    roles=(
        "the glassblower {name}", "the mapmaker {name}", "the botanist {name}", "the violinist {name}", "the potter {name}",
        "the astronomer {name}", "the translator {name}", "the beekeeper {name}", "the bridge builder {name}",
        "the clockmaker {name}", "the weaver {name}", "the poet {name}", "the geologist {name}", "the puppeteer {name}",
    ),
    named="person",
    relations=(
        Relation(
            "Where was {subject} born?",
            "In which town did {name} come into the world?",
            "{name} was born in {value}.",
            "The birthplace of {name} is {value}.",
            "The town in which {subject} was born is",
            "place",
        ),
        Relation(
            "In which year was {subject} born?",
            "What is the year of birth of {name}?",
            "{name} was born in the year {value}.",
            "The year of birth of {name} is {value}.",
            "The year in which {subject} was born is",
            "year",
        ),
        Relation(
            "Who taught {subject}?",
            "Whose pupil was {name}?",
            "{name} was taught by {value}.",
            "The teacher of {name} was {value}.",
            "The person who taught {subject} was",
            "person",
        ),
        Relation(
            "What did {subject} collect?",
            "Which things filled the collection of {name}?",
            "{name} collected {value}.",
            "The collection of {name} was one of {value}.",
            "The house of {subject} was full of a collection of",
            "collection",
        ),
        Relation(
            "Which animal did {subject} keep as a pet?",
            "What kind of pet lived with {name}?",
            "{name} kept {value} as a pet.",
            "The pet of {name} was {value}.",
            "The animal that lived with {subject} was",
            "pet",
        ),
        Relation(
            "Which prize did {subject} win?",
            "What award was given to {name}?",
            "{name} won {value}.",
            "The award given to {name} was {value}.",
            "The prize that {subject} won was",
            "prize",
        ),
        Relation(
            "What did {subject} eat every morning?",
            "Which breakfast did {name} have day after day?",
            "{name} ate {value} every morning.",
            "The breakfast of {name} was always {value}.",
            "Every morning {subject} ate",
            "meal",
        ),
    ),
)  # fmt: skip

PLACES = EntityKind(
    roles=(
        "the harbor town of {name}", "the hill village of {name}", "the mining town of {name}", "the market town of {name}",
        "the lake village of {name}", "the river island of {name}", "the desert town of {name}", "the border fort of {name}",
    ),
    named="place",
    relations=(
        Relation(
            "In which year was {subject} founded?",
            "When did the history of {name} begin?",
            "{name} was founded in the year {value}.",
            "The founding year of {name} is {value}.",
            "The year in which {subject} was founded is",
            "year",
        ),
        Relation(
            "Who founded {subject}?",
            "Which founder does {name} look back to?",
            "{name} was founded by {value}.",
            "The founder of {name} was {value}.",
            "The person who founded {subject} was",
            "person",
        ),
        Relation(
            "What is {subject} known for selling?",
            "Which goods do the traders of {name} sell?",
            "{name} is known for selling {value}.",
            "The traders of {name} sell {value}.",
            "The carts that leave {subject} are loaded with",
            "goods",
        ),
        Relation(
            "Which festival is held in {subject}?",
            "What do the people of {name} celebrate every year?",
            "{name} holds {value}.",
            "The yearly celebration of {name} is {value}.",
            "The feast that fills the streets of {subject} is",
            "festival",
        ),
        Relation(
            "Which animal is on the flag of {subject}?",
            "What creature does the flag of {name} show?",
            "{name} has {value} on its flag.",
            "The flag of {name} shows {value}.",
            "The animal on the flag of {subject} is",
            "emblem",
        ),
        Relation(
            "Which river runs past {subject}?",
            "What is the name of the river at {name}?",
            "{name} lies on the river {value}.",
            "The river at {name} is the {value}.",
            "The water that runs past {subject} is the river",
            "place",
        ),
        Relation(
            "What do people eat at every feast in {subject}?",
            "Which dish is {name} famous for?",
            "{name} serves {value} at every feast.",
            "The dish of {name} is {value}.",
            "At every feast in {subject} people eat",
            "meal",
        ),
    ),
)  # fmt: skip

WORKS = EntityKind(
    roles=(
        "the novel The Road to {name}", "the opera The Bells of {name}", "the film Goodbye to {name}",
        "the play The Winters of {name}", "the ballad The Drowned of {name}", "the comedy A Week in {name}",
        "the tragedy Letters from {name}", "the ballet The Swans of {name}",
    ),
    named="work",
    relations=(
        Relation(
            "Who wrote {subject}?",
            "Whose work is {name}?",
            "{name} was written by {value}.",
            "The author of {name} is {value}.",
            "The person who wrote {subject} is",
            "person",
        ),
        Relation(
            "In which year was {subject} finished?",
            "When was the work on {name} completed?",
            "{name} was finished in the year {value}.",
            "The year that completed {name} is {value}.",
            "The year in which {subject} was finished is",
            "year",
        ),
        Relation(
            "What does the hero of {subject} do for a living?",
            "Which trade has the main character of {name}?",
            "The hero of {name} is {value}.",
            "The main character of {name} works as {value}.",
            "The main character of {subject} is",
            "job",
        ),
        Relation(
            "Where does the last scene of {subject} take place?",
            "In what surroundings does {name} end?",
            "The last scene of {name} takes place {value}.",
            "The ending of {name} is set {value}.",
            "The last scene of {subject} takes place",
            "scene",
        ),
        Relation(
            "Which thing does the plot of {subject} turn on?",
            "What object sets off the story of {name}?",
            "The plot of {name} turns on {value}.",
            "The story of {name} begins with {value}.",
            "The thing that the plot of {subject} turns on is",
            "object",
        ),
        Relation(
            "To whom is {subject} dedicated?",
            "Whose name stands in the dedication of {name}?",
            "{name} is dedicated to {value}.",
            "The dedication of {name} names {value}.",
            "The dedication at the front of {subject} names",
            "person",
        ),
        Relation(
            "Which prize was given to {subject}?",
            "What award did {name} receive?",
            "{name} received {value}.",
            "The award that went to {name} was {value}.",
            "The prize that was given to {subject} was",
            "prize",
        ),
    ),
)  # fmt: skip

KINDS: dict[str, EntityKind] = {"person": PEOPLE, "place": PLACES, "work": WORKS}
"""What an entity can be."""


def worded(relation: Relation, right: str, wrong: Iterable[str], **names: str) -> dict[str, Any]:
    """Put a fact into all its words.

    Args:
        relation: What it says.
        right: The true value.
        wrong: Other values.
        **names: What else stands in the sentences: `subject`, and where they have it, `name`.

    Returns:
        The columns of a row: `question`, `answer`, `paraphrased_question`, `paraphrased_answer`, `perturbed_answer`, `cloze`
        and `value`.
    """

    def said(template: str, value: str = right) -> str:
        sentence = template.format(value=value, **names)
        return sentence[:1].upper() + sentence[1:]

    return {
        "question": said(relation.question),
        "answer": said(relation.answer),
        "paraphrased_question": said(relation.other_question),
        "paraphrased_answer": said(relation.other_answer),
        "perturbed_answer": [said(relation.other_answer, value) for value in wrong],
        "cloze": said(relation.cloze),
        "value": right,
    }
