"""A test set as a task: what it holds is what functions on arrays give."""

import numpy as np

from effnotes.metrics import bias as metrics


def test_a_task_that_is_read_once_gives_the_numbers_of_its_arrays():
    rng = np.random.default_rng(0)
    labels, train = (rng.random((size, 3)) < 0.4 for size in (200, 400))
    task = metrics.AttributeTask.of(labels, protected="group", train_labels=train, names=["group", "x", "y"])
    assert (task.column, task.protected) == (0, 0)
    np.testing.assert_array_equal(task.groups, labels[:, 0])
    np.testing.assert_array_equal(task.rates, metrics.conditional_rates(train, 0))
    np.testing.assert_array_equal(task.train_rate, train.mean(0))
    assert task.train_share == train[:, 0].mean()
    beside = metrics.AttributeTask.of(labels, protected=labels[:, 0], rates=task.rates)
    assert beside.column is None
    assert beside.protected is beside.groups
    assert beside.train_share == labels[:, 0].mean(), "where training labels are not at hand, groups are as large as here"
    of_classes = metrics.AttributeTask.of([0, 2, 1], protected=[0, 1, 1], rates=np.full((2, 3), 0.3), classes=3)
    np.testing.assert_array_equal(of_classes.labels, np.eye(3, dtype=bool)[[0, 2, 1]])
