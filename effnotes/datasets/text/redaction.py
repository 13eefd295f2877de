"""Addresses, numbers and links of people replaced by tokens, and put back."""

import re
from collections.abc import Mapping

_URL = r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?)\]]"
_EMAIL = r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
_DATE = r"\d{0,2}[./-]\d{1,2}[./-]\d{2,4}\b"  # behind a zero, as in 02.03.2026
_AMERICAN = r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b"
_PHONE = rf"(?<![\w.])(?:\+|\(?0|(?={_AMERICAN}))(?!{_DATE})[\d()][\d ()/.-]{{5,18}}\d(?!\w)"
_KINDS = re.compile(f"(?P<url>{_URL})|(?P<email>{_EMAIL})|(?P<iban>{_IBAN})|(?P<phone>{_PHONE})")


def redact(text: str, known: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Replace e-mail addresses, phone numbers, IBANs and links by tokens such as `<email-1>`, one for each that differs.

    Patterns find what is written in the usual ways, and an IBAN by its check digits (ISO 7064, MOD 97-10); names of people and
    places stay. So this lessens what a model can give away, and is no proof that it gives nothing away.

    Args:
        text: A mail.
        known: What the tokens of earlier mails stand for, so that the same address has one token in all.

    Returns:
        The text, and what its tokens and the known ones stand for: keep it on this machine, for `restore`.
    """
    map_ = dict(known or {})
    tokens = {value: token for token, value in map_.items()}

    def token(found: re.Match[str]) -> str:
        kind, value = str(found.lastgroup), found[0]
        if kind == "iban" and not _is_iban(value):
            return value
        if value not in tokens:
            number = 1
            while (new := f"<{kind}-{number}>") in map_ or new in text:
                number += 1
            tokens[value] = new
            map_[new] = value
        return tokens[value]

    return _KINDS.sub(token, text), map_


def _is_iban(value: str) -> bool:
    plain = value.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def restore(text: str, known: Mapping[str, str]) -> str:
    """Put back what the tokens of `redact` stand for."""
    return re.sub(r"<(?:url|email|iban|phone)-\d+>", lambda token: known.get(token[0], token[0]), text)
