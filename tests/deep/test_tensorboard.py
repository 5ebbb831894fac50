"""The logging seam: TensorBoard, which a learner need not install, gets what metrics.jsonl gets."""

from pathlib import Path

import pytest

from r1lite.learn import train

pytestmark = pytest.mark.deep


def test_tensorboard_gets_every_step(cfg):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(cfg.change(log_to=("tensorboard",), steps=3), progress=False)
    events = EventAccumulator(str(Path(cfg.run_dir) / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("reward")] == [1, 2, 3]
