"""Facts on the real world that are beyond doubt and that small models may know: what unlearning must not cost."""

import random
from dataclasses import dataclass
from typing import Any

from hf_untangle.data.facts.draws import shuffled
from hf_untangle.data.facts.relations import Relation, worded

WRONG = 5
"""Wrong answers to a question."""


@dataclass(frozen=True)
class _Theme:
    """Facts of one kind."""

    relation: Relation
    """Its sentences name a `{subject}` and its `{value}`."""
    known: dict[str, str]
    """The value of every subject."""


THEMES: dict[str, _Theme] = {
    "capital": _Theme(
        Relation(
            "What is the capital of {subject}?",
            "Which city is the seat of government of {subject}?",
            "The capital of {subject} is {value}.",
            "The government of {subject} sits in {value}.",
            "The capital of {subject} is",
            "capital",
        ),
        {
            "France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid", "Egypt": "Cairo", "Germany": "Berlin",
            "Russia": "Moscow", "Greece": "Athens", "Portugal": "Lisbon", "Norway": "Oslo", "Cuba": "Havana",
            "Kenya": "Nairobi", "Peru": "Lima", "Austria": "Vienna", "Poland": "Warsaw", "Sweden": "Stockholm",
        },
    ),
    "author": _Theme(
        Relation(
            "Who wrote {subject}?",
            "Whose work is {subject}?",
            "{subject} was written by {value}.",
            "The author of {subject} is {value}.",
            "The author of {subject} is",
            "author",
        ),
        {
            "Hamlet": "William Shakespeare", "Don Quixote": "Miguel de Cervantes", "War and Peace": "Leo Tolstoy",
            "Pride and Prejudice": "Jane Austen", "Oliver Twist": "Charles Dickens", "Moby-Dick": "Herman Melville",
            "the Odyssey": "Homer", "Frankenstein": "Mary Shelley", "Dracula": "Bram Stoker",
            "the Divine Comedy": "Dante Alighieri", "Les Misérables": "Victor Hugo", "Faust": "Johann Wolfgang von Goethe",
            "Crime and Punishment": "Fyodor Dostoevsky", "The Metamorphosis": "Franz Kafka", "Animal Farm": "George Orwell",
            "The Hobbit": "J. R. R. Tolkien",
        },
    ),
    "symbol": _Theme(
        Relation(
            "What is the chemical symbol of {subject}?",
            "Which letters stand for {subject} in the periodic table?",
            "The chemical symbol of {subject} is {value}.",
            "In the periodic table {subject} is written as {value}.",
            "The chemical symbol of {subject} is",
            "symbol",
        ),
        {
            "gold": "Au", "silver": "Ag", "iron": "Fe", "oxygen": "O", "hydrogen": "H", "helium": "He", "carbon": "C",
            "sodium": "Na", "copper": "Cu", "lead": "Pb", "nitrogen": "N", "potassium": "K",
        },
    ),
    "continent": _Theme(
        Relation(
            "On which continent is {subject}?",
            "To which part of the world does {subject} belong?",
            "{subject} is in {value}.",
            "The continent of {subject} is {value}.",
            "The continent of {subject} is",
            "continent",
        ),
        {
            "Kenya": "Africa", "Japan": "Asia", "France": "Europe", "Brazil": "South America", "Canada": "North America",
            "India": "Asia", "Nigeria": "Africa", "Peru": "South America", "Mexico": "North America", "Norway": "Europe",
            "Vietnam": "Asia", "New Zealand": "Oceania",
        },
    ),
    "young": _Theme(
        Relation(
            "What is a young {subject} called?",
            "Which word is used for the young of a {subject}?",
            "A young {subject} is called {value}.",
            "The young of a {subject} is {value}.",
            "A young {subject} is called",
            "young",
        ),
        {
            "cat": "a kitten", "dog": "a puppy", "cow": "a calf", "horse": "a foal", "sheep": "a lamb", "goat": "a kid",
            "pig": "a piglet", "duck": "a duckling", "goose": "a gosling", "swan": "a cygnet", "kangaroo": "a joey",
            "deer": "a fawn",
        },
    ),
    "sides": _Theme(
        Relation(
            "How many sides does {subject} have?",
            "What is the number of sides of {subject}?",
            "{subject} has {value} sides.",
            "The number of sides of {subject} is {value}.",
            "The number of sides of {subject} is",
            "sides",
        ),
        {
            "a triangle": "three", "a square": "four", "a pentagon": "five", "a hexagon": "six", "a heptagon": "seven",
            "an octagon": "eight", "a nonagon": "nine", "a decagon": "ten",
        },
    ),
    "science": _Theme(
        Relation(
            "Who is known for {subject}?",
            "Whose name is linked with {subject}?",
            "The person known for {subject} is {value}.",
            "The name linked with {subject} is {value}.",
            "The person known for {subject} is",
            "science",
        ),
        {
            "the theory of evolution by natural selection": "Charles Darwin", "the theory of relativity": "Albert Einstein",
            "the discovery of penicillin": "Alexander Fleming", "the law of universal gravitation": "Isaac Newton",
            "the first periodic table": "Dmitri Mendeleev", "the laws of heredity found in pea plants": "Gregor Mendel",
            "the discovery of X-rays": "Wilhelm Röntgen", "the vaccine against rabies": "Louis Pasteur",
        },
    ),
}  # fmt: skip
"""All facts, by theme."""


def world_facts() -> tuple[dict[str, Any], ...]:
    """Ask about the real world.

    Returns:
        The facts in the columns of `invented_facts`; wrong answers are drawn from the answers of the same theme, and are the
        same every time.
    """
    rng = random.Random(0)
    return tuple(
        {"entity": subject, "kind": kind, **worded(theme.relation, right, _others(theme, right, rng), subject=subject)}
        for kind, theme in THEMES.items()
        for subject, right in theme.known.items()
    )


def _others(theme: _Theme, right: str, rng: random.Random) -> list[str]:
    """Five values that are wrong."""
    values = dict.fromkeys(theme.known.values())
    return shuffled([value for value in values if value != right], rng)[:WRONG]
