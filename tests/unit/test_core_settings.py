"""Settings refuse what is wrong with words that say what was given and what is allowed, and survive the way through JSON."""

import dataclasses
import inspect
import math
import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from effnotes.core.settings import from_json, settings, to_json


@settings
class Inner:
    steps: tuple[int, ...] = (10, 20)

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(self.steps):
            raise ValueError(f"steps={self.steps}: must rise")


@settings
class Outer:
    epochs: int = Field(12, ge=1)
    rate: float = Field(0.1, gt=0)
    decay: Literal["cosine", "constant"] = "cosine"
    inner: Inner = dataclasses.field(default_factory=Inner)
    rank: int | None = Field(None, ge=1)
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    grid: tuple[tuple[int, int], ...] = ()
    place: Path | None = None
    stop: Inner | int | Literal["never"] = "never"


@settings
class Derived(Inner):
    note: str = Field("", max_length=4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"epochs": True}, "epochs=True: must be a whole number"),
        ({"epochs": 1.0}, "epochs=1.0: must be a whole number"),
        ({"rate": 0.0}, "rate=0.0: must be above 0"),
        ({"rate": math.nan}, "rate=nan: must be finite"),
        ({"rate": "0.1"}, "rate='0.1': must be a number"),
        ({"decay": "cosin"}, "decay='cosin': must be one of 'cosine', 'constant'. Did you mean 'cosine'?"),
        ({"rank": 0}, "rank=0: must be at least 1"),
        ({"shares": {"a": "b"}}, "shares.a='b': must be a number"),
        ({"shares": 3}, "shares=3: must be a mapping"),
        ({"grid": [[1, 2], [3]]}, "grid.1.1 is missing"),
        ({"grid": ((1, 2, 3),)}, "grid.0=(1, 2, 3): must be at most 2 long"),
        ({"grid": {(1, 2)}}, "grid={(1, 2)}: must be a list or a tuple"),
        ({"inner": (1, 2)}, "inner=(1, 2): must be Inner(...)"),
        ({"stop": 0.5}, "stop=0.5: must be one of Inner(...), a whole number, 'never'"),
        ({"epoch": 3}, "there is no setting 'epoch'. Did you mean 'epochs'? The settings are: epochs, rate"),
    ],
)
def test_a_wrong_setting_is_refused_in_plain_words(given, said):
    with pytest.raises(ValueError, match=r"\S") as refused:
        Outer(**given)
    assert str(refused.value).startswith(said)
    assert not str(refused.value).endswith(".0")
    assert "\n" not in str(refused.value)


def test_positions_are_named_and_checks_of_several_fields_keep_their_words():
    with pytest.raises(ValueError, match=r"^epochs=0: must be at least 1$"):
        Outer(0)
    with pytest.raises(ValueError, match=r"^steps=\(3, 2\): must rise$"):
        Inner((3, 2))
    with pytest.raises(ValueError, match=r"^epochs=-1: must be at least 1$"):
        dataclasses.replace(Outer(), epochs=-1)


def test_settings_survive_json_and_cannot_be_changed():
    given = Outer(3, rate=1, inner=Inner((1, 2)), shares={"b": 0.5, "a": 0.5})
    assert given.rate == 1.0
    assert from_json(Outer, to_json(given)) == given
    assert list(from_json(Outer, to_json(given)).shares) == ["b", "a"]
    assert hash(Inner((1, 2))) == hash(Inner((1, 2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.epochs = 4  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"^epochs=0: must be at least 1$"):
        from_json(Outer, '{"epochs": 0}')


def test_what_says_the_same_is_brought_into_form():
    given = Outer(np.int64(3), rate=np.float32(0.5), inner=Inner([1, 2]), grid=[[1, 2], (3, np.int8(4))], place="a/b")
    assert given == Outer(3, rate=0.5, inner=Inner((1, 2)), grid=((1, 2), (3, 4)), place=Path("a/b"))
    assert [type(given.epochs), type(given.rate), type(given.grid[1][1])] == [int, float, int]
    assert Inner(np.arange(3)).steps == (0, 1, 2)
    with pytest.raises(ValueError, match=r"^epochs=2\.0: must be a whole number$"):
        Outer(epochs=np.float64(2))


def test_settings_keep_no_hold_of_what_they_were_given():
    shares = {"a": 0.5}
    made = Outer(shares=shares)
    shares["a"] = 0.7
    assert made.shares == {"a": 0.5}


def test_too_many_values_are_a_slip_of_the_call():
    for positional, named in (((1,) * 20, {}), ((3,), {"epochs": 4})):
        with pytest.raises(TypeError, match=r"^Outer takes each of its settings once: epochs, rate"):
            Outer(*positional, **named)


def test_faults_in_text_are_placed():
    for text, said in (
        ('{"inner": {"steps": [1, 2.5]}}', "inner.steps.1=2.5: must be a whole number"),
        ('{"stop": {"steps": [1, "x"]}}', "stop.steps.1='x': must be a whole number"),
        ('{"inner": {"step": 1}}', "there is no setting 'inner.step'."),
        ('{"epochs": ', "'{\"epochs\": ': invalid JSON"),
        ("[]", "[]: must be Outer(...)"),
    ):
        with pytest.raises(ValueError, match=r"\S") as refused:
            from_json(Outer, text)
        assert str(refused.value).startswith(said)


def test_derived_settings_are_checked_and_lose_nothing_on_the_way():
    with pytest.raises(ValueError, match=r"^steps=\(2, 1\): must rise$"):
        Derived((2, 1))
    with pytest.raises(ValueError, match=r"^note='longer': must be at most 4 long$"):
        Derived(note="longer")
    assert from_json(Derived, to_json(Derived((1, 2), "a"))) == Derived((1, 2), "a")
    # A field that is annotated with the base: what the derived class adds is in the text, and so in every digest made of it.
    assert to_json(Outer(inner=Derived(note="a"))) != to_json(Outer(inner=Derived(note="b")))


def test_settings_are_dataclasses_in_every_other_way():
    made = Outer(3, shares={"a": 0.5})
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.asdict(made)["inner"] == {"steps": (10, 20)}
    assert list(inspect.signature(Outer).parameters)[:2] == ["epochs", "rate"]
    assert repr(Inner((1,))) == "Inner(steps=(1,))"
