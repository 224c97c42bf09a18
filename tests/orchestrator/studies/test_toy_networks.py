"""Networks of many seeds at once learn what each would learn alone, and what torch's own layers and Adam learn."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.studies.toy_networks import ACTIVATIONS, Activation, Examples, Training, answers, fit
from tasks.seeding import rng_of

SMALL = Training(hidden=(16, 16), batch=8)
SEEDS = (0, 3, 4)


def examples(seeds: int, count: int = 20) -> Examples:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.uniform(0, 1, (seeds, count, 2)).astype(np.float32))
    known = torch.from_numpy(rng.random((seeds, count, 2)) < 0.6)
    return Examples(x, torch.sin(5 * x) + x.sum(2, keepdim=True), known)


def only(of: Examples, row: int) -> Examples:
    assert of.known is not None
    return Examples(of.inputs[row : row + 1], of.targets[row : row + 1], of.known[row : row + 1])


def test_all_at_once_is_one_by_one() -> None:
    together, data = examples(3), examples(3)
    networks = fit(together, SEEDS, "r", SMALL, 12)
    found = answers(networks, data.inputs)
    for row, seed in enumerate(SEEDS):
        alone = fit(only(data, row), (seed,), "r", SMALL, 12)
        for many, one in zip(networks.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(many[row], one[0], atol=1e-5)
        assert torch.allclose(found[row], answers(alone, data.inputs[row : row + 1])[0], atol=1e-5)
    assert not torch.allclose(networks.weights[0][0], networks.weights[0][1])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_as_torch_trains_it(activation: Activation) -> None:
    """The same weights and order in ``nn.Linear``, with masked targets: equal after six steps (three epochs)."""
    data, training = examples(1), Training(activation, (16, 16), 8)
    rng = rng_of("toy", "r", 7)
    start = fit(data, (7,), "r", training, 0)
    layers: list[nn.Module] = []
    for weight, bias in zip(start.weights, start.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        with torch.no_grad():
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
        layers += [layer, ACTIVATIONS[activation]]
        rng.uniform(-1, 1, (weight.shape[1] + 1, weight.shape[2]))  # what the weights were drawn from
    alone = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(alone.parameters(), lr=training.rate)
    orders = [rng.permutation(20)[:16] for _ in range(3)]
    for chosen in np.concatenate(orders).reshape(6, 8):
        optimizer.zero_grad()
        _loss(alone(data.inputs[0, chosen]), data, chosen).backward()
        optimizer.step()
    found = answers(fit(data, (7,), "r", training, 6), data.inputs)[0]
    assert torch.allclose(found, alone(data.inputs[0]), atol=1e-5)
    assert not torch.allclose(found, answers(start, data.inputs)[0], atol=1e-3)


def _loss(found: Tensor, data: Examples, chosen: np.ndarray) -> Tensor:
    assert data.known is not None
    parts = []
    for output in range(2):
        known = data.known[0, chosen, output]
        error = (found[:, output] - data.targets[0, chosen, output])[known]
        parts.append(error.square().sum() / max(1, len(error)))
    return torch.stack(parts).sum()


def test_targets_that_are_not_known_change_nothing() -> None:
    data = examples(2)
    assert data.known is not None
    wild = Examples(data.inputs, torch.where(data.known, data.targets, 99.0), data.known)
    assert torch.equal(answers(fit(data, (0, 1), "r", SMALL, 5), data.inputs),
                       answers(fit(wild, (0, 1), "r", SMALL, 5), data.inputs))  # fmt: skip
    nothing = Examples(data.inputs, data.targets, torch.zeros_like(data.known))
    before, after = (fit(nothing, (0, 1), "r", SMALL, steps) for steps in (0, 5))
    assert torch.equal(answers(before, data.inputs), answers(after, data.inputs))


def test_steps_of_epochs() -> None:
    assert Training().steps(60, 160) == 300
    assert Training().steps(60, 640) == 1200
    assert Training().steps(3, 5) == 3
