"""Settings refuse what is wrong with words that say what was given and what is allowed, and survive the way through JSON."""

import dataclasses
import math
from typing import Literal

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
        ({"epoch": 3}, "there is no setting 'epoch'. Did you mean 'epochs'? The settings are: epochs, rate"),
    ],
)
def test_a_wrong_setting_is_refused_in_plain_words(given, said):
    with pytest.raises(ValueError, match=r"\S") as refused:
        Outer(**given)
    assert str(refused.value).startswith(said)
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
