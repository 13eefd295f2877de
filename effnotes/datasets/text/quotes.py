"""What the sender of a mail wrote himself, and what he quotes: the plain text of a message taken apart."""

import itertools
import operator
import re
from collections.abc import Iterator
from typing import NamedTuple

from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.model.config import ParserConfig
from lxml import html
from mailparser_reply import EmailReplyParser
from mailparser_reply.constants import MAIL_LANGUAGES

_HEADERS = EmailReplyParser(languages=list(MAIL_LANGUAGES)).read("").HEADER_REGEX
_LONGEST_HEADER_LINE = 300  # characters; the library's patterns take time in the square of a line's length
_QUOTED = re.compile(r"(?:> ?)*")
_MARK = re.compile(r"\s*>")
_LINE = re.compile(r"^[^\n]", re.MULTILINE)
_ADDRESS_OR_DATE = re.compile(r"[^\s<>]@[^\s<>]|\b(?:19|20)\d\d\b|\d[./年년-] ?\d{1,2}[./月월-]")
_FIELD = re.compile(r"^[>* ]*[^\W\d]{1,14} ?:", re.MULTILINE)
_RULE = re.compile(r"(?:\A|\n)[ \t]*(?:-{3,}.*-{3,}|[_-]{10,})\s*\Z")
_BANNER = re.compile(
    r"^-{4,} ?(?:Forwarded message|Weitergeleitete Nachricht|Message transféré|Mensaje reenviado|Messaggio inoltrato) ?-{4,}$|"
    r"^(?:Begin forwarded message|Anfang der weitergeleiteten Nachricht|Début du message réexpédié) ?:$",
    re.MULTILINE | re.IGNORECASE,
)
_TYPEWRITER = str.maketrans({"\u00a0": " ", "\u202f": " ", **dict.fromkeys("‘’‚", "'"), **dict.fromkeys("“”„", '"')})
_AS_READ = ParserConfig(css=CSS_PROFILES["strict"])
_WRAPS = range(60, 81)  # columns at which clients wrap the lines that they send


class Levels(NamedTuple):
    """A message by who wrote what."""

    own: str  # what stands outside all quotes, in its order
    quoted: tuple[str, ...]  # earlier messages, oldest first
    forwards: bool  # whether a banner says that what follows is a message passed on


def take_apart(text: str, *, plain: bool = True) -> Levels:
    """Separate what a message's sender wrote from what he quotes, wherever it stands: above, below or between the quotes.

    Lines that begin with ">" are quoted, as deep as there are marks. Where a client puts no marks, all that follows the line or
    the block that introduces an earlier message is that message. Such lines are found by mail-parser-reply in 13 languages, and
    believed only before quoted lines or where they hold an address or a date; a block of fields must have three. Of each piece
    what follows a line "-- " is a signature and left out (RFC 3676, section 4.3).

    Args:
        text: With plain line ends.
        plain: Whether hard wraps are joined, and non-breaking blanks and curly quotes become plain ones.
    """
    levels: dict[int, list[str]] = {}
    forwards, base, start = False, 0, 0
    masked = re.sub(rf"[^\n]{{{_LONGEST_HEADER_LINE + 1},}}", lambda line: line[0][0] + "\0" * (len(line[0]) - 1), text)
    for begin, end, marked in (*_introductions(masked), (len(text), len(text), True)):
        piece = text[start:begin]
        forwards |= base == 0 and bool(_BANNER.search(piece))
        for depth, lines in _by_depth(_RULE.sub("", piece) if end > begin else piece):
            levels.setdefault(base + depth, []).append(_tidied(lines, plain))
        start = end
        base += not marked
    joined = {depth: "\n\n".join(piece for piece in pieces if piece) for depth, pieces in levels.items()}
    own = joined.pop(0, "")
    return Levels(own, tuple(joined[depth] for depth in sorted(joined, reverse=True) if joined[depth]), forwards)


def _introductions(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield where the lines that introduce earlier messages begin and end, and whether marks show how far these reach."""
    end = 0
    for line in _LINE.finditer(text):
        # The patterns are tried where lines begin: searching tries each at every character.
        if line.start() < end or not (header := _HEADERS.match(text, line.start())):
            continue
        marked = bool(_MARK.match(text, line.start()) or _MARK.match(text, header.end()))
        # Of a block of fields the library takes one line more than there are.
        fields = header[0].lstrip("\n").rpartition("\n")[0]
        is_block = bool(_FIELD.match(fields))
        if _introduces_block(fields) if is_block else _introduces_line(header[0].strip(), marked):
            end = header.end()
            yield header.start(), end, marked
        elif is_block:
            end = line.start() + len(fields)


def _introduces_block(fields: str) -> bool:
    return len(_FIELD.findall(fields)) > 2 and bool(_ADDRESS_OR_DATE.search(fields))


def _introduces_line(header: str, marked: bool) -> bool:
    first, broken, _ = header.partition("\n")
    if first.startswith("-----"):
        return True
    # A client breaks the line behind the date; where the first line has none, it is the sender's.
    return bool((not broken or re.search(r"\d", first)) and (marked or _ADDRESS_OR_DATE.search(header)))


def _by_depth(text: str) -> list[tuple[int, list[str]]]:
    """Cut a text into runs of lines that are quoted equally deep, without the marks."""
    lines = [(marks[0].count(">"), line[marks.end() :]) for line in text.split("\n") if (marks := _QUOTED.match(line))]
    return [(depth, [line for _, line in run]) for depth, run in itertools.groupby(lines, key=operator.itemgetter(0))]


def _tidied(lines: list[str], plain: bool) -> str:
    if "-- " in lines:
        lines = lines[: lines.index("-- ")]
    lines = [line.rstrip() for line in lines]
    if plain:
        lines = _unwrapped([line.translate(_TYPEWRITER) for line in lines])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip("\n"))


def _unwrapped(lines: list[str]) -> list[str]:
    """Join lines that a client broke: where the next word would have gone past the longest line, if that is as long as wraps."""
    width = max(map(len, lines), default=0)
    if width not in _WRAPS:
        return lines
    joined = lines[:1]
    for line, following in itertools.pairwise(lines):
        word = following.split(" ", 1)[0]
        closes = line.endswith((".", "!", "?")) and len(following.split()) < 4  # a sign-off, not the rest of a sentence
        if len(line) + 1 + len(word) > width and word and word[0] not in "-*•" and not closes:
            joined[-1] += " " + following
        else:
            joined.append(following)
    return joined


def unflowed(text: str, delete_space: bool) -> str:
    """Join the lines of a text of format=flowed that end in a blank with the next, within one quote depth (RFC 3676, section 4).

    Args:
        text: With plain line ends.
        delete_space: The parameter DelSp: whether the blank at the end belongs to the break.
    """
    out: list[str] = []
    open_depth = -1  # quote depth of the line before, if it was soft-broken
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)
        content = content.removeprefix(" ")  # the blank that sending stuffs in before some lines
        soft = content.endswith(" ") and content != "-- "
        if open_depth == depth and content != "-- ":
            out[-1] += content
        else:
            out.append((">" * depth + " " if depth else "") + content)
        if soft and delete_space:
            out[-1] = out[-1][:-1]
        open_depth = depth if soft else -1
    return "\n".join(out)


def text_of_html(source: str) -> str:
    """Return the text of an HTML mail as it is read, block quotes with a ">" before each line, so that they are known as quotes.

    Returns:
        An empty text where there is none.
    """
    if not source.strip():
        return ""
    # lxml refuses a declared encoding in text that is decoded already.
    tree = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*>", "", source))
    for quote in reversed(list(tree.iter("blockquote"))):  # the inner ones first
        quote.tag = "div"
        inner = get_text(html.tostring(quote, encoding="unicode", with_tail=False), _AS_READ)
        marked = html.Element("pre")
        marked.text = "\n".join(f"> {line}" for line in inner.strip("\n").split("\n"))
        marked.tail = quote.tail
        quote.getparent().replace(quote, marked)
    return str(get_text(html.tostring(tree, encoding="unicode"), _AS_READ))
