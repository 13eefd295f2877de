"""Make what exercises are answered from: logits, images and small trained networks, of the first seed of a chapter's quick profile.

    python data/exercises/make.py CHAPTER

in the checkout writes ``data/exercises/CHAPTER/``; the card beside this file says what is in it. Minutes on one core.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from effnotes.runner.project import Project

PROJECT = Project.find(Path(__file__).parent)


def pruning_bias(folder: Path, values: dict[str, Any]) -> None:
    """Keep the labels and logits of one seed: the dense model, one at the moderate sparsity and one at the high one."""
    from effnotes.studies import bias

    plan = bias.plan(**values | {"seeds": [1], "follow_ups": False, "other_methods": []})
    result = bias.run(plan)
    own, task = plan.labels[1], plan.tasks[1]
    kept: dict[str, Any] = {"names": np.array(plan.names), "skewed": np.array(plan.skewed), "rates": task.rates}
    kept |= {"labels": task.labels.astype(bool), "groups": task.groups.astype(bool), "protected": task.protected}
    kept |= {name: getattr(own, name).numpy().astype(bool) for name in ("train", "train_groups", "val", "val_groups")}
    for name, level in (("dense", 0.0), ("moderate", plan.moderate), ("sparse", result.high)):
        run = result.at(level)[1]
        kept |= {f"{name}_sparsity": level, f"{name}_val": np.float16(run.val_logits), f"{name}_test": np.float16(run.test_logits)}
    np.savez_compressed(folder / "logits.npz", **kept)


def sample_targeted_pruning(folder: Path, values: dict[str, Any]) -> None:
    """Keep the network of one seed in 16 bits, and the images that it is explained on."""
    import safetensors.torch

    from effnotes.studies import traces
    from effnotes.studies.traces.classifiers import choose_samples, loaded

    first = traces.plan(**values | {"seeds": [1]}).classifiers[0].sealed()
    network, _ = loaded(first)
    state = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    halves = {name: weight.half() if weight.is_floating_point() else weight for name, weight in state.items()}
    safetensors.torch.save_file(halves, folder / "network.safetensors")
    kept: dict[str, Any] = {}
    for kind in ("trojan", "clean"):
        samples = choose_samples(first, kind, values["samples"])
        kept |= {f"{kind}_{name}": getattr(samples, name).numpy() for name in ("images", "regions", "decoys", "targets", "rows")}
        kept[f"{kind}_names"] = np.array(samples.names)
    np.savez_compressed(folder / "samples.npz", **kept)


def model_editing(folder: Path, values: dict[str, Any]) -> None:
    """Keep the model that knows the first world."""
    from effnotes.studies import editing

    plan = editing.plan(**values | {"worlds": [1], "tune_worlds": 1})
    editing.load_base(plan.main.bases[0]).save_pretrained(folder / "base")


if __name__ == "__main__":
    (chapter,) = sys.argv[1:]
    target = Path(__file__).parent / chapter
    target.mkdir(exist_ok=True)
    globals()[chapter](target, PROJECT.values(chapter, "quick", {}))
