"""Formulas as MathML, which browsers draw by themselves: a script that does weighs more than a page."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

_CONVERTER = LatexToMathML(fancy_error=False)


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(f'<span class="math">{_mathml(node, False)}</span>')
    raise nodes.SkipNode


def visit_display(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, with its number where it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(f"{_mathml(node, True)}</div>\n")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, display: bool) -> str:
    """Convert what a node holds; what cannot be is told as a warning, which ends the build."""
    try:
        return _CONVERTER.convert_with_local_state(node.astext(), displaystyle=display)
    except LatexError as error:
        place = node if node.line else node.parent
        logging.getLogger(__name__).warning("%s is no formula that can be shown: %s", node.astext(), error, location=place)
        return ""
