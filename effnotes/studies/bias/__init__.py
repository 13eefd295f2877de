"""What pruning does to a classifier's doubt and bias: the experiments of chapter 1, from parameters to claims.

`plan` checks everything before anything is trained, `run` trains and measures, `follow_up` asks how far the findings reach, and
`measure` judges the claims by effects such as `main_effects`, which the steps in `effects` put together; `figures` draws.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.studies.bias.cautions": "further_cautions main_cautions override_sentence repair_cautions",
    "effnotes.studies.bias.findings": "Findings",
    "effnotes.studies.bias.further": "follow_up",
    "effnotes.studies.bias.planning": "generator_rates plan",
    "effnotes.studies.bias.results": "run",
    "effnotes.studies.bias.verdicts": "further_effects main_effects measure repair_effects",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
