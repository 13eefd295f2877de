"""Checks of exercises, which say that an answer passes, or what is off with it, and never what is right."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any], None]


def check(off: Check) -> Check:
    """Make a check of an exercise, to be called with a reader's answer, out of a function that asserts what an answer must be.

    Args:
        off: Takes the answer; the message of the assertion that fails says what is off. Whatever else it raises means that the
            answer does not have the form that is asked for.

    Returns:
        A function that prints "pass", or "not yet" and what is off; `...` and None are no answer, nor is what holds one of them.
    """

    @functools.wraps(off)
    def say(answer: Any) -> None:
        try:
            assert not _open(answer), "there is no answer, or a part of it is missing (...)"
            off(answer)
        except AssertionError as error:
            print(f"not yet: {error}")
        except Exception as error:  # of any kind: the answer may be anything
            print(f"not yet: the answer does not have the form that is asked for ({type(error).__name__}: {error})")
        else:
            print("pass")

    return say


def _open(answer: Any) -> bool:
    if isinstance(answer, dict | list | tuple):
        return not answer or any(map(_open, answer.values() if isinstance(answer, dict) else answer))
    return answer is None or answer is ...
