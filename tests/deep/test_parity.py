"""Two processes are one, whatever the objective asks for: KL penalties, mini-batches, weights."""

import pytest
from test_many import launch, same_run

pytestmark = pytest.mark.deep
OBJECTIVES = {
    "a KL penalty in the loss, a reference that moves": {
        "beta": 0.05, "n_minibatches": 2, "reference_every": 2,
    },
    "a KL penalty in the reward, two passes": {
        "beta": 0.05, "kl_placement": "reward", "inner_epochs": 2, "importance_cap": 1.5,
    },
    "one length for all, a batch's spread": {
        "loss_aggregation": "token_mean", "advantage_scale": "batch", "objective": "cispo",
        "micro_batch_tokens": 200,
    },
}  # fmt: skip


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_the_same_in_two(name, tuning, tmp_path):
    changes = OBJECTIVES[name] | {"tuning": tuning}
    if tuning == "lora":
        changes |= {"lora_rank": 4, "learning_rate": 1e-3}
    for n in (0, 2):
        launch(n, tmp_path / str(n), **changes)
    same_run(tmp_path / "0", tmp_path / "2")
