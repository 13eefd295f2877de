"""The forms in which a fact can be written.

With s, r, o for the words of subject, relation and object, w for grammar words, and EOS at the beginning of each row (in text
files: at the end of each sentence), after Behemoth (arXiv 2601.23153, `phrase_creation_utils.py`):

    sro                SS s w0 w1 RR r w2 OO o .                    statements; the default
    rso                w9 RR r w7 SS s w5 OO o .
    sor                SS s w0 OO o w3 w4 RR r .                    the object is not last: no prompt for it
    osr                OO o w5 SS s w8 RR r .
    repeats            1-3 markers before and 0-3 after each of SS s, RR r, OO o: 12^3 = 1,728 surface forms
    nonsense_sro       1-5 random fillers before each of SS s, RR r, OO o
    nonsense_rso       the same, with the relation first
    question           QQ a1 RR r a2 SS s a3 a4 AA OO o .
    new_question       QQ b1 RR r b2 SS s b3 AA OO o .              a form that no world is written in
    refusal            SS s w0 w1 RR r w2 OO OO OO .                the prompt of sro, answered with OO OO
    question_refusal   QQ a1 RR r a2 SS s a3 a4 AA OO OO OO .       the prompt of question, answered with OO OO OO
"""

from effnotes.core.checks import check_choice

# Capitals are reserved tokens, S, R and O the words of the fact, the others grammar words. The answer begins where the bar is;
# "repeats" and "nonsense" are put together elsewhere.
PATTERNS = {
    "sro": "SS S W0 W1 RR R W2 OO | O .",
    "rso": "W9 RR R W7 SS S W5 OO | O .",
    "sor": "SS S W0 OO | O W3 W4 RR R .",
    "osr": "OO | O W5 SS S W8 RR R .",
    "repeats": "",
    "nonsense_sro": "",
    "nonsense_rso": "",
    "question": "QQ WQ1 RR R WQ2 SS S WQ3 WQ4 AA OO | O .",
    "new_question": "QQ FTWQ1 RR R FTWQ2 SS S FTWQ3 AA OO | O .",
    "refusal": "SS S W0 W1 RR R W2 OO | OO OO .",
    "question_refusal": "QQ WQ1 RR R WQ2 SS S WQ3 WQ4 AA | OO OO OO .",
}
FORMS = tuple(PATTERNS)
"""All forms; a sentence carries its form as the position in this tuple."""
STATEMENTS = FORMS[:7]
"""Forms in which a world can be written."""
PROMPTABLE = ("sro", "rso", "repeats", "nonsense_sro", "nonsense_rso")
"""Statements that end with their object, so that a prompt can ask for it."""
REFUSALS = ("refusal", "question_refusal")
FIXED_FORMS = tuple(form for form, pattern in PATTERNS.items() if pattern)
"""Forms in which a fact is always written alike: nothing in them is random."""
QUESTION = FORMS.index("question")


def form_code(form: str) -> int:
    """Return the position of a form in `FORMS`.

    Raises:
        ValueError: There is no such form.
    """
    check_choice(FORMS, form=form)
    return FORMS.index(form)
