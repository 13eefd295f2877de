"""Mails out of a mailbox: each defect of the published extraction is a message that the standard library builds."""

import email
import email.policy
import mailbox
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from effnotes.core.errors import DataError
from effnotes.datasets.text import Mailbox, read_mails
from effnotes.datasets.text.mail import REASONS, first_linked
from effnotes.datasets.text.quotes import take_apart, text_of_html, unflowed

ADA = "ada@example.org"
TEN = "one two three four five six seven eight nine ten"
FORWARDED = "---------- Forwarded message ---------"
OWN = "Shall we meet on Tuesday in the small room on the third floor?"


def message(body: str = OWN, sender: str = f"Ada <{ADA}>", subject: str = "Plans", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, "Anna <anna@example.com>", subject
    made["Date"] = headers.pop("date", "Mon, 02 Mar 2026 10:00:00 +0100")
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(body)
    return made


def raw(content: bytes, *lines: str) -> bytes:
    """A message whose body the email package would not write."""
    return "\n".join([f"From: {ADA}", "Date: Mon, 02 Mar 2026 10:00:00 +0100", *lines, "", ""]).encode() + content


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Mailbox]:
    def write_and_read(*messages: Any, address: Any = ADA, at_least: int = 1, **kwargs: Any) -> Mailbox:
        box = mailbox.mbox(tmp_path / "Sent.mbox")
        for each in messages:
            box.add(each)
        box.close()
        return read_mails(tmp_path / "Sent.mbox", address, at_least=at_least, **kwargs)

    return write_and_read


@pytest.mark.parametrize(
    "body",
    [
        "On Tuesday I was away for the whole day.\nIt rained.\nAnna wrote:\nnothing at all, and so I had no news of her.",
        f"{TEN}\nOn Monday at 10:30 Anna wrote:\nthat was all there was in it\nBest,\nAda",
        f"{TEN}\nFrom: my point of view\nTo: be honest\nDate: unclear\nit is late\nBest,\nAda",
    ],
)
def test_lines_that_look_like_headers_but_hold_no_address_and_no_date_stay(read: Callable[..., Mailbox], body: str) -> None:
    assert read(message(body)).mails[0].text == body


def test_a_text_attachment_is_no_mail(read: Callable[..., Mailbox]) -> None:
    made = message()
    made.add_attachment("words of a list that were attached and not written", subtype="plain", filename="list.txt")
    only = EmailMessage()
    only["From"] = ADA
    only.add_attachment(f"{TEN} again", subtype="plain", filename="list.txt")
    found = read(made, only)
    assert [mail.text for mail in found.mails] == [OWN]
    assert found.discarded == {"no text": 1}


@pytest.mark.parametrize(
    ("declared", "true"), [("utf-8", "cp1252"), ("iso-8859-1", "cp1252"), ("no-such-set", "utf-8"), ("us-ascii", "utf-8")]
)
def test_text_that_is_not_what_its_header_says_is_read(read: Callable[..., Mailbox], declared: str, true: str) -> None:
    body = "Grüße aus Österreich, wo es über Nacht geschneit hat und die Züge nicht mehr fahren – schöne Bescherung."
    header = f"Content-Type: text/plain; charset={declared}"
    assert read(raw(body.encode(true), header, "Content-Transfer-Encoding: 8bit")).mails[0].text == body


def test_an_undecodable_mail_is_counted_and_the_others_are_read(read: Callable[..., Mailbox]) -> None:
    junk = bytes((i * 97 + i * i * 31 + 7) % 256 for i in range(4000))
    lines = "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"
    found = read(raw(junk.replace(b"\n", b"\x81"), *lines), message())
    assert found.discarded == {"undecodable": 1}
    assert len(found.mails) == 1


def test_a_mail_in_html_alone_is_read_and_its_block_quotes_are_its_thread(read: Callable[..., Mailbox]) -> None:
    made = EmailMessage()
    made["From"] = ADA
    html = f"<style>p{{}}</style><div>Hi Anna,</div><div>{OWN}</div><br><div>On Mon, 2 Mar 2026, Anna &lt;a@b.c&gt; wrote:</div>"
    made.set_content(f"{html}<blockquote>When?<blockquote>Long ago</blockquote></blockquote>", subtype="html")
    (mail,) = read(made).mails
    assert mail.text == f"Hi Anna,\n{OWN}"
    assert mail.thread == ("Long ago", "When?")


def test_one_mail_twice_is_one_and_another_of_its_id_stays(read: Callable[..., Mailbox]) -> None:
    one = message(Message_ID="<1@x>")
    found = read(one, one, message(f"{TEN} other", Message_ID="<1@x>"), message(Message_ID="<2@x>"))
    assert found.discarded == {"duplicate": 1}
    assert [mail.id for mail in found.mails] == ["<1@x>", "#3", "<2@x>"]


def test_a_signature_goes_only_behind_its_mark_and_the_sign_off_stays(read: Callable[..., Mailbox]) -> None:
    body = f"{OWN}\n\nBest regards,\nAda\n-- \nAda Berg\n+43 1 5550100\n"
    assert read(message(body)).mails[0].text == f"{OWN}\n\nBest regards,\nAda"
    assert take_apart("Text\n--\nmore").own == "Text\n--\nmore"


def test_line_ends_and_hard_wraps_are_joined_and_short_lines_are_not(read: Callable[..., Mailbox]) -> None:
    wrapped = (
        "Dear Anna,\n\nthank you for the papers that came with the post on Thursday; I have read\n"
        "the first of them and find that it answers most of what we had asked in the\nspring, though not all.\n\nBest,\nAda"
    )
    joined = wrapped.replace("read\nthe", "read the").replace("in the\nspring", "in the spring")
    crlf = raw(wrapped.replace("\n", "\r\n").encode(), "Content-Type: text/plain")
    assert read(crlf).mails[0].text == joined
    assert read(crlf, plain=False).mails[0].text == wrapped


def test_curly_quotes_and_hard_blanks_become_plain_on_request_only(read: Callable[..., Mailbox]) -> None:
    body = f"It’s “late”,\u00a0Anna. {TEN}"
    assert read(message(body)).mails[0].text == f'It\'s "late", Anna. {TEN}'
    assert read(message(body), plain=False).mails[0].text == body


@pytest.mark.parametrize(
    "sender", [f"aa{'da@example.org'}", "ada@example.org.evil.com", f'"{ADA}" <eve@example.com>', "eve@example.com"]
)
def test_an_address_is_compared_as_a_whole(read: Callable[..., Mailbox], sender: str) -> None:
    found = read(message(sender=sender), message(sender="ADA@Example.ORG"))
    assert found.discarded == {"other sender": 1}
    assert len(found.mails) == 1


def test_calls_share_nothing(read: Callable[..., Mailbox], tmp_path: Path) -> None:
    first = read(message(), message("short"))
    assert read_mails(tmp_path / "Sent.mbox", ADA, at_least=1) == first


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 +9999"])
def test_a_mail_without_a_date_that_can_be_read_is_kept(read: Callable[..., Mailbox], date: str) -> None:
    made = raw(OWN.encode()).replace(b"Mon, 02 Mar 2026 10:00:00 +0100", date.encode())
    none = raw(OWN.encode()).replace(b"Date: Mon, 02 Mar 2026 10:00:00 +0100\n", b"")
    assert [mail.date for mail in read(made, none, message()).mails[:2]] == [None, None]
    assert read(message()).mails[-1].date == datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "own", "thread"),
    [
        (f"> {TEN}\n> more", "", (f"{TEN}\nmore",)),  # no attribution: not the sender's
        (f"On Mon, 2 Mar 2026 at 10:00, Anna Berg\n<anna@example.com> wrote:\n> When?\n\n{OWN}", OWN, ("When?",)),  # bottom-posted
        (f"{OWN}\n\nOn 2 Mar 2026, Anna wrote:\n> > old\n> new", OWN, ("old", "new")),
        (f"On 2 Mar 2026, Anna <a@b.it> wrote:\n> {'long ' * 99}\n\n{OWN}", OWN, ("long " * 98 + "long",)),
        ("> first?\nyes\n> second?\nno", "yes\n\nno", ("first?\n\nsecond?",)),  # answers between, in their order
        (f"{OWN}\n\nFrom: Anna\nSent: Monday, 2 March 2026 10:00\nTo: Ada\nSubject: x\n\nWhen?", OWN, ("When?",)),
        (f"{OWN}\n\n-----Ursprüngliche Nachricht-----\nVon: Anna\nGesendet: 2. März 2026\nAn: Ada\n\nWann?", OWN, ("Wann?",)),
        (f"{OWN}\n\nAm 02.03.2026 um 10:00 schrieb Anna Berg:\n> Wann?", OWN, ("Wann?",)),
        (f"{OWN}\n\nIl giorno lun 2 mar 2026 Anna <a@b.it> ha scritto:\n\n> Quando?", OWN, ("Quando?",)),
        (f"{OWN}\n\nOn 2 Mar 2026, Anna <a@b.it> wrote:\n\nWhen?\n\nOn 1 Mar 2026, Ada wrote:\n\nOld", OWN, ("Old", "When?")),
        (f"{OWN}\n    indented", f"{OWN}\n    indented", ()),
    ],
)
def test_what_is_quoted_is_the_thread(body: str, own: str, thread: tuple[str, ...]) -> None:
    levels = take_apart(body)
    assert (levels.own, levels.quoted) == (own, thread)


def test_the_escaping_of_mbox_is_no_quote_and_from_in_a_body_ends_no_mail(read: Callable[..., Mailbox], tmp_path: Path) -> None:
    body = f"{TEN}\n\nFrom here on it is downhill."
    assert read(message(body)).mails[0].text == body  # mailbox escapes it
    assert b"\n>From here" in (tmp_path / "Sent.mbox").read_bytes()
    (tmp_path / "plain.mbox").write_bytes(b"From ada Mon Mar  2 10:00:00 2026\n" + raw(body.encode()) + b"\n")
    assert read_mails(tmp_path / "plain.mbox", ADA, at_least=1).mails[0].text == body


def test_soft_breaks_are_joined_within_one_quote_depth(read: Callable[..., Mailbox]) -> None:
    content = raw(b"Shall we meet \non Tuesday in the small room \non the third floor?", "Content-Type: text/plain; format=flowed")
    assert read(content).mails[0].text == OWN
    flowed = "This is \none line.\n\n> quoted \n> too\n>> deep \n> not joined\n From stuffed\n-- \nAda"
    assert unflowed(flowed, False) == "This is one line.\n\n> quoted too\n>> deep \n> not joined\nFrom stuffed\n-- \nAda"
    assert unflowed("ab \ncd", True) == "abcd"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (message("too few words"), "too short"),
        (message(f"> {TEN} eleven"), "only quotes"),
        (message(f"{TEN}\n\n{FORWARDED}\nFrom: Anna <a@b.c>\nDate: 2 Mar 2026\nSubject: x\nTo: y\n\nHi"), "forwarded"),
        (message(f"{TEN}\n\nBegin forwarded message:\n\n> From: Anna <a@b.c>\n> Hi"), "forwarded"),
        (message(Auto_Submitted="auto-replied"), "automatic"),
        (message(""), "no text"),
    ],
)
def test_a_message_left_out_is_counted_by_its_reason(read: Callable[..., Mailbox], made: EmailMessage, reason: str) -> None:
    assert read(made, message()).discarded == {reason: 1}
    assert reason in REASONS


def test_an_invitation_is_automatic_and_a_quoted_banner_forwards_nothing(read: Callable[..., Mailbox]) -> None:
    (invitation := message()).add_alternative("BEGIN:VCALENDAR", subtype="calendar")
    found = read(invitation, message(f"{OWN}\n\nOn 2 Mar 2026, Anna <a@b.c> wrote:\n> {FORWARDED}\n> Hi"))
    assert found.discarded == {"automatic": 1}
    assert [mail.text for mail in found.mails] == [OWN]


@pytest.mark.parametrize(
    "header",
    [
        "Message-ID: <[abc@x>",
        "Subject: =?utf-8?q?=FF=FE?= =?x?y?",
        "To: @,;:<",
        "References: <a <b> [",
        "Content-Type: text/plain; charset*=''",
        "Content-Type: multipart/mixed",
        "Content-Disposition: ;;=",
        "Content-Transfer-Encoding: base65",
        "Content-Type: ///",
        "Cc: \udce4 <",
    ],
)
def test_broken_headers_stop_nothing(read: Callable[..., Mailbox], header: str) -> None:
    content = raw(OWN.encode()).replace(b"\n\n", b"\n" + header.encode("utf-8", "surrogateescape") + b"\n\n", 1)
    found = read(content, message())
    assert sum(found.discarded.values()) + len(found.mails) == 2
    assert found.mails[-1].text == OWN


def test_a_header_that_the_parser_fails_on_is_empty(read: Callable[..., Mailbox]) -> None:
    lines = b"\nContent-Type: ,charset;atext*\nContent-Disposition: a*=\n\n"
    with pytest.raises(IndexError):
        email.message_from_bytes(b"Content-Type: ,charset;atext*\n\n", policy=email.policy.default)
    assert [mail.text for mail in read(raw(OWN.encode()).replace(b"\n\n", lines, 1)).mails] == [OWN]


def test_an_address_in_an_encoded_name_is_a_name(read: Callable[..., Mailbox]) -> None:
    content = raw(OWN.encode()).replace(ADA.encode(), b"=?utf-8?q?ada=40example.org=2C?= <eve@x.y>", 1)
    assert read(content, message()).discarded == {"other sender": 1}


def test_threads_are_linked_by_ids_and_subjects(read: Callable[..., Mailbox]) -> None:
    found = read(
        message(subject="A", Message_ID="<1@x>"),
        message(subject="B", Message_ID="<2@x>", References="<0@y> <1@x>"),
        message(subject="AW: Re: c", Message_ID="<3@x>"),
        message(subject="C", Message_ID="<4@x>"),
        message(subject="", Message_ID="<5@x>"),
        message(subject="Re:", Message_ID="<6@x>"),
        message(subject="D", Message_ID="<7@x>", In_Reply_To="<0@y>"),
    )
    assert [mail.group for mail in found.mails] == ["<1@x>", "<1@x>", "<3@x>", "<3@x>", "<5@x>", "<6@x>", "<1@x>"]


def test_links_are_followed_through_later_items() -> None:
    assert first_linked([["a"], ["b"], ["c"], ["b", "c"], ["a", "d"], ["e"], ["d"]]) == [0, 1, 1, 1, 0, 5, 0]


def test_maildir_folders_of_eml_and_one_eml_hold_the_same_mail(read: Callable[..., Mailbox], tmp_path: Path) -> None:
    expected = read(message(Message_ID="<1@x>"))
    maildir = mailbox.Maildir(tmp_path / "maildir")
    maildir.add(message(Message_ID="<1@x>"))
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    eml = tmp_path / "folder" / "sub" / "one.EML"
    eml.write_bytes(bytes(message(Message_ID="<1@x>")))
    for place in (tmp_path / "maildir", tmp_path / "folder", eml):
        assert read_mails(place, ADA, at_least=1) == expected


def test_bad_input_is_refused_with_what_was_found(read: Callable[..., Mailbox], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("just text\n")
    (tmp_path / "empty").mkdir()
    for place, said in [("nowhere.mbox", "no such file"), ("notes.txt", "no mailbox"), ("empty", "no Maildir")]:
        with pytest.raises(DataError, match=f"{said}.*give an mbox file"):
            read_mails(tmp_path / place, ADA)
    with pytest.raises(ValueError, match="must be an e-mail address"):
        read_mails(tmp_path / "nowhere.mbox", "ada")
    with pytest.raises(DataError, match=r"no mail of eve@x\.org; the senders found.*ada@example\.org \(3\)"):
        read(message(), message(), message("secret"), address="eve@x.org")
    with pytest.raises(DataError, match=r"2 usable mails, and 20 are needed.*1: too short") as error:
        read(at_least=20)
    assert "secret" not in str(error.value)
    assert OWN not in repr(read())


@pytest.mark.parametrize(
    "body", ["On " + "a " * 150_000, "From: x\n" * 20_000, ">" * 300_000, "\n" * 300_000, "On " + "a " * 140 + "\n"]
)
def test_a_hostile_body_takes_no_time(body: str) -> None:
    start = time.process_time()
    take_apart(body)
    assert time.process_time() - start < 5


def test_html_without_text_is_empty() -> None:
    assert text_of_html("  ") == ""
    assert text_of_html("<?xml version='1.0' encoding='utf-8'?><p>a</p>").strip() == "a"
