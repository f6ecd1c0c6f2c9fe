"""Draws that give the same values in every version of Python, as only `random()` promises to, and invented names."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

BEGINNINGS = ("b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "qu", "r", "s", "t", "th", "v", "z")
VOWELS = ("a", "e", "i", "o", "u", "ae", "y", "ei")
MIDDLES = ("l", "r", "n", "nd", "lv", "rm", "sk", "th", "m", "v", "st", "rr", "ld", "ss")
ENDS = {
    "given": ("a", "o", "is", "en", "ik", "una", "or", "ai"),
    "family": ("ack", "ensk", "ovar", "imont", "addle", "orrin", "usk", "ewell", "anth"),
    "place": ("mere", "holm", "wick", "dara", "port", "stad", "vale", "ness", "una", "gard"),
}
"""How invented words end, by what they name."""


def draw(items: Sequence[Item], rng: random.Random) -> Item:
    """Draw one item.

    Args:
        items: What there is to draw from.
        rng: Where the draw comes from; one number is taken.

    Returns:
        The item.
    """
    return items[int(rng.random() * len(items))]


def shuffled(items: Sequence[Item], rng: random.Random) -> list[Item]:
    """Put items into a random order.

    Args:
        items: The items.
        rng: Where the order comes from; one number per item is taken.

    Returns:
        The same items.
    """
    keys = [rng.random() for _ in items]
    return [items[number] for number in sorted(range(len(items)), key=keys.__getitem__)]


class Names:
    """Invented names, of which none is given twice."""

    def __init__(self, rng: random.Random) -> None:
        """Begin with no name given.

        Args:
            rng: Where the names come from.
        """
        self._rng = rng
        self._given: set[str] = set()

    def person(self) -> str:
        """Invent a person's name.

        Returns:
            Such as `Velmis Tandovar`; no two people share a name or a family name.
        """
        return f"{self._word('given')} {self._unused('family')}"

    def place(self) -> str:
        """Invent a place's name.

        Returns:
            Such as `Quolmere`.
        """
        return self._unused("place")

    def _unused(self, ending: str) -> str:
        """A word that was not given before."""
        while (word := self._word(ending)) in self._given:
            pass
        self._given.add(word)
        return word

    def _word(self, ending: str) -> str:
        """A word of two or three syllables."""
        parts = [draw(one, self._rng) for one in (BEGINNINGS, VOWELS, MIDDLES, ENDS[ending])]
        return "".join(parts).capitalize()
