"""A world: settings that say how its facts depend on one another and are written, and everything that follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from effnotes.core.checks import check_range
from effnotes.datasets.worlds.corpus import Corpus
from effnotes.datasets.worlds.forms import form_code
from effnotes.datasets.worlds.graph import FILLERS, Facts, stream
from effnotes.datasets.worlds.knowledge import Knowledge
from effnotes.datasets.worlds.sentences import Sentences, write_facts
from effnotes.datasets.worlds.words import EOS, PAD, RESERVED

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast


SPECIAL_TOKENS = {"bos_token": RESERVED[EOS], "eos_token": RESERVED[EOS], "pad_token": RESERVED[PAD]}
"""What a tokeniser has to be told beside its vocabulary."""


class World(Knowledge):
    """A synthetic world of facts (subject, relation, object), after Behemoth (arXiv 2601.23153).

    The same settings give the same facts, words and sentences, byte for byte. All of a world is derived from its settings when
    it is first asked for; a world costs nothing until then.

    Attributes:
        n_subjects: S, 1 to 1,000,000. (`-s --subjects`)
        n_relations: R, 1 to 999. (`-r --relationships`)
        n_objects: O, possible objects of each relation, 1 to 1,000,000; each relation has its own words. (`-o --objects`)
        n_nested: M, nested objects of each relation, a divisor of O; 0 for none. Each object has a nested object, and each subject
            has that of its object. (`--num-nested-objects`)
        correlation: Probability that relation 1 has the object index of relation 0, above chance (1/O, or 1/2 if binarised);
            None draws them independently. (`--correlated-pair --correlation-strength`)
        binarize: Relation 0 has only two objects; needs `correlation`. (`-b --binarize-first-correlated`)
        minority_frac: Share of facts with a second object, 0 to 1; not with correlated or nested worlds.
            (`-m --minority-position-entity-frac`)
        minority_p: Probability that a sentence on such a fact states the second object, 0 to 1. (`-p --minority-position-frac`)
        templates: Share of each statement form, summing to 1: "sro", "rso", "sor", "osr", "repeats", "nonsense_sro" and
            "nonsense_rso". Facts that are withheld in one form share its part out among the others in proportion.
            (`-c --phrase-creator` with `-i --inversion-frac`)
        qa_frac: Questions per statement about a subject and its object, on average over all subjects, 0 and above.
            (`-q --questions-frac`)
        qa_subject_frac: Share of subjects that questions are asked about, above 0 to 1. (`-e --questions-entity-frac`)
        zipf: Exponent of the subjects' frequencies, 0 to 4; None writes all facts equally often.
        withheld_frac: Share of facts that are never written in one of the templates, which one being drawn from those that a prompt
            can ask with, 0 to 1: there the template is a true paraphrase.
        repeats: Times that each fact is stated, on average over subjects, at least 1. (`-n --repeats`)
        ono_upweight: Factor on the statements about objects and their nested objects, at least 1.
            (`--obj-nested-obj-edges-upweight`)
        shuffle: True puts all sentences in one random order, False keeps the statements about a subject together.
        tokens_per_subject: 1 or 2; None takes one token for fewer than 1,000 subjects. Two are a first of S/1000 and a second of
            1,000 where S is a multiple of 1,000 (as in the original), else about the square root of S each.
        seed: 0 and above.
        given_graph: Facts from elsewhere (`import_world`); None draws them.
        given_words: Words from elsewhere; None numbers them.

    Raises:
        ValueError: A setting has the wrong type, is out of range, or does not go with another; the message names it and says what
            is allowed.
    """

    # --- sentences ------------------------------------------------------------------------------------------------------------

    def encode(self, facts: Facts, template: str, *, seed: int = 0) -> Sentences:
        """Write facts in one form, for prompts and edits.

        Args:
            facts: n facts.
            template: One of `effnotes.datasets.worlds.FORMS`. In "repeats" no marker follows the object, in "nonsense" there are
                always two fillers, as in Behemoth's validation data.
            seed: Draws markers and fillers; the fixed forms have nothing random.

        Returns:
            n sentences in the order of the facts.

        Raises:
            ValueError: There is no such form, or the world has no words for it or for a fact.
        """
        self.check_facts(facts)
        code = form_code(template)
        if template.startswith("nonsense") and "W999" not in self.words.grammar:
            raise ValueError(f"template={template!r}: this world has no words for it; name it in templates, with share 0 at least")
        return write_facts(self.words, facts, np.full(len(facts), code), stream(self.seed, FILLERS, seed), validation=True)

    def corpus(self, left_out: Facts | None = None) -> Corpus:
        """Return the training text, without the facts in `left_out`: the data of a model that never saw them.

        Raises:
            ValueError: The world has no such fact.
        """
        if left_out is not None:
            self.check_facts(left_out)
        return Corpus(self, left_out, together=not self.shuffle)

    def sentences(self, *, shard: int = 0, of: int = 1, left_out: Facts | None = None) -> Iterator[Sentences]:
        """Yield the training text in blocks of up to 65,536 sentences, in constant memory.

        Args:
            shard: Which part, 0 to of - 1. Parts can be written in any order and by different processes.
            of: Number of parts, at least 1; together they are the whole text.
            left_out: Facts that are not written, such as those of `Task.forgotten`.

        Raises:
            ValueError: There is no such shard, or no such fact.
        """
        if not 0 <= shard < of:
            raise ValueError(f"shard={shard} of={of}: a shard is numbered from 0 to {of - 1}, and there is at least one")
        return self.corpus(left_out).blocks(shard, of)

    def sample_sentences(self, n: int, *, seed: int = 0, left_out: Facts | None = None) -> Sentences:
        """Draw n sentences with replacement, each as likely as it is frequent in the training text.

        Raises:
            ValueError: n or the seed is below 0, or everything is left out.
        """
        check_range(0, n=n)
        corpus = replace(self.corpus(left_out), together=False)
        if not corpus.n_items:
            raise ValueError("left_out names every fact of the world; nothing is left to be drawn")
        return corpus.sample(n, seed)

    @property
    def n_sentences(self) -> int:
        """Number of sentences in the training text."""
        return self.corpus().n_sentences

    # --- tokeniser and files --------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Tokenizer:
        """Return a word-level tokeniser, split at blanks and before full stops; its ids are the numbers in the text."""
        from tokenizers import Tokenizer, models, pre_tokenizers

        vocabulary = {written.strip(): number for number, written in enumerate(self.words.strings)} | {"<|padding|>": PAD}
        del vocabulary[""]
        # No such word: what is no word of this world is an error, and never padding.
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(".", "isolated")])
        tokenizer.add_special_tokens([RESERVED[EOS], RESERVED[PAD]])
        return tokenizer

    def hf_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the world's tokeniser for Hugging Face models."""
        # Loaded here, for it takes seconds, and few who make a world need it.
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(tokenizer_object=self.tokenizer(), **SPECIAL_TOKENS)
