"""splinelib.fit: what it learns, what it leaves alone, and what it refuses."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from splinelib import data, nets
from splinelib.fit import fit


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def accuracy(net, x, y):
    with torch.no_grad():
        out = net(x)
    label = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(1)
    return (label == y).double().mean().item()


def test_one_logit_learns_the_moons():
    x, y = data.moons(200)
    assert accuracy(fit(nets.mlp([2, 16, 16, 1]), x, y, steps=300), x, y) > 0.98


def test_two_logits_learn_the_cross_in_batches():
    x, y = data.cross(800)
    net = fit(nets.mlp([2, 16, 16, 2]), x, y, steps=400, batch=100)
    assert accuracy(net, x, y) > 0.95


def test_regression_reaches_the_least_squares_solution():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 3, dtype=torch.float64, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3
    y = y + 0.1 * torch.randn(60, dtype=torch.float64, generator=generator)
    net = fit(nets.mlp([3, 1]), x, y, steps=3000, lr=0.02)
    best = torch.linalg.lstsq(torch.cat([x, torch.ones(60, 1)], 1), y[:, None]).solution[:, 0]
    found = torch.cat([net[0].weight[0], net[0].bias]).detach()
    assert torch.allclose(found, best, atol=1e-4)


@pytest.mark.parametrize("shape", [(30,), (30, 1)])
def test_one_column_of_targets_may_be_flat(shape):
    x, y = data.sawtooth(30)
    reference = fit(nets.mlp([1, 4, 1]), x, y, steps=5)
    assert same(state(fit(nets.mlp([1, 4, 1]), x, y.reshape(shape), steps=5)), state(reference))


def test_steps_are_those_of_plain_adam():
    x, y = data.circles(50)
    net = nets.mlp([2, 4, 1])
    ours = state(fit(net, x, y, steps=7, lr=0.03, weight_decay=0.1))
    copied = copy.deepcopy(net)
    adam = torch.optim.Adam(copied.parameters(), lr=0.03, weight_decay=0.1)
    for _ in range(7):
        adam.zero_grad()
        z = copied(x)[:, 0]
        torch.mean(nn.functional.softplus(z) - y * z).backward()  # -log of the Bernoulli likelihood
        adam.step()
    for name, value in copied.state_dict().items():
        assert torch.allclose(ours[name], value, rtol=0, atol=1e-12)


def test_loss_by_name_and_integer_targets_of_a_regression():
    x, y = data.moons(40)
    net = nets.mlp([2, 4, 1])
    as_numbers = fit(net, x, y.double(), steps=5)
    assert same(state(fit(net, x, y, steps=5, loss="mse")), state(as_numbers))
    assert not same(state(fit(net, x, y, steps=5)), state(as_numbers))


def test_the_callers_net_data_and_random_state_stay_as_they_are():
    x, y = data.moons(60)
    net = nets.mlp([2, 8, 1]).train()
    before, x0, y0 = state(net), x.clone(), y.clone()
    rng = torch.random.get_rng_state()
    trained = fit(net, x, y, steps=3, batch=7)
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert same(state(net), before)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(x, x0)
    assert torch.equal(y, y0)
    assert not trained.training
    assert not same(state(trained), before)


def test_equal_arguments_give_equal_nets_and_the_generator_decides_the_batches():
    x, y = data.moons(60)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return state(fit(nets.mlp([2, 8, 1]), x, y, steps=20, batch=8, generator=generator))

    assert same(run(3), run(3))
    assert not same(run(3), run(4))


def test_each_pass_uses_each_example_once():
    seen = []

    class Watch(nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(x[:, 0].tolist())
            return super().forward(x)

    x = torch.arange(10.0)[:, None]
    fit(Watch(1, 1), x, x[:, 0], steps=8, batch=3)
    assert [len(rows) for rows in seen] == [3, 3, 3, 1] * 2
    first, second = sum(seen[:4], []), sum(seen[4:], [])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_penalty_of_half_the_squares_is_weight_decay():
    x, y = data.moons(60)
    decayed = fit(nets.mlp([2, 8, 1]), x, y, steps=40, weight_decay=0.1)
    squares = fit(
        nets.mlp([2, 8, 1]), x, y, steps=40,
        penalty=lambda net: 0.05 * sum(w.square().sum() for w in net.parameters()),
    )  # fmt: skip
    plain = fit(nets.mlp([2, 8, 1]), x, y, steps=40)
    assert torch.allclose(decayed[0].weight, squares[0].weight, atol=1e-9)
    assert not torch.allclose(plain[0].weight, squares[0].weight, atol=1e-3)


def test_callback_sees_every_step_from_zero_in_evaluation_mode():
    x, y = data.digits_images("test")
    net = nets.convnet(batch_norm=True)
    start, seen = state(net), []

    def watch(step, current):
        seen.append((step, current.training, state(current)))

    last = fit(net, x[:50], y[:50], steps=3, callback=watch)
    assert [(step, mode) for step, mode, _ in seen] == [(k, False) for k in range(4)]
    assert same(seen[0][2], start)
    assert same(seen[-1][2], state(last))
    assert not same(seen[1][2], seen[2][2])
    # BatchNorm gathered its statistics, so the steps themselves ran in training mode.
    assert int(seen[-1][2]["1.num_batches_tracked"]) == 3
    assert same(state(fit(net, x[:50], y[:50], steps=3)), state(last))


def test_zero_steps_return_an_equal_copy_in_evaluation_mode():
    x, y = data.moons(10)
    net = nets.mlp([2, 3, 1])
    out = fit(net, x, y, steps=0)
    assert out is not net
    assert not out.training
    assert same(state(out), state(net))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_follows_the_net(dtype):
    x, y = data.moons(20)
    net = fit(nets.mlp([2, 3, 1], dtype=dtype), x.to(dtype), y, steps=2)
    assert net[0].weight.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("batch", [None, 16])
def test_device_follows_the_net(batch):
    x, y = data.moons(100)
    net = nets.mlp([2, 8, 1])
    there = fit(net.to("cuda"), x.cuda(), y.cuda(), steps=20, batch=batch)
    assert there[0].weight.is_cuda
    here = fit(net.to("cpu"), x, y, steps=20, batch=batch)
    assert torch.allclose(there.cpu()(x), here(x), atol=1e-8)


X, Y = data.moons(20)
NET = nets.mlp([2, 3, 1])
BAD = {
    "no parameters": ((nn.ReLU(), X, Y), {}, "ReLU has no parameters"),
    "type": ((NET, X.float(), Y), {}, "x is torch.float32 .*network torch.float64"),
    "rows": ((NET, X, Y[:5]), {}, "x has 20 rows and y 5"),
    "empty": ((NET, X[:0], Y[:0]), {}, "x has 0 rows"),
    "nan": ((NET, X * float("nan"), Y), {}, "NaN or infinite"),
    "steps": ((NET, X, Y), {"steps": -1}, "steps=-1"),
    "lr": ((NET, X, Y), {"lr": 0}, "lr=0"),
    "batch": ((NET, X, Y), {"batch": 0}, "batch=0"),
    "loss": ((NET, X, Y), {"loss": "hinge"}, "loss is 'hinge'"),
    "label of one logit": ((NET, X, Y + 1), {}, "from 1 to 2.*'bce' of a network with 1 outputs"),
    "label of many": ((nets.mlp([2, 3]), X, Y + 2), {}, "from 2 to 3.*'cross_entropy'"),
    "shape": ((nets.mlp([2, 3]), X, X), {}, r"shape \(20, 2\).*'mse'"),
    "bce of two": ((nets.mlp([2, 2]), X, X), {"loss": "bce"}, "'bce' needs one output"),
    "divergence": ((NET, X, Y.double() * 1e200), {}, "the loss is .* lower lr"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    arguments, settings, message = BAD[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        fit(*arguments, **{"steps": 5, **settings})


def test_a_pruned_network_can_be_trained_on():
    net = nets.mlp([2, 8, 1], dtype=torch.float32)
    prune.l1_unstructured(net[0], "weight", 0.5)
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    net(x)
    trained = fit(net, x, torch.arange(9) % 2, steps=2)
    assert ((trained[0].weight == 0) == (net[0].weight == 0)).all()
