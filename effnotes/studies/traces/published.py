"""Published tables of SPADE and FastSPADE (Soltani Moakhar et al., ICML 2024), as the authors' repository shows them."""

from __future__ import annotations

import pandas as pd

_METHODS = [
    "saliency",
    "input_x_gradient",
    "deep_lift",
    "lrp",
    "guided_backprop",
    "guided_grad_cam",
    "lime",
    "occlusion",
    "integrated_gradients",
    "gradient_shap",
]

# ResNet-50 on ImageNet, pixel AUC in percent, mean of 111 images with a trojan.
_TROJANS = {
    "dense": (87.87, 85.44, 94.10, 90.81, 95.73, 98.03, 90.69, 88.29, 89.61, 89.51),
    "SPADE": (96.21, 95.10, 96.55, 99.21, 97.08, 98.37, 95.47, 95.40, 96.10, 96.03),
    "FastSPADE": (93.91, 90.61, 95.07, 98.03, 95.81, 97.75, 93.94, 90.90, 93.55, 93.80),
    "sparse last layer": (88.05, 85.59, 94.21, 93.99, 95.82, 98.00, 91.83, 87.84, 89.89, 89.82),
}
# Insertion and deletion on images without one, in percent; FastSPADE* has its levels tuned for insertion.
_INSERTION = {
    "dense": (29.90, 37.36, 42.65, 46.34, 43.95, 53.90, 73.19, 32.76, 41.10, 40.62),
    "FastSPADE": (34.26, 41.04, 45.26, 52.92, 43.99, 51.67, 65.42, 48.95, 43.85, 44.60),
    "FastSPADE*": (33.63, 34.94, 42.46, 56.08, 44.77, 54.35, 68.76, 52.63, 42.09, 42.76),
    "sparse last layer": (29.78, 37.61, 43.92, 52.59, 44.33, 52.83, 70.20, 32.76, 41.42, 40.98),
}
_DELETION = {
    "dense": (14.95, 10.23, 7.78, 9.71, 9.48, 10.16, 14.69, 11.58, 8.79, 8.81),
    "FastSPADE": (12.40, 8.42, 7.23, 10.35, 9.70, 9.92, 16.31, 9.62, 7.03, 7.23),
    "FastSPADE*": (11.33, 10.17, 5.84, 11.20, 9.14, 9.89, 17.82, 10.83, 5.65, 6.26),
    "sparse last layer": (14.66, 10.40, 7.80, 10.68, 9.41, 9.96, 16.62, 11.65, 8.87, 9.03),
}
# Shares of answers in percent, of people who were to say from a neuron's picture which of two image patches made a decision.
_PEOPLE = {
    "undecided": (22.9, 12.6),
    "against Score-CAM": (20.4, 17.8),
    "with Score-CAM": (56.7, 69.8),
    "against, of those decided": (26.4, 20.1),
}
# Levels by stage, a number a residual block in the order of the network, as the authors' notebook has them for LRP.
_LEVELS = {
    "layer1": (0.2, 0.8, 0.0),
    "layer2": (0.2, 0.0, 0.99, 0.95),
    "layer3": (0.8, 0.8, 0.9, 0.8, 0.0, 0.0),
    "layer4": (0.95, 0.95, 0.95),
    "fc": (0.95,),
}


def published_auc() -> pd.DataFrame:
    """Pixel AUC on images with a trojan, in percent: a row a method, columns dense, SPADE, FastSPADE, sparse last layer."""
    return pd.DataFrame(_TROJANS, index=_METHODS).rename_axis("method")


def published_insertion() -> pd.DataFrame:
    """Insertion and deletion, in percent, on images without a trojan: columns (score, network)."""
    tables = {"insertion": _INSERTION, "deletion": _DELETION}
    return pd.concat({score: pd.DataFrame(table, index=_METHODS) for score, table in tables.items()}, axis=1).rename_axis("method")


def published_people() -> pd.DataFrame:
    """What people answered, in percent: a row an answer, columns dense and SPADE."""
    return pd.DataFrame(_PEOPLE, index=["dense", "SPADE"]).T.rename_axis("answer")


def published_levels() -> pd.DataFrame:
    """Levels of a ResNet-50 tuned for the pixel AUC of LRP: a row a stage, a column a residual block, NaN beyond the last."""
    return pd.DataFrame({stage: pd.Series(levels) for stage, levels in _LEVELS.items()}).T.rename_axis("stage")
