"""A made-up person's mails as a real mbox, with what surrounds mails in mailboxes: quotes, forwards, HTML, and mails of others.

What is known of the mails stands in a side-car file alone.
"""

from __future__ import annotations

import html
import json
import mailbox
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

import numpy as np

from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.datasets.text.grammar import Request
from effnotes.datasets.text.personas import WrittenMail, draw_persona, write_mail

_GERMAN = (
    "Hallo {name},\n\nvielen Dank für die Nachricht, ich melde mich nächste Woche wegen der Unterlagen und rufe dann an.\n\nGrüße"
)
_START = datetime(2025, 1, 6, 9, tzinfo=UTC)


def write_mbox(path: str | Path, mails: Sequence[WrittenMail], address: str, *, seed: int = 0) -> Path:
    """Write mails of a person as an mbox, one a day, and noise between them; return the path of the side-car file.

    Of the mails, three in ten answer a mail and quote it, and one in ten is HTML alone. After every tenth there is noise in turn: a
    forwarded mail, one in German, one of two words, one with an attachment, and one of somebody else.

    Args:
        path: The mbox, which is replaced; the side-car file beside it has `.gold.json` behind its name.
        mails: The mails of one person; their order is that of their dates.
        address: The sender's.
        seed: Of what surrounds them, and of the person who wrote what is quoted, forwarded and received.
    """
    path = user_path(path)
    rng = np.random.default_rng(seed)
    others = draw_persona(rng)
    gold: dict[str, dict[str, object]] = {}
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for number, mail in enumerate(mails):
        friend = dict(mail.request.slots)["recipient"]
        kind = rng.random()
        message = _message(number, address, friend, mail.request.intent)
        received = write_mail(others, mail.request, rng).text
        if kind < 0.3:
            message.replace_header("Subject", f"Re: {message['Subject']}")
            message["In-Reply-To"] = message["References"] = f"<{number}.in@example.com>"
            quoted = "\n".join(f"> {line}".rstrip() for line in received.split("\n"))
            when = format_datetime(_START + timedelta(days=number, hours=-2))
            message.set_content(f"{mail.text}\n\nOn {when}, {friend} <{friend.lower()}@example.com> wrote:\n{quoted}\n")
        elif kind < 0.4:
            paragraphs = (html.escape(paragraph).replace("\n", "<br>") for paragraph in mail.text.split("\n\n"))
            message.set_content("".join(f"<p>{paragraph}</p>" for paragraph in paragraphs), subtype="html")
        else:
            message.set_content(mail.text)
        _add(box, message)
        fields = {"intent": mail.request.intent, "slots": dict(mail.request.slots), "asked": mail.request.asked}
        gold[str(message["Message-ID"])] = {"request": fields, "text": mail.text}
        if number % 10 == 9:
            _add(box, _noise(number // 10 % 5, number, address, friend, received))
    box.close()
    side_car = path.with_name(f"{path.name}.gold.json")
    side_car.write_text(json.dumps(gold, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    return side_car


def read_gold(path: str | Path) -> dict[str, WrittenMail]:
    """Read the side-car file of an mbox: what is known of its mails, by Message-ID.

    Raises:
        DataError: It is missing or no such file.
    """
    path = user_path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        gold = {}
        for key, each in found.items():
            request = Request(each["request"]["intent"], tuple(each["request"]["slots"].items()), each["request"]["asked"])
            gold[key] = WrittenMail(request, request.instructions, each["text"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: this is no file of labels ({type(error).__name__}); write_mbox makes one") from None
    return gold


def grammar_playback(gold: Mapping[str, WrittenMail]) -> Callable[[Sequence[str], int], list[str]]:
    """Return a backend of playback that gives each mail an instruction from its slots, and an unknown mail an empty one.

    Of the three paraphrases that are not for tests the number of the try and the length of the mail choose one.
    """
    by_text = {mail.text: mail.instructions for mail in gold.values()}

    def instructions(texts: Sequence[str], attempt: int) -> list[str]:
        known = ((by_text.get(text), (len(text) + attempt) % 3) for text in texts)
        return [f"Instruction: {wordings[which]}" if wordings else "" for wordings, which in known]

    return instructions


def _message(number: int, address: str, to: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = address, f"{to} <{to.lower()}@example.com>"
    message["Subject"] = f"{subject} {number}"
    message["Date"] = format_datetime(_START + timedelta(days=number))
    message["Message-ID"] = f"<{number}.{subject}@example.org>"
    return message


def _add(box: mailbox.mbox, message: EmailMessage) -> None:
    if message.is_multipart():
        message.set_boundary("=" * 15 + "part")  # else a random one
    sent = time.asctime(parsedate_to_datetime(message["Date"]).timetuple())  # else by the clock
    # As bytes, for the message itself would be copied in all its parts.
    box.add(f"From {message['From']} {sent}\n".encode() + bytes(message))


def _noise(kind: int, number: int, address: str, friend: str, received: str) -> EmailMessage:
    message = _message(number, address, friend, "noise")
    head = f"---------- Forwarded message ---------\nFrom: {friend} <{friend.lower()}@example.com>\nSubject: news\n\n"
    message.set_content([head + received, _GERMAN.format(name=friend), "will do", "see attachment", received][kind])
    if kind == 3:
        message.add_attachment(received, filename="old.txt")
    elif kind == 4:
        message.replace_header("From", f"{friend.lower()}@example.com")
        message.replace_header("To", address)
    return message
