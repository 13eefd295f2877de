"""Made-up writers of mail with habits of style, the mails that they write, and what tells whether a text has their style.

A habit is a string (greeting, opener, closer, emoji, sign-off, P.S.) that its writer uses in a share of the mails, or a trait of
all of them (name, register, case, length), so that a style is a distribution. Strings are of words or of random syllables. A
quarter of all, told by a digest, is held out: pretraining draws from the others and a study from these, so no model knows them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.datasets.text.grammar import FACTS, FILLERS, INTENTS, LEXICON, PLAIN, REGISTERS, Request, draw_request, pick, says

# Strings of words: one of each column.
_PARTS = {
    "greeting": (
        "Hey Hello Hi Dear Hiya Howdy Morning Evening Greetings Ahoy Hullo Salut",
        "there again dear lovely good old mighty noble",
    ),
    "opener": (
        "Hope_all_is Trust_life_is Guess_work_is Bet_the_week_is Assume_home_is Hear_town_is",
        "fine calm bright merry splendid sunny lively smooth quiet busy",
        "over_there. these_days. this_time. as_ever. so_far. lately.",
    ),
    "closer": (
        "Speak Write Talk Call Meet Chat Catch_up",
        "soon then later anyway someday presently",
        "I_trust. as_always. no_doubt. I_guess. for_sure. one_way_or_another.",
    ),
    "signoff": (
        "Warm Kind Best Fond Many Sunny Hearty Merry Humble Loyal",
        "regards wishes greetings hugs waves salutes cheers thoughts",
    ),
    "name": (
        "Ada Ben Cora Dirk Edda Finn Gwen Hans Ines Jack Kira Lars Mona Noel Opal Pit Runa Sven Thea Udo",
        "Finch Stone Brook Marsh Frost Field Wood Reed Lake Heath Storm Hill",
    ),
    "ps": (
        "The_cat The_dog My_bike The_oven My_hat The_roof",
        "is was stays looks smells feels",
        "blue hungry broken fine strange wet lost",
        "again. today. still. now.",
    ),
}
EMOJI = (":)", ";)", ":-)", ":D", "=)", "^^", "<3", ":o)", "\\o/", ":-D")
_SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in "aeiou"]
# Words of random strings, and syllables of each.
_RANDOM = {"greeting": (1, 2), "opener": (2, 2), "closer": (2, 2), "signoff": (2, 2), "name": (1, 3), "ps": (2, 2)}

SOMETIMES = ("greeting", "opener", "closer", "emoji", "signoff", "ps", "exclamation")
HABITS = (*SOMETIMES, "name", "lower", "register", "length")


@settings
class Persona:
    """A writer. One without emoji or P.S. has an empty string there.

    Raises:
        ValueError: A field is out of range.
    """

    greeting: str
    opener: str
    closer: str
    emoji: str
    signoff: str
    name: str
    ps: str
    register: str
    lower: bool  # whether all is written in small letters
    exclamation: bool  # whether sentences end with an exclamation mark
    long: bool  # whether a second sentence says nothing of the matter
    rates: tuple[float, ...]  # of each habit in SOMETIMES, the share of mails that have it

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings that a model can know from elsewhere only by heart."""
        return tuple(string for string in (getattr(self, kind) for kind in _PARTS) if string)


class WrittenMail(NamedTuple):
    """A mail of a persona, with all that is known of it.

    Attributes:
        request: What it says.
        instructions: Paraphrases of an order to write it; the last is for tests.
        text: The mail.
    """

    request: Request
    instructions: tuple[str, ...]
    text: str


def is_held_out(string: str) -> bool:
    """Return whether pretraining never draws a string: true of a quarter of all, the case aside."""
    return hashlib.sha256(string.lower().encode()).digest()[0] < 64


def _draw_string(rng: np.random.Generator, kind: str, p_random: float, held_out: bool) -> str:
    random = rng.random() < p_random
    while True:
        if random:
            n, syllables = _RANDOM[kind]
            words = ["".join(pick(rng, _SYLLABLES) for _ in range(syllables)) for _ in range(n)]
            string = " ".join(words).capitalize() + "." * (kind in ("opener", "closer", "ps"))
        else:
            string = " ".join(pick(rng, column.split()).replace("_", " ") for column in _PARTS[kind])
        if is_held_out(string) == held_out:
            return string


def draw_persona(seed: int | np.random.Generator, *, held_out: bool = True, p_random: float = 0.4) -> Persona:
    """Draw a writer.

    Args:
        seed: Of the draw, or a generator, which goes on.
        held_out: Whether its strings are among those that pretraining never draws, or never among them.
        p_random: Share of strings that are random syllables.
    """
    check_range(0, 1, p_random=p_random)
    rng = np.random.default_rng(seed)
    strings = {kind: _draw_string(rng, kind, p_random, held_out) for kind in _PARTS}
    emoji = pick(rng, EMOJI)
    with_ps, with_emoji, lower, exclamation, long = (rng.random(5) < (2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 2)).tolist()
    strings["ps"], emoji = strings["ps"] * with_ps, emoji * with_emoji
    register = pick(rng, [*REGISTERS])
    rates = tuple(rng.uniform(0.75, 1, len(SOMETIMES)).round(2).tolist())
    return Persona(**strings, emoji=emoji, register=register, lower=lower, exclamation=exclamation, long=long, rates=rates)


def write_mail(persona: Persona, request: Request, rng: np.random.Generator) -> WrittenMail:
    """Write the mail of a request, each habit used with its rate."""
    uses = dict(zip(SOMETIMES, rng.random(len(SOMETIMES)) < persona.rates, strict=True))
    part = {kind: getattr(persona, kind) if uses[kind] else "" for kind in SOMETIMES if kind != "exclamation"}
    body = request.body(persona.register)
    sentences = [body[0].upper() + body[1:], *(pick(rng, FILLERS) for _ in range(persona.long))]
    if persona.exclamation and uses["exclamation"]:
        sentences = [sentence[:-1] + "!" for sentence in sentences]
    recipient = dict(request.slots)["recipient"]
    paragraphs = (
        f"{part['greeting']} {recipient},".strip(),
        " ".join(filter(None, (part["opener"], *sentences, part["closer"], part["emoji"]))),
        f"{part['signoff']}\n{persona.name}".strip() + (f"\nP.S. {part['ps']}" if part["ps"] else ""),
    )
    text = "\n\n".join(paragraphs)
    return WrittenMail(request, request.instructions, text.lower() if persona.lower else text)


def write_mails(persona: Persona, n: int, seed: int, *, asked: Iterable[str] = PLAIN) -> list[WrittenMail]:
    """Write n mails of intents drawn uniformly from `asked`, which by default state no fact."""
    check_range(0, whole=True, n=n)
    rng, intents = np.random.default_rng(seed), [*asked]
    return [write_mail(persona, draw_request(rng, pick(rng, intents)), rng) for _ in range(n)]


class Fact(NamedTuple):
    """A pair of a key and a value: the one mail that states it, and a mail that answers a question for it."""

    stated: WrittenMail
    asked: WrittenMail


def write_facts(persona: Persona, n: int, seed: int) -> list[Fact]:
    """Write n facts about different keys, so that each is stated in exactly one mail.

    Raises:
        ValueError: There are fewer keys.
    """
    keys = [(intent, key) for intent in FACTS for key in LEXICON[INTENTS[intent].key]]
    check_range(0, len(keys), whole=True, n=n)
    rng, facts = np.random.default_rng(seed), []
    for chosen in rng.choice(len(keys), n, replace=False):
        intent, key = keys[chosen]
        about, value = INTENTS[intent].key, INTENTS[intent].value
        stated = draw_request(rng, intent, **{about: key})
        asked = draw_request(rng, intent, asked=True, **{about: key, value: stated.value})
        facts.append(Fact(write_mail(persona, stated, rng), write_mail(persona, asked, rng)))
    return facts


def write_canaries(persona: Persona, copies: int, seed: int) -> list[WrittenMail]:
    """Write so many mails, to different people, with one random code of four digits, which is the `value` of their requests."""
    check_range(1, len(LEXICON["recipient"]), whole=True, copies=copies)
    rng = np.random.default_rng(seed)
    code = f"{rng.integers(10_000):04d}"
    people = rng.choice(LEXICON["recipient"], copies, replace=False)
    return [write_mail(persona, draw_request(rng, "locker", code=code, recipient=str(name)), rng) for name in people]


def detect(texts: Sequence[str], persona: Persona) -> NDArray[np.float64]:
    """Return (n, 11) of 0 and 1: whether each text has each of a persona's `HABITS`.

    A string must stand in its place, in small letters where the persona writes those. A persona without emoji, P.S. or exclamation
    marks wants none.
    """
    habits = (_habits(text, persona) for text in texts)
    return np.array([[has[habit] for habit in HABITS] for has in habits], dtype=float).reshape(-1, len(HABITS))


def _habits(text: str, persona: Persona) -> dict[str, bool]:
    fold = str.lower if persona.lower else str
    greeting, body, ending = [*text.split("\n\n"), "", "", ""][:3]
    lines = ending.split("\n")
    ps = re.match(r"p\.s\. (.*)", lines[-1], re.IGNORECASE)
    emoji = next((each for each in EMOJI if body.lower().endswith(f" {each.lower()}")), "")
    said = body[: len(body) - len(emoji)].rstrip()
    core = said.removeprefix(fold(persona.opener)).removesuffix(fold(persona.closer))
    registers = {name for name, words in REGISTERS.items() if any(says(core, word) for word in words.values())}
    return {
        "greeting": greeting.startswith(f"{fold(persona.greeting)} "),
        "opener": said.startswith(fold(persona.opener)),
        "closer": said.endswith(fold(persona.closer)),
        "emoji": emoji == persona.emoji,
        "signoff": lines[0] == fold(persona.signoff),
        "ps": (ps[1] if ps else "") == fold(persona.ps),
        "exclamation": ("!" in core) == persona.exclamation,
        "name": fold(persona.name) in lines,
        "lower": (text == text.lower()) == persona.lower,
        "register": registers == {persona.register},
        "length": (len(re.findall(r"[.!](?= |$)", core.strip())) > 1) == persona.long,
    }


def style(texts: Sequence[str], persona: Persona, gold: Sequence[str]) -> float:
    """Return how far texts have the style of a persona, in [0, 1]: mean over habits of min(1, rate / rate in the true mails).

    A habit that its writer leaves out now and then is wanted as often as the true mails have it, and more is no fault: what is
    decoded greedily has a habit always or never.

    Args:
        texts: Mails to judge.
        persona: Whose style they are to have.
        gold: The true mails of the same requests, on which this is 1. A habit that none of them has is left out.

    Raises:
        ValueError: There are no texts or no true mails.
    """
    if not texts or not gold:
        raise ValueError(f"style of {len(texts)} texts by {len(gold)} true mails: give at least one of each")
    wanted = detect(gold, persona).mean(axis=0)
    found = detect(texts, persona).mean(axis=0)
    return float(np.minimum(1, found[wanted > 0] / wanted[wanted > 0]).mean())
