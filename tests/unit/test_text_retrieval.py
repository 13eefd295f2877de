"""Mails found by what they say, and contexts to learn with that never hold the mail itself."""

import dataclasses
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from effnotes.core.errors import DataError
from effnotes.datasets.text import PANZA_COSINE, Index, Mail, sentence_encoder, with_context

START = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = [
    "Dear Ann, the budget meeting moves to room 7 on Friday at 5.",
    "Hello Bob, please send the signed contract to the office in Graz.",
    "Hi Ann, lunch on Friday? The new place near the office is good.",
    "Dear Eve, thank you for the report on the harbour; Friday is fine, Friday at noon.",
    "Bob, the printer is broken again and nobody knows whom to call.",
]


def mail(number: int, text: str, **changes: object) -> Mail:
    return dataclasses.replace(Mail(f"<{number}>", text, "", (), START + timedelta(days=number), f"<{number}>"), **changes)


MAILS = [mail(number, text) for number, text in enumerate(TEXTS)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def bm25(query: str, texts: list[str]) -> list[float]:
    """Lucene's form, term by term; (k1 + 1) in the numerator is dropped there."""
    counts = [Counter(words(text)) for text in texts]
    mean = sum(c.total() for c in counts) / len(counts)
    out = []
    for count in counts:
        score = 0.0
        for term in words(query):
            held = sum(term in c for c in counts)
            idf = math.log(1 + (len(texts) - held + 0.5) / (held + 0.5))
            score += idf * count[term] / (count[term] + 1.2 * (1 - 0.75 + 0.75 * count.total() / mean))
        out.append(score)
    return out


def tfidf(query: str, texts: list[str]) -> list[float]:
    counts = [Counter(words(text)) for text in texts]
    idf = {term: math.log((1 + len(texts)) / (1 + sum(term in c for c in counts))) + 1 for c in counts for term in c}

    def unit(count: Counter[str]) -> dict[str, float]:
        weighed = {term: n * idf[term] for term, n in count.items() if term in idf}
        norm = math.sqrt(sum(v * v for v in weighed.values())) or 1.0
        return {term: v / norm for term, v in weighed.items()}

    asked = unit(Counter(words(query)))
    return [sum(v * asked.get(term, 0.0) for term, v in unit(c).items()) for c in counts]


def letters(texts: list[str]) -> torch.Tensor:
    """A sentence encoder: how often each letter occurs, less a constant, so that cosines may be negative."""
    return torch.tensor([[float(text.lower().count(letter)) - 1 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])


def cosine(query: str, texts: list[str]) -> list[float]:
    one = letters([query])[0].double()
    return [float(one @ other / one.norm() / other.norm()) for other in letters(texts).double()]


@pytest.mark.parametrize(("method", "oracle"), [("bm25", bm25), ("tfidf", tfidf), (letters, cosine)])
@pytest.mark.parametrize("query", ["Tell Ann about Friday at 5 in room 7", "the contract for Bob Bob", "zzz qqq", "", "?!"])
def test_a_search_ranks_as_the_formula_does(method, oracle, query) -> None:
    expected = oracle(query, TEXTS)
    index = Index(MAILS, method)
    np.testing.assert_allclose(index.scores(query), expected, rtol=1e-5, atol=1e-6)
    ranked = sorted((place for place in range(len(TEXTS)) if expected[place] > 1e-6), key=lambda place: -expected[place])
    assert [found.id for found, _ in index.search(query, 3)] == [MAILS[place].id for place in ranked[:3]]
    # More than there are: only those of a score above 0 come.
    assert [found.id for found, _ in index.search(query, 99)] == [MAILS[place].id for place in ranked]
    assert index.search(query, 0) == []


def test_what_is_left_out() -> None:
    near = mail(5, TEXTS[0].replace("Ann", "Amy") + " Bring the figures of the second quarter along as usual.")
    longer = mail(6, "First of all. " + TEXTS[0] + " " + " ".join(f"other{k} words{k}" for k in range(60)))
    twin = mail(7, TEXTS[0].replace("5", "6"))
    undated = mail(8, "A budget meeting, once more, on Friday.", date=None)
    index = Index([*MAILS, near, longer, twin, undated])
    query = "budget meeting Friday"

    def ids(**options: object) -> set[str]:
        return {found.id for found, _ in index.search(query, 99, **options)}

    everything = {"<0>", "<2>", "<3>", "<5>", "<6>", "<7>", "<8>"}
    assert ids() == everything
    assert ids(exclude="<0>") == ids(exclude=["<0>"]) == everything - {"<0>"}
    assert ids(exclude=MAILS[0]) == everything - {"<0>", "<6>", "<7>"}  # the one that holds it and the one of another hour
    assert ids(exclude=dataclasses.replace(MAILS[0], id="<of a test>")) == everything - {"<0>", "<6>", "<7>"}
    assert ids(exclude=[MAILS[0], "<8>"]) == everything - {"<0>", "<6>", "<7>", "<8>"}
    assert ids(before=START + timedelta(days=3)) == {"<0>", "<2>"}  # earlier than the bound, and dated
    with pytest.raises(ValueError, match="offset"):
        index.search(query, 3, before=datetime(2026, 1, 3))


def test_thresholds() -> None:
    queries = ["Friday with Ann", "the contract"]
    pairs = sorted(score for query in queries for score in bm25(query, TEXTS))
    place = 0.8 * (len(pairs) - 1)
    below, above = pairs[math.floor(place)], pairs[math.ceil(place)]
    assert Index(MAILS).threshold(queries, 80) == pytest.approx(below + (above - below) * (place - math.floor(place)), rel=1e-5)
    assert Index(MAILS, letters).threshold(queries) == PANZA_COSINE
    one = torch.tensor([1.0, 0.0])
    other = torch.tensor([PANZA_COSINE, (1 - PANZA_COSINE**2) ** 0.5])
    assert 1 - float((one - other).square().sum()) / 2**0.5 == pytest.approx(0.2)  # Panza's score at that cosine
    with pytest.raises(ValueError, match="queries"):
        Index(MAILS).threshold([])


@pytest.mark.parametrize(
    ("mails", "method", "said"),
    [([], "bm25", "0 with 0"), ([MAILS[0]] * 2, "bm25", "2 with 1"), (MAILS, "bm52", "Did you mean 'bm25'")],
)
def test_an_index_of_nothing_or_by_an_unknown_method_is_refused(mails, method, said) -> None:
    with pytest.raises(ValueError, match=said):
        Index(mails, method)


def many(n: int) -> tuple[list[Mail], list[str]]:
    """Mails on some topics, each twice in other words, and instructions that the mail itself answers best."""
    rng = np.random.default_rng(0)
    topics = ["harbour", "budget", "printer", "contract"]
    asked = [f"write about the {topics[k % 4]} with code{k}" for k in range(n)]
    texts = [f"{instruction} " + " ".join(f"word{int(w)}" for w in rng.integers(0, 500, 12)) for instruction in asked]
    return [mail(k, text) for k, text in enumerate(texts)], asked


def test_the_context_of_a_mail_never_holds_the_mail_though_it_answers_best() -> None:
    mails, asked = many(40)
    twins = [dataclasses.replace(each, id=f"<twin {each.id}>", text=each.text.replace("write", "wrote")) for each in mails]
    index = Index([*mails, *twins])
    assert all(index.search(instruction, 1)[0][0].id == each.id for each, instruction in zip(mails, asked, strict=True))
    contexts = with_context(index, mails, asked, k=2, p_context=1, threshold=0.1)
    for each, instruction, context in zip(mails, asked, contexts, strict=True):
        expected = bm25(instruction, [m.text for m in index.mails])
        allowed = [place for place in range(80) if place % 40 != int(each.id[1:-1]) and expected[place] >= 0.1]
        best = sorted(allowed, key=lambda place: -round(expected[place], 5))[:2]
        assert context == tuple(index.mails[place].text for place in best)


def test_how_many_mails_get_a_context_and_from_which_score() -> None:
    mails, asked = many(400)
    index = Index(mails)
    contexts = with_context(index, mails, asked, threshold=0.0)
    shown = [len(each) for each in contexts]
    assert abs(np.mean([n > 0 for n in shown]) - 0.55) < 3 * math.sqrt(0.55 * 0.45 / 400)
    assert max(shown) == 3
    assert contexts == with_context(index, mails, asked, threshold=0.0)
    assert contexts != with_context(index, mails, asked, threshold=0.0, seed=1)
    assert not any(with_context(index, mails, asked, p_context=0, threshold=0.0))
    assert not any(with_context(index, mails, asked, p_context=1, threshold=1e9))
    with pytest.raises(ValueError, match="400 mails and 1"):
        with_context(index, mails, asked[:1])


def test_an_encoder_out_of_a_folder_is_the_mean_over_the_tokens_of_each_text_alone(tmp_path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokens = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=12, **sizes)).eval()
    model.save_pretrained(tmp_path / "encoder")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path / "encoder")
    found = sentence_encoder(tmp_path / "encoder", batch=2)(TEXTS)
    for row, text in zip(found, TEXTS, strict=True):
        ids = [vocabulary[word] for word in text.split()[:12]]  # the last are beyond the model's positions
        with torch.no_grad():
            alone = model(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(row, alone.mean(0), rtol=1e-4, atol=1e-5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="tokenizer"):
        sentence_encoder(tmp_path / "empty")
