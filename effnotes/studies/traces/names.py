"""What tables, records and figures of the chapter on traces call things: free of torch, for pages that draw kept records."""

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["trojan", "clean"]
KINDS: tuple[Kind, ...] = ("trojan", "clean")
PLAIN = ("saliency", "input_x_gradient", "integrated_gradients")
"""Methods of attribution that take the gradient as it is: what the claims speak of."""
SCORES = ["auc", "decoy_auc", "pointing", "insertion", "deletion", "agreement", "kl"]
GROUPS = ("blocks.0", "blocks.1", "blocks.2", "fc")  # a level each
