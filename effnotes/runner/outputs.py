"""What a notebook shows, kept within bounds and made fit to be printed."""

import json
import re
from typing import Any

from effnotes.reporting.claims import CLAIM_MIME
from effnotes.reporting.findings import FINDING_MIME
from effnotes.reporting.metrics import METRIC_MIME
from effnotes.reporting.tables import TABLE_MIME

LONGEST_TEXT = 10_000
"""Characters of an error's message, and of each part of its traceback, that are kept."""
MOST_PRINTED = 1_000_000
"""Characters that a cell may print before the rest is cut."""
MOST_SHOWN = 20_000_000
"""Characters that a cell may display, pictures as base64 among them, before the rest is cut."""

STYLE = re.compile(r"\x1b\[[0-9;]*m")
# Control characters, which could overwrite what a terminal shows, and lone surrogates, which cannot be encoded.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """Return `text`, or its first `most` characters and a note of how many more there were."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters were cut)"


def printable(text: str) -> str:
    """Return `text` shortened and without style, what cannot be printed written as an escape such as ``\\x1b``."""
    plain = STYLE.sub("", text).replace("\r\n", "\n")
    return shortened(_UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), plain))


def limit_outputs(outputs: list[Any]) -> None:
    """Cut what a cell has shown beyond the limits, and add a note of how much was cut.

    Claims, findings, metrics and kept tables are never cut. No output is removed, because later cells may update one by its place;
    of those that were cut, `is_empty` finds what is to be left out.
    """
    printed, shown, cut = MOST_PRINTED, MOST_SHOWN, 0
    for output in outputs:
        if output.output_type == "stream":
            cut += max(len(output.text) - printed, 0)
            output.text = output.text[:printed]
            printed -= len(output.text)
        elif output.output_type == "error":
            output.evalue = shortened(output.evalue)
            output.traceback = [shortened(part) for part in output.traceback]
        elif not {CLAIM_MIME, FINDING_MIME, METRIC_MIME, TABLE_MIME} & output.data.keys():
            size = sum(len(value if isinstance(value, str) else json.dumps(value)) for value in output.data.values())
            if size <= shown:
                shown -= size
            else:
                cut, output.data = cut + size, {}
    if cut:
        from nbformat.v4 import new_output

        outputs.append(new_output("stream", name="stderr", text=f"[effnotes has cut {cut:,} characters of this cell's output]\n"))


def is_empty(output: Any) -> bool:
    """Whether nothing is left of an output."""
    return not output.get("text", output.get("data", True))
