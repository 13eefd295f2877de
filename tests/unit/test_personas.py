"""Made-up writers: what they write is determined by a seed, told by detectors, and comes back from a real mailbox."""

import email.policy
import itertools
import json
import mailbox
import runpy
from email.message import EmailMessage
from pathlib import Path

import numpy as np
import pytest

from effnotes.core.errors import DataError
from effnotes.datasets.text import (
    content,
    detect,
    draw_persona,
    grammar_playback,
    read_gold,
    style,
    write_canaries,
    write_facts,
    write_mails,
    write_mbox,
)
from effnotes.datasets.text.grammar import CANARY, FACTS, FILLERS, INTENTS, LEXICON, REGISTERS, Request, draw_request, says
from effnotes.datasets.text.personas import EMOJI, HABITS, SOMETIMES, is_held_out

PEOPLE = [draw_persona(seed) for seed in range(24)]
MAILS = [write_mails(person, 30, seed) for seed, person in enumerate(PEOPLE)]
TEXTS = [[mail.text for mail in mails] for mails in MAILS]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "persona.mbox"


def test_a_seed_determines_a_person_and_the_mails() -> None:
    assert draw_persona(3) == PEOPLE[3] != PEOPLE[4]
    assert write_mails(PEOPLE[3], 30, 3) == MAILS[3] != write_mails(PEOPLE[3], 30, 4)
    # Different persons answer the same requests, so that they can be compared.
    assert [mail.request for mail in write_mails(PEOPLE[4], 1, 3)] == [MAILS[3][0].request]


def test_true_mails_have_their_style_and_say_what_they_should() -> None:
    for person, mails, texts in zip(PEOPLE, MAILS, TEXTS, strict=True):
        assert style(texts, person, texts) == 1
        assert all(content(mail.text, mail.request) == 1 for mail in mails)
        always = detect(texts, person)[:, len(SOMETIMES) :]
        assert always.min() == 1


def test_mails_of_others_have_another_style() -> None:
    of_others = np.array([[style(other, person, own) for other in TEXTS] for person, own in zip(PEOPLE, TEXTS, strict=True)])
    off = of_others[~np.eye(len(PEOPLE), dtype=bool)].reshape(len(PEOPLE), -1)
    assert off.mean(axis=1).max() <= 0.4
    assert off.mean() < 0.3


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_is_missed_where_it_is_taken_out(habit: str) -> None:
    person = next(p for p in PEOPLE if p.emoji and p.ps and p.exclamation and not p.lower)
    text = next(mail for mail in write_mails(person, 200, 0) if detect([mail.text], person).all()).text
    filler = next((each[:-1] for each in FILLERS if each[:-1] in text), None)
    without = {
        "greeting": text.removeprefix(person.greeting).strip(),
        "opener": text.replace(f"{person.opener} ", ""),
        "closer": text.replace(f" {person.closer}", ""),
        "emoji": text.replace(f" {person.emoji}", ""),
        "signoff": text.replace(f"{person.signoff}\n", ""),
        "name": text.replace(person.name, "Somebody"),
        "ps": text.partition("\nP.S.")[0],
        "exclamation": text.replace("!", "."),
        "lower": text.lower(),
        "register": text.replace("!", " can't!") if person.register != "plain" else text.replace("!", " cannot!"),
        "length": text.replace(f" {filler}!", "") if filler else text.replace("!", "! It has been a busy month here!", 1),
    }[habit]
    assert without != text
    assert not detect([without], person)[0, HABITS.index(habit)]


def test_habits_are_used_at_their_rates() -> None:
    for person in PEOPLE[:4]:
        texts = [mail.text for mail in write_mails(person, 600, 5)]
        rates = detect(texts, person).mean(axis=0)[: len(SOMETIMES)]
        for habit, rate, found in zip(SOMETIMES, person.rates, rates, strict=True):
            assert found == pytest.approx(rate if getattr(person, habit) else 1, abs=0.06), habit


def test_more_of_a_habit_than_in_the_true_mails_is_no_fault_and_less_is_one() -> None:
    person = next(p for p in PEOPLE if p.ps)
    often = next(mail.text for mail in write_mails(person, 200, 0) if detect([mail.text], person).all())
    mails = [mail.text for mail in write_mails(person, 200, 1)]
    assert style([often], person, mails) == 1
    half = [text for text in mails if "P.S." not in text and "p.s." not in text]
    assert style(half, person, mails) <= 1 - 1 / len(HABITS)
    with pytest.raises(ValueError, match="at least one"):
        style([], person, mails)


def test_words_of_a_register_are_its_own() -> None:
    assert len({tuple(words) for words in REGISTERS.values()}) == 1
    every = [word for words in REGISTERS.values() for word in words.values()]
    assert not any(says(other, word) for word, other in itertools.permutations(every, 2))
    assert not any(says(filler, word) for word in every for filler in FILLERS)
    rng = np.random.default_rng(0)
    for intent, register in itertools.product(INTENTS, REGISTERS):
        assert any(says(draw_request(rng, intent).body(register), word) for word in REGISTERS[register].values())


def test_strings_of_a_study_are_never_drawn_for_pretraining() -> None:
    known = {string.lower() for seed in range(300) for string in draw_persona(seed, held_out=False, p_random=0.5).strings}
    new = {string.lower() for person in PEOPLE for string in person.strings}
    assert not known & new
    assert all(map(is_held_out, new))
    assert not any(map(is_held_out, known))


def test_every_instruction_has_its_slots_and_four_wordings() -> None:
    rng = np.random.default_rng(0)
    for intent in INTENTS:
        request = draw_request(rng, intent)
        assert len(set(request.instructions)) == 4
        for text in request.instructions:
            assert all(says(text, word) or slot == "code" for slot, word in request.slots)
            assert "{" not in text
    with pytest.raises(ValueError, match=r"intent='meat': must be one of .* Did you mean 'meet'"):
        Request("meat", ())


def test_a_fact_is_in_one_mail_and_asked_for_without_its_value() -> None:
    assert all(len(LEXICON[INTENTS[intent].value]) >= 40 for intent in FACTS)
    facts = write_facts(PEOPLE[0], 60, 1)
    keys = [
        (fact.stated.request.intent, dict(fact.stated.request.slots)[INTENTS[fact.stated.request.intent].key]) for fact in facts
    ]
    assert len(set(keys)) == 60
    for fact in facts:
        value = fact.stated.request.value
        assert value == fact.asked.request.value
        assert says(fact.stated.text, value)
        assert says(fact.asked.text, value)
        assert not any(says(text, value) for text in fact.asked.instructions)
        wrong = fact.asked.text.replace(value, "nowhere").replace(value.lower(), "nowhere")
        assert content(wrong, fact.asked.request) == 1 > content(wrong, fact.stated.request)
    with pytest.raises(ValueError, match="n=1000: must be from 0 to"):
        write_facts(PEOPLE[0], 1000, 1)


def test_canaries_repeat_one_code() -> None:
    mails = write_canaries(PEOPLE[1], 8, 2)
    code = mails[0].request.value
    assert len(code) == 4
    assert code.isdigit()
    assert len({mail.text for mail in mails}) == 8
    assert all(f"{CANARY}{code}" in mail.text for mail in mails)
    assert not any(code in text for text in mails[0].instructions)


def test_mails_come_back_from_a_real_mailbox(tmp_path: Path) -> None:
    gold = write_mbox(tmp_path / "box.mbox", MAILS[0], "ada@example.org", seed=1)
    known = read_gold(gold)
    assert [(mail.request, mail.instructions, mail.text) for mail in known.values()] == MAILS[0]
    found = {"text/plain": 0, "text/html": 0, "quoted": 0}
    parse = email.policy.default
    messages = [
        email.message_from_bytes(bytes(each), _class=EmailMessage, policy=parse) for each in mailbox.mbox(tmp_path / "box.mbox")
    ]
    assert len(messages) == 33  # three kinds of noise
    for message in messages:
        if str(message["Message-ID"]) not in known:
            continue
        text = message.get_content()
        found[message.get_content_type()] += 1
        if message.get_content_type() == "text/plain":
            found["quoted"] += "\n> " in text
            assert text.startswith(known[str(message["Message-ID"])].text)
        assert not any(key.lower().startswith("x-") for key in message)
    assert min(found.values()) > 0
    again = write_mbox(tmp_path / "again.mbox", MAILS[0], "ada@example.org", seed=1)
    assert again.read_bytes() == gold.read_bytes()
    assert (tmp_path / "again.mbox").read_bytes() == (tmp_path / "box.mbox").read_bytes()


def test_playback_knows_the_instructions_of_the_grammar(tmp_path: Path) -> None:
    backend = grammar_playback(read_gold(write_mbox(tmp_path / "box.mbox", MAILS[0], "ada@example.org")))
    said = [backend([*TEXTS[0], "Not of the grammar."], attempt) for attempt in range(3)]
    assert {each[-1] for each in said} == {""}
    for mail, wordings in zip(MAILS[0], zip(*said, strict=True), strict=False):
        assert {*wordings} == {f"Instruction: {text}" for text in mail.instructions[:-1]}
        assert all(len(text.split()) > 5 for text in wordings)


def test_a_side_car_file_that_is_none_is_refused_without_its_words(tmp_path: Path) -> None:
    (tmp_path / "gold.json").write_text(json.dumps({"<1@x>": {"secret": "word"}}))
    for name in ("gold.json", "missing.json"):
        with pytest.raises(DataError, match="no file of labels") as caught:
            read_gold(tmp_path / name)
        assert "secret" not in str(caught.value)


def test_the_fixture_is_what_its_command_writes(tmp_path: Path) -> None:
    command = runpy.run_path(str(FIXTURE.parent / "make_fixtures.py"))
    command["make_mbox"](tmp_path / "persona.mbox")
    for name in ("persona.mbox", "persona.mbox.gold.json"):
        assert (tmp_path / name).read_bytes() == (FIXTURE.parent / name).read_bytes()
    text = FIXTURE.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert text.count("\nFrom: ada@example.org") >= 60
    assert command["SENTINEL"].split()[1] in text


def test_emoji_do_not_hide_one_another() -> None:
    assert not any(a != b and f" {a}".endswith(f" {b}") for a in EMOJI for b in EMOJI)
