"""Mails that one person wrote, read out of a mailbox: an mbox file, a Maildir, a folder of .eml files, or one .eml file."""

import codecs
import contextlib
import email
import functools
import mailbox
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import EmailPolicy, default
from email.utils import getaddresses, parsedate_to_datetime
from os import PathLike
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

from effnotes.core.checks import check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.datasets.text.quotes import take_apart, text_of_html, unflowed

REASONS = {
    "other sender": "was sent from another address",
    "broken": "could not be taken apart: its headers or parts are damaged",
    "automatic": "was sent by a program: an automatic reply, a report on delivery, an invitation to a calendar",
    "no text": "has no text, plain or HTML",
    "undecodable": "holds bytes that are text in no known character set",
    "forwarded": "passes another message on",
    "only quotes": "holds nothing but quoted text",
    "too short": "has fewer than 10 words of the sender's own",
    "duplicate": "is in the mailbox already",
}
"""Why a message is left out, by the name under which it is counted."""

_LEAST_WORDS = 10  # Panza's bound
_ALLOWED = "give an mbox file, a Maildir folder, a folder of .eml files, or one .eml file"
_SEPARATOR = re.compile(rb"From \S+(?:\s.*\d{4}.*)?\s*$")
_ESCAPED = re.compile(rb"^>(>*From )", re.MULTILINE)
_REPLY = re.compile(r"^(?:\s*(?:re|aw|sv|vs|antw|odp|ref|rif|fwd?|wg|tr|doorst)\s*(?:\[\d+\])?\s*:)+", re.IGNORECASE)
_IDS = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. Its representation shows no word of it, so that no message of an error does either."""

    id: str = field(repr=False)  # its Message-ID, or "#7" for the seventh message of the mailbox
    text: str = field(repr=False)  # what the sender wrote, without quotes, signature and hard wraps
    subject: str = field(repr=False)
    thread: tuple[str, ...] = field(repr=False)  # the earlier messages that it quotes, oldest first
    date: datetime | None  # with an offset from UTC; None where there is none that can be read
    group: str = field(repr=False)  # the id of the first mail of its thread


@dataclass(frozen=True)
class Mailbox:
    """What a mailbox holds of one person."""

    mails: tuple[Mail, ...]  # in the order of the mailbox
    discarded: dict[str, int]  # messages left out, by reason: the keys of `REASONS`, those that occurred


def read_mails(path: str | PathLike[str], address: str, *, at_least: int = 20, plain: bool = True) -> Mailbox:
    """Read the mails that were sent from an address.

    The steps are Panza's (Nicolicioiu et al., CPAL 2026, PMLR 328:104-130), without their defects. The address is compared as a
    whole. One message gives one mail: its first text/plain part that is no attachment, or else its HTML as text. Its bytes are
    read by the declared character set, or by the one that charset-normalizer finds. Soft breaks of format=flowed and hard wraps
    are joined, line ends are plain. What is quoted becomes the thread. Mails in all languages stay, and so do mails without a date.
    Mails are of one thread if their References, In-Reply-To or subjects, less "Re:" and its like, link them.

    One message at a time is in memory, and of the mails what `Mail` holds: some 1 to 3 kB each.

    Args:
        path: The mailbox.
        address: The sender's; upper and lower case are the same.
        at_least: The number of mails that are needed.
        plain: Whether hard wraps are joined, and curly quotes and non-breaking blanks become plain ones. All three may be style.

    Raises:
        DataError: There is no such file, it is no mailbox, or too few of its messages are usable mails of the address: the message
            says how many were found and why others were left out, or which addresses were found.
        ValueError: `address` is none.
    """
    check_range(1, whole=True, at_least=at_least)
    path, own = user_path(path), _folded(address)
    if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", own):
        raise ValueError(f"address={address!r}: must be an e-mail address such as ada@example.org")
    discarded, senders, seen = Counter[str](), Counter[str](), dict[str, int]()
    mails, links = list[Mail](), list[tuple[int, ...]]()
    for number, raw in enumerate(_messages(path), start=1):
        try:
            mail, ids = _read(raw, f"#{number}", own, senders, plain)
            if mail.id in seen:
                if seen[mail.id] == hash(mail.text):
                    raise _LeftOut("duplicate")
                mail = replace(mail, id=f"#{number}")  # a client that gives different messages one id
            seen[mail.id] = hash(mail.text)
        except _LeftOut as reason:
            discarded[str(reason)] += 1
        except Exception:  # the email package lets errors of many kinds out of damaged messages, and none must stop the rest
            discarded["broken"] += 1
        else:
            mails.append(mail)
            links.append(tuple(map(hash, ids)))  # the ids themselves would take more memory than the mails
    if len(mails) < at_least:
        raise DataError(f"{path}: {_too_few(len(mails), at_least, own, discarded, senders)}")
    for place, first in enumerate(first_linked(links)):
        mails[place] = replace(mails[place], group=mails[first].id)
    return Mailbox(tuple(mails), dict(discarded))


def first_linked(keys: Iterable[Iterable[Hashable]]) -> list[int]:
    """Return of each item the position of the first one that it shares a key with, directly or through others."""
    from scipy.cluster.hierarchy import DisjointSet

    sets, home, first = DisjointSet(), dict[Hashable, int](), dict[int, int]()
    for item, own in enumerate(keys):
        sets.add(item)
        for key in own:
            sets.merge(item, home.setdefault(key, item))
    return [first.setdefault(sets[item], item) for item in range(len(sets))]


class _LeftOut(Exception):
    """A message is no mail to keep; the argument is a key of `REASONS`."""


def _folded(address: str) -> str:
    return address.strip().casefold()


def _too_few(n: int, needed: int, address: str, discarded: Counter[str], senders: Counter[str]) -> str:
    if discarded["other sender"] == discarded.total() and not n:
        found = ", ".join(f"{sender} ({count})" for sender, count in senders.most_common(10)) or "none that can be read"
        return f"no mail of {address}; the senders found, with their numbers of messages: {found}"
    reasons = "; ".join(f"{count}: {reason} ({REASONS[reason]})" for reason, count in discarded.most_common())
    return f"{n} usable mails, and {needed} are needed. Messages left out: {reasons or 'none'}"


def _messages(path: Path) -> Iterator[bytes]:
    """Yield the messages of a mailbox, one at a time, as they were sent."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file; {_ALLOWED}")
    if path.is_dir():
        if (path / "cur").is_dir() and (path / "new").is_dir():
            maildir = mailbox.Maildir(path, create=False)
            yield from map(maildir.get_bytes, sorted(maildir.keys()))
        elif files := sorted(file for file in path.rglob("*") if file.suffix.lower() == ".eml" and file.is_file()):
            yield from map(Path.read_bytes, files)
        else:
            raise DataError(f"{path}: this folder is no Maildir (it has no cur and new) and holds no .eml file; {_ALLOWED}")
        return
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"From "):
        yield from _mbox(path)
    elif re.match(rb"(?:\xef\xbb\xbf)?[!-9;-~]+:[ \t]", head):
        yield path.read_bytes()
    else:
        what = "is empty" if not head else "begins neither as an mbox file (From ...) nor as a message (a header such as Date: ...)"
        raise DataError(f"{path}: this is no mailbox, for it {what}; {_ALLOWED}")


def _mbox(path: Path) -> Iterator[bytes]:
    """Yield the messages of an mbox file without the escaping of lines that begin with "From ".

    Not `mailbox.mbox`: it makes a table of all messages first, ends one at each line that begins with "From ", and leaves the
    escaping in, so that such a line looks quoted.
    """
    lines: list[bytes] = []
    with path.open("rb") as file:
        next(file)
        for line in file:
            if line.startswith(b"From ") and (not lines or not lines[-1].strip()) and _SEPARATOR.match(line):
                yield _ESCAPED.sub(rb"\1", b"".join(lines))
                lines = []
            else:
                lines.append(line)
    yield _ESCAPED.sub(rb"\1", b"".join(lines))


def _read(raw: bytes, number: str, address: str, senders: Counter[str], plain: bool) -> tuple[Mail, list[str]]:
    """Return the mail in a message, still without its group, and what links it to others of its thread."""
    message: Any = email.message_from_bytes(raw, policy=_POLICY)
    found = {_folded(each) for _, each in getaddresses([_sent(message, "From")]) if "@" in each}
    senders.update(found)
    if address not in found:
        raise _LeftOut("other sender")
    if _is_automatic(message):
        raise _LeftOut("automatic")
    levels = take_apart(_body(message), plain=plain)
    if levels.forwards:
        raise _LeftOut("forwarded")
    if not levels.own.strip():
        raise _LeftOut("only quotes" if levels.quoted else "no text")
    if len(levels.own.split()) < _LEAST_WORDS:
        raise _LeftOut("too short")
    subject = " ".join(str(message.get("Subject", "")).split())
    ids = _IDS.findall(_sent(message, "Message-ID"))[:1] or [number]
    links = ids + _IDS.findall(_sent(message, "References") + _sent(message, "In-Reply-To"))
    if topic := _REPLY.sub("", subject).strip().casefold():
        links.append(f"subject {topic}")
    return Mail(ids[0], levels.own, subject, levels.quoted, _date(message), ids[0]), links


class _Lenient(EmailPolicy):
    """`email.policy.default`, but a header that its parser fails on (with IndexError, HeaderParseError and others) is empty."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return the header parsed; the same few types and encodings come again and again."""
        return _parsed(name, value)


_POLICY = _Lenient()


@functools.lru_cache(maxsize=1024)
def _parsed(name: str, value: str) -> Any:
    try:
        return default.header_fetch_parse(name, value)
    except Exception:
        return default.header_factory(name, "")


def _sent(message: EmailMessage, name: str) -> str:
    """Return a header as it was sent, "" where there is none.

    Undecoded, because decoding the name before an address can make another address of it.
    """
    return next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")


def _date(message: EmailMessage) -> datetime | None:
    try:
        date = parsedate_to_datetime(_sent(message, "Date"))
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # "-0000" means that the offset is not known


def _is_automatic(message: EmailMessage) -> bool:
    """Say whether a program sent a message (RFC 3834, section 5; RFC 3462; RFC 6047)."""
    return (
        _sent(message, "Auto-Submitted").strip().lower() not in ("", "no")
        or any(name in message for name in ("X-Autoreply", "X-Autorespond"))
        or _sent(message, "Precedence").strip().lower() == "auto_reply"
        or any(part.get_content_type() in ("text/calendar", "multipart/report") for part in message.walk())
    )


def _body(message: EmailMessage) -> str:
    """Return the text of a message with plain line ends: its plain text, or what its HTML shows."""
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        if part is None:
            continue
        text = _decoded(part).replace("\r\n", "\n").replace("\r", "\n")
        if kind == "html":
            text = text_of_html(text)
        elif str(part.get_param("format", "")).lower() == "flowed":
            text = unflowed(text, str(part.get_param("delsp", "")).lower() == "yes")
        if text.strip():
            return text
    raise _LeftOut("no text")


def _decoded(part: Any) -> str:
    """Return the text of a part by its declared character set where that fits the bytes, or else by the likeliest."""
    content: bytes = part.get_payload(decode=True) or b""
    declared = str(part.get_param("charset", "utf-8"))
    for charset in (declared, "utf-8"):
        with contextlib.suppress(LookupError, ValueError):
            name = codecs.lookup(charset).name
            # As browsers do: what is declared Latin-1 is Windows-1252, which has letters where Latin-1 has control characters.
            return content.decode("cp1252" if name == "iso8859-1" else name)
    best = from_bytes(content).best()
    if best is None:
        raise _LeftOut("undecodable")
    return str(best)
