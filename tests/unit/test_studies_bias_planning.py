"""What the chapter on bias refuses, and that it does so at once."""

import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from effnotes.datasets.load import DATASETS
from effnotes.studies.bias.experiment import Experiment

REFUSE = """
import sys
from effnotes.studies import bias
values = {
    **{"seeds": [1], "sparsities": [0.0, 0.9], "moderate_sparsity": 0.9, "knee_drop": 0.03, "protected": None, "follow_ups": None},
    **{"other_methods": ["gmp_post"], "num_single": 1, "num_planted": None, "second_model": "resnet8", "second_width": 8},
    **{"dataset": "faces", "num_shared": 10, CHANGE},
}
try:
    bias.plan(**values)
except ValueError as error:
    print(error)
loaded = {"torch", "torchvision", "scipy.stats", "sklearn", "seaborn", "matplotlib"} & sys.modules.keys()
sys.exit(f"loaded first: {loaded}" if loaded else 0)
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"epochs": 0', "epochs=0"),
        ('"momentum": 2.0', "momentum=2.0: must be below 1"),
        ('"other_methods": ["magic"]', "method='magic'"),
        ('"sparsities": [0.0, 0.01, 0.9]', "target=0.01"),
        ('"dataset": "iwildcam", "data_root": "x", "follow_ups": True', "follow_ups=True: iwildcam has classes that exclude"),
        ('"dataset": "iwildcam", "data_root": "x", "protected": "puma"', "protected='puma', follow_ups=None: iwildcam has classes"),
    ],
)
def test_wrong_settings_are_refused_before_anything_slow_is_loaded(change, message):
    done = subprocess.run([sys.executable, "-c", REFUSE.replace("CHANGE", change)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert message in done.stdout


def test_an_experiment_takes_all_data_with_attributes():
    assert get_args(get_type_hints(Experiment)["dataset"]) == DATASETS
