"""Whose mails are learnt: made-up persons', or a reader's own. Both are read out of a mailbox and given instructions."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from effnotes.core.settings import from_json, settings, to_json
from effnotes.datasets.text.grammar import FACTS, Request
from effnotes.datasets.text.mail import Mail, read_mails
from effnotes.datasets.text.mailboxes import grammar_playback, read_gold, write_mbox
from effnotes.datasets.text.personas import Persona, WrittenMail, draw_persona, write_canaries, write_facts, write_mails
from effnotes.datasets.text.playback import Extractive, play_back
from effnotes.datasets.text.redaction import redact
from effnotes.datasets.text.splits import check_apart, split_mails

ADDRESS = "persona@example.org"
_SPARE = 1.25  # more mails than are used, as near duplicates are kept on one side
OTHERS = range(800, 808)  # persons whose mails the judge of authorship is shown beside; they are in no result


@settings
class Writer:
    """A made-up person by seed, or whoever sent mails from an address in a mailbox; and how many mails are for what."""

    mails: Annotated[int, Field(ge=10)]  # to train on, canaries among them
    val: Annotated[int, Field(ge=5)]
    test: Annotated[int, Field(ge=5)]
    facts: Annotated[int, Field(ge=0)] = 0  # that are asked for, each stated by one more mail, which is indexed only
    canaries: Annotated[int, Field(ge=1)] = 4  # mails to train on that hold one secret code
    seed: int = 0
    mailbox: str = ""  # a reader's own; a made-up person's where it is empty
    address: str = ""
    digest: str = ""  # of what lies there
    redacted: bool = False


class Example(NamedTuple):
    """A mail, the order to write it, and, where that is known, what it is to say."""

    mail: Mail
    instruction: str
    request: Request | None = None


class Material(NamedTuple):
    """All mails of a writer, by what they are for."""

    persona: Persona | None  # None for a reader
    train: list[Example]  # canaries last
    val: list[Example]
    test: list[Example]
    stated: list[Mail]  # mails that state facts, which are searched and not trained on
    facts: list[WrittenMail]  # what answers the questions for them
    canary: WrittenMail | None
    others: list[str]  # mails of other persons
    counts: dict[str, int]  # of messages left out, by reason


def material(writer: Writer) -> Material:
    """Return the mails of a writer; those of the last dozen, a few hundred kB each, stay in memory."""
    return _material(to_json(writer))


@functools.lru_cache(maxsize=12)
def _material(text: str) -> Material:
    writer = from_json(Writer, text)
    return own_material(writer) if writer.mailbox else _made_up(writer)


def _made_up(writer: Writer) -> Material:
    persona, seed = draw_persona(writer.seed), writer.seed
    facts = write_facts(persona, writer.facts, seed)
    canaries = write_canaries(persona, writer.canaries, seed)
    wanted = {"train": writer.mails - writer.canaries, "val": writer.val, "test": writer.test}
    written = write_mails(persona, round(_SPARE * sum(wanted.values())), seed)
    with tempfile.TemporaryDirectory(prefix="effnotes-mails-") as folder:
        path = Path(folder) / "persona.mbox"
        gold = read_gold(write_mbox(path, [*written, *(fact.stated for fact in facts), *canaries], ADDRESS, seed=seed))
        box = read_mails(path, ADDRESS)
    played = play_back(box.mails, grammar_playback(gold))
    intents = {mail.id: gold[mail.id].request.intent for mail in box.mails if mail.id in played.instructions}
    plain = [mail for mail in box.mails if intents.get(mail.id, "locker") not in (*FACTS, "locker")]
    splits = split_mails(plain, wanted, seed=seed)
    check_apart(splits)
    secret = [mail for mail in box.mails if intents.get(mail.id) == "locker"]

    def examples(mails: Sequence[Mail]) -> list[Example]:
        return [Example(mail, played.instructions[mail.id], gold[mail.id].request) for mail in mails]

    return Material(
        persona,
        examples([*splits["train"], *secret]),
        examples(splits["val"]),
        examples(splits["test"]),
        [mail for mail in box.mails if intents.get(mail.id) in FACTS],
        [fact.asked for fact in facts],
        canaries[0],
        [mail.text for other in OTHERS if other != seed for mail in write_mails(draw_persona(other), 8, other)],
        dict(box.discarded),
    )


def own_material(writer: Writer) -> Material:
    """Read a reader's own mails, with instructions that are taken from their own words.

    Raises:
        DataError: As for `read_mails`, at the least 20 usable mails.
        ValueError: The address is none, or the mails cannot be split.
    """
    box = read_mails(writer.mailbox, writer.address)
    mails, known = [], dict[str, str]()
    for mail in box.mails:
        if writer.redacted:
            text, known = redact(mail.text, known)
            mail = replace(mail, text=text)
        mails.append(mail)
    played = play_back(mails, Extractive())
    usable = [mail for mail in mails if mail.id in played.instructions]
    splits = split_mails(usable, {"train": 0.7, "val": 0.15, "test": 0.15})
    check_apart(splits)
    sizes = {"train": writer.mails, "val": writer.val, "test": writer.test}
    train, val, test = (
        [Example(mail, played.instructions[mail.id]) for mail in splits[name][:size]] for name, size in sizes.items()
    )
    return Material(None, train, val, test, [], [], None, [], dict(box.discarded) | {"no instruction": played.given_up})
