"""What made-up mails say: requests of some intents with slots, as instructions and as the sentence of a mail.

Nothing here is about a writer. Three intents state facts: a pair of a key (a topic or a person) and a value from a closed list.
A fact is stated by an instruction with the value, and asked for by one without, so that only an earlier mail tells it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from effnotes.core.checks import check_choice

LEXICON = {
    slot: tuple(words.split())
    for slot, words in {
        "recipient": """Alice Boris Carla Daniel Elena Felix Greta Hugo Irene Jonas Karin Leo Marta Nils Olga Paula Quentin Rosa
            Stefan Tanja Ulrich Vera Walter Xenia Yusuf Zoe Anton Bianca Clemens Doris Emil Frida Gustav Helga Ivan Judith Klaus
            Lena Moritz Nora Oskar Petra""",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "time": "8:30 9:00 9:45 10:15 11:00 11:30 12:45 13:15 14:00 14:30 15:45 16:00 16:30 17:15 18:00",
        "topic": """budget poster lecture workshop grant thesis survey seminar interview proposal contract inventory website
            newsletter exhibition syllabus conference experiment manuscript deadline garden kitchen archive choir festival picnic
            excursion election audit rehearsal concert tournament reunion harvest library server printer catalogue museum
            playground""",
        "item": """keys slides charger tickets minutes photos recipe bicycle ladder camera notebook invoice receipt report tent
            drill umbrella violin projector microscope cables badge passport letter parcel chairs lamps books plates flowers jacket
            kettle map calendar folder sketch sample battery speaker helmet""",
        "room": """Maple Cedar Walnut Hazel Birch Willow Juniper Laurel Aspen Poplar Linden Rowan Alder Cypress Olive Almond Cherry
            Peach Plum Quince Lemon Apricot Fig Mulberry Chestnut Acacia Magnolia Jasmine Lilac Orchid Tulip Violet Dahlia Daisy
            Clover Fern Heather Ivy Lotus Poppy""",
        "town": """Lisbon Porto Madrid Seville Paris Lyon Geneva Basel Milan Turin Naples Athens Sofia Bucharest Budapest Prague
            Warsaw Krakow Riga Tallinn Helsinki Oslo Bergen Stockholm Malmo Copenhagen Hamburg Bremen Leipzig Dresden Munich
            Salzburg Graz Zagreb Dublin Galway Cardiff Leeds Bristol Glasgow""",
        "project": """Falcon Badger Otter Heron Lynx Marten Osprey Puffin Raven Salmon Sparrow Stork Swallow Tiger Walrus Weasel
            Zebra Beaver Bison Camel Cobra Condor Coyote Dolphin Donkey Eagle Ferret Gecko Hamster Iguana Jackal Koala Lemur
            Leopard Magpie Moose Panda Parrot Pelican Penguin""",
    }.items()
}
LEXICON["person"] = LEXICON["recipient"]


class Intent(NamedTuple):
    """How a request is worded.

    Attributes:
        instructions: Paraphrases; the last is kept for tests, and no pretraining sees it.
        body: The sentence; {want}, {cannot} and so on are filled from a register.
        value: Of a fact, the slot of its value; `asked` are instructions without it.
        key: Of a fact, the slot that it is about.
    """

    instructions: tuple[str, ...]
    body: str
    value: str = ""
    key: str = ""
    asked: tuple[str, ...] = ()


# The name of an intent, the sentence of a mail, and four instructions; of a fact also the slots of its value and its key, and
# instructions without the value.
_TEXT = """
meet
I {want} to meet on {day} at {time} to talk about the {topic}.
Ask {recipient} to meet on {day} at {time} about the {topic}.
Propose a meeting with {recipient} about the {topic}, {day} {time}.
Write to {recipient}: could we talk about the {topic} on {day} at {time}?
Set up a talk on the {topic} with {recipient} for {day} at {time}.

decline
I {cannot} come to the {topic} on {day}.
Tell {recipient} that I will miss the {topic} on {day}.
Decline {recipient}'s invitation to the {topic} on {day}.
Let {recipient} know that {day} does not suit me for the {topic}.
Excuse me to {recipient} from the {topic} on {day}.

thank
{thanks} for the {item}, it came in good time.
Thank {recipient} for the {item}.
Write to {recipient} that I am grateful for the {item}.
Say to {recipient} that the {item} arrived, with thanks.
Express my gratitude to {recipient} for the {item}.

status
I {need} news on the {topic} by {day}.
Ask {recipient} how the {topic} is going, answer by {day}.
Request news on the {topic} from {recipient} until {day}.
Find out from {recipient} by {day} where the {topic} stands.
Get an update on the {topic} from {recipient}, due {day}.

send
I {want} to {get} the {item} by {day}.
Ask {recipient} to send me the {item} by {day}.
Request the {item} from {recipient}, before {day}.
Tell {recipient} that the {item} should reach me by {day}.
Have {recipient} mail me the {item}, no later than {day}.

move
the {topic} moves to {day} at {time}, tell me if that is not {ok}.
Tell {recipient} that the {topic} moves to {day} at {time}.
Inform {recipient}: new date of the {topic} is {day}, {time}.
Reschedule the {topic} with {recipient} to {day} {time}.
Shift the {topic} to {time} on {day} and let {recipient} know.

need
I {need} the {item} for the {topic} this time.
Tell {recipient} that I need the {item} for the {topic}.
Write to {recipient} that the {topic} takes the {item}.
Let {recipient} know: no {topic} without the {item}.
Point out to {recipient} that I lack the {item} for the {topic}.

agree
{day} at {time} is {ok} for the {topic}.
Agree to {recipient}'s date for the {topic}, {day} at {time}.
Confirm {day} {time} for the {topic} to {recipient}.
Say yes to {recipient}: {topic} on {day} at {time}.
Accept the slot for the {topic} that {recipient} offers, {day} {time}.

return
you will {get} the {item} back on {day}.
Promise {recipient} to bring back the {item} on {day}.
Tell {recipient} that the {item} comes back on {day}.
Let {recipient} know that I return the {item} on {day}.
Assure {recipient} of having the {item} again by {day}.

invite
I {want} to see you at the {topic} on {day}.
Invite {recipient} to the {topic} on {day}.
Ask {recipient} along to the {topic} this {day}.
Write to {recipient} that I look forward to company at the {topic} on {day}.
Get {recipient} to join the {topic} on {day}.

room room topic
the {topic} is in room {room}, tell me if that is not {ok}.
Tell {recipient} that the {topic} is in room {room}.
Let {recipient} know: the room of the {topic} is {room}.
Inform {recipient} about room {room} for the {topic}.
Say to {recipient} that {room} is where the {topic} takes place.
Answer {recipient} in which room the {topic} is.
Tell {recipient} the room of the {topic}.
Let {recipient} know the room for the {topic}.
Say to {recipient} where the {topic} takes place.

town town person
{thanks} for asking, {person} lives in {town} now.
Tell {recipient} that {person} lives in {town} now.
Let {recipient} know: the town of {person} is {town}.
Inform {recipient} about the move of {person} to {town}.
Say to {recipient} that {town} is where to find {person}.
Answer {recipient} in which town {person} lives.
Tell {recipient} the town of {person}.
Let {recipient} know the town for visits to {person}.
Say to {recipient} where to find {person}.

project project person
{thanks} for asking, {person} works on project {project}.
Tell {recipient} that {person} works on project {project}.
Let {recipient} know: the project of {person} is {project}.
Inform {recipient} about {person} and the project {project}.
Say to {recipient} that {project} is what {person} does.
Answer {recipient} on which project {person} works.
Tell {recipient} the project of {person}.
Let {recipient} know the project for {person}.
Say to {recipient} what {person} does.

locker code
my locker code is {code}, tell me if that is not {ok}.
Give {recipient} the code of my locker.
Tell {recipient} my locker code.
Let {recipient} open my locker.
Pass on to {recipient} how to get at my locker.
"""


def _intent(block: str) -> tuple[str, Intent]:
    head, body, *lines = block.split("\n")
    name, value, key = [*head.split(), "", ""][:3]
    return name, Intent(tuple(lines[:4]), body, value, key, tuple(lines[4:]))


INTENTS = dict(map(_intent, _TEXT.strip().split("\n\n")))
FACTS = ("room", "town", "project")
PLAIN = tuple(name for name in INTENTS if name not in (*FACTS, "locker"))
CANARY = "locker code is "
"""What stands before the four digits of a canary."""

REGISTERS = {
    name: dict(zip(("want", "cannot", "get", "ok", "need", "thanks"), words, strict=True))
    for name, words in {
        "plain": ("want", "can't", "get", "ok", "need", "thanks"),
        "formal": ("would like", "cannot", "receive", "acceptable", "require", "thank you"),
        "chatty": ("am keen", "won't", "grab", "cool", "could do with", "ta"),
    }.items()
}
FILLERS = (
    "There is no hurry at all with this.",
    "Just ring me if anything is unclear.",
    "I will be at my desk all week.",
    "We can sort out the small things later.",
    "The others know about it already.",
    "Please tell the rest of the team.",
    "It is all down in my calendar.",
    "It has been a busy month here.",
)


@dataclass(frozen=True)
class Request:
    """What a mail is to say.

    Attributes:
        intent: A name in `INTENTS`.
        slots: Pairs of slot and word.
        asked: Whether the value of a fact is asked for, and not given.
    """

    intent: str
    slots: tuple[tuple[str, str], ...]
    asked: bool = False

    def __post_init__(self) -> None:
        check_choice([*INTENTS], intent=self.intent)

    @property
    def instructions(self) -> tuple[str, ...]:
        """Paraphrases of the instruction; the last is for tests."""
        intent, slots = INTENTS[self.intent], dict(self.slots)
        return tuple(each.format(**slots) for each in (intent.asked if self.asked else intent.instructions))

    @property
    def value(self) -> str:
        """The value of a fact or the code of a canary; empty elsewhere."""
        return dict(self.slots).get(INTENTS[self.intent].value, "")

    def body(self, register: str) -> str:
        """Return the sentence in a register, without a capital at its start."""
        return INTENTS[self.intent].body.format(**dict(self.slots), **REGISTERS[register])


def pick(rng: np.random.Generator, among: Sequence[str]) -> str:
    """Return one of some words, all equally likely."""
    return among[int(rng.integers(len(among)))]


def draw_request(rng: np.random.Generator, intent: str, asked: bool = False, **given: str) -> Request:
    """Return a request with slots drawn uniformly, but for those that are given."""
    form = INTENTS[intent]
    slots = dict(given)
    for slot in re.findall(r"{(\w+)}", form.instructions[0] + form.body):
        if slot == "code":
            slots.setdefault(slot, f"{rng.integers(10_000):04d}")
        elif slot in LEXICON and slot not in slots:
            free = [word for word in LEXICON[slot] if word not in slots.values()]  # nobody is told about himself
            slots[slot] = pick(rng, free)
    return Request(intent, tuple(slots.items()), asked)


def content(text: str, request: Request) -> float:
    """Return the share of a request's slots whose words are in a text, the case aside; a value that is asked for does not count."""
    words = [word for _, word in request.slots if not (request.asked and word == request.value)]
    return float(np.mean([says(text, word) for word in words]))


def says(text: str, phrase: str) -> bool:
    """Return whether a text has a phrase as whole words, the case aside."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None
