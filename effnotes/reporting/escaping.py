"""Text of others, from tables, parameters, records and claims, on its way onto a page: here it becomes MyST, or a table in HTML.

Where a page's HTML is written by hand, `html.escape` of the standard library does the same.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

_NUMBER = re.compile(r"[-+−±]?\d[\d.,\u202f]*( ?%)?|[–—-]?")


def myst_text(text: str) -> str:
    """Return Markdown that shows `text` as it is, on one line, also in the cell of a table."""
    # Quotes mean nothing within a line, and may become typographic ones.
    return re.sub(r"""([!#-&(-/:-@\[-`{-~])""", r"\\\1", re.sub(r"[\r\n]", " ", text))


def myst_code(text: str) -> str:
    """Return Markdown that shows `text` as code in the cell of a table; elsewhere its bars would have backslashes."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    plain = re.sub(r"[\r\n]", " ", text).replace("|", "\\|")
    return f"{fence}{pad}{plain}{pad}{fence}"


def page_table(frame: pd.DataFrame) -> Styler:
    """Return a table for a page, without row numbers, in which texts, headings too, are shown as they are.

    Columns of numbers, also of numbers that were written as texts, stand flush right under their headings. What pandas styles it
    does not escape, unlike what it shows plainly.
    """
    import pandas as pd

    def shown(value: Any) -> Any:
        return html.escape(value, quote=False) if isinstance(value, str) else value

    cells = frame.copy()
    for number in range(frame.shape[1]):
        values = list(frame.iloc[:, number])
        if any(shown(value) != value for value in values if isinstance(value, str)):
            cells.isetitem(number, pd.Series(map(shown, values), dtype=object).array)
    style = cells.rename(columns=shown, index=shown).rename_axis(index=shown, columns=shown).style.hide()
    numbers = [number for number in range(frame.shape[1]) if _holds_numbers(frame.iloc[:, number])]
    return style.set_table_styles([{"selector": f".col{number}", "props": "text-align: right"} for number in numbers])


def _holds_numbers(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, or texts each of which writes one or stands for one that is missing."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return not pd.api.types.is_bool_dtype(column)
    return all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in column.dropna())
