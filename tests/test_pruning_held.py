"""splinelib.pruning.held, and the lottery: masks that stay while a network is trained."""

from types import SimpleNamespace

import pytest
import torch
from networks import state, unchanged
from planted import data_of_some_inputs, network
from torch import nn
from training import SHORT, convnet, gap, source

from splinelib import nets
from splinelib.masks import Mask, select
from splinelib.pruning.family import Ticket
from splinelib.pruning.held import Held
from splinelib.pruning.l1 import l1
from splinelib.pruning.lottery import lottery, magnitude
from splinelib.pruning.thinet import thinet, thinet_ticket
from splinelib.train import train, trainer


def half(net):
    """Half the weights of each layer, and of what else stands at the BatchNorm."""
    entries = {"0.weight": select(net[0].weight.abs(), 0.5)}
    entries["1.bias"] = torch.tensor([1, 0, 1, 0])
    entries[f"{len(net) - 1}.weight"] = select(net[-1].weight.abs(), 0.5)
    return Mask(entries)


def test_removed_weights_stay_at_zero_against_momentum_and_decay():
    net = convnet()
    mask = half(net)
    run = train(net, source(), SHORT, hook=Held(mask))
    for name, kept in mask.entries.items():
        weights = run.net.get_parameter(name)
        assert (weights[~kept] == 0).all()
        assert (weights[kept] != net.get_parameter(name)[kept]).all()


def test_training_is_that_of_a_network_masked_by_torch():
    net = convnet()
    mask = half(net)
    ours = train(mask.apply(net), source(), SHORT, hook=Held(mask)).net
    other = train(mask.apply(net, hold=True), source(), SHORT).net
    with torch.no_grad():
        other(next(iter(source().epoch(0)))[0].double())  # torch computes its weights when it runs
    for name in dict(net.named_parameters()):
        found = other.get_submodule(name.rpartition(".")[0])
        torch.testing.assert_close(
            ours.get_parameter(name), getattr(found, name.rpartition(".")[2]), rtol=0, atol=1e-12
        )


def test_a_network_that_was_not_masked_is_before_the_first_batch():
    net = convnet()
    mask = half(net)
    plain = train(net, source(), SHORT, hook=Held(mask)).net
    assert gap(plain, train(mask.apply(net), source(), SHORT, hook=Held(mask)).net) == 0


def test_removed_weights_have_no_gradient_in_the_step():
    net = convnet()
    mask = half(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    net[-1].weight.grad = None  # a weight that was not used
    Held(mask).before_step(net, 0)
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert grads.pop("5.weight") is None
    entries = dict(mask.entries)
    for name, grad in grads.items():
        assert torch.equal(grad, entries.get(name, torch.ones_like(grad)).to(grad))


def test_a_held_mask_tells_itself_from_others():
    net = convnet()
    mask = half(net)
    other = Mask({**mask.entries, "1.bias": torch.tensor([0, 1, 0, 1])})
    assert repr(Held(mask)) == repr(Held(half(net)))
    assert repr(Held(mask)) != repr(Held(other))
    assert Held(mask).mask(net) == mask
    assert Held(mask).state_dict() == {}
    with pytest.raises(ValueError, match=r"'0.weight' has shape"):
        train(convnet(), source(), SHORT, hook=Held(Mask({"0.weight": torch.ones(2, 2)})))


def test_a_ticket_is_a_network_and_a_mask():
    net, mask = Ticket(nn.Identity(), Mask({}), 3)
    assert isinstance(net, nn.Identity)
    assert mask == Mask({})


# --- the lottery ---


def descend(net, x, y, steps=300, lr=0.3, decay=1e-2):
    """A ``fit`` that goes downhill on all the data, with weight decay, and counts its calls."""
    calls = []

    def fit(net, label="", *, hook=None):
        calls.append(label)
        net = Mask({}).apply(net).train()
        for step in range(steps):
            loss = nn.functional.cross_entropy(net(x), y)
            grads = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for weight, grad in zip(net.parameters(), grads, strict=True):
                    weight -= lr * (grad + decay * weight)
            if hook:
                hook.after_step(net, step)
        return SimpleNamespace(net=net.eval())

    fit.calls = calls
    return fit


def test_the_lottery_keeps_the_weights_of_inputs_that_matter():
    x, y = data_of_some_inputs(used=(1, 4))
    net = nets.mlp([6, 8, 2])
    before = state(net)
    fit = descend(net, x, y)
    ticket = lottery(net, 0.6, fit)
    kept = ticket.mask.entries["0.weight"].sum(0)
    others = [0, 2, 3, 5]
    assert (kept[[1, 4]] > kept[others].max()).all()
    at_the_start = magnitude(net, 0.6).entries["0.weight"].sum(0)
    assert at_the_start[others].sum() > 2 * kept[others].sum()  # training has told them apart
    assert fit.calls == ["lottery: dense"]
    assert unchanged(net, before)
    assert unchanged(ticket.net, before)  # rewound
    assert ticket.net is not net
    assert not ticket.net.training


def test_the_ticket_trains_in_its_mask():
    x, y = data_of_some_inputs()
    net = nets.mlp([6, 8, 2])
    fit = descend(net, x, y)
    start, mask = lottery(net, 0.5, fit)
    run = fit(mask.apply(start), "ticket", hook=Held(mask))
    assert all((run.net.get_parameter(n)[~k] == 0).all() for n, k in mask.entries.items())
    assert (run.net(x).argmax(1) == y).double().mean() > 0.95


def test_magnitude_is_global_or_layerwise():
    net = nets.mlp([2, 2, 2])
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[4.0, -3.0], [0.1, -0.2]]))
        net[2].weight.copy_(torch.tensor([[-5.0, 1.0], [0.5, -0.7]]))
    every = magnitude(net, 0.5).entries
    assert every["0.weight"].tolist() == [[True, True], [False, False]]
    assert every["2.weight"].tolist() == [[True, True], [False, False]]
    one = magnitude(net, 0.25).entries
    assert one["0.weight"].tolist() == [[True, True], [False, False]]
    assert one["2.weight"].all()
    each = magnitude(net, 0.25, scope="layerwise").entries
    assert [int((~e).sum()) for e in each.values()] == [1, 1]


def test_a_lottery_without_training_is_refused():
    with pytest.raises(ValueError, match=r"lottery trains, so it needs fit: .*trainer"):
        lottery(network("mlp"), 0.5)
    with pytest.raises(ValueError, match="ratio is 1.5"):
        lottery(network("mlp"), 1.5, descend)


# --- ThiNet, trained between the layers ---


def test_thinet_looks_at_a_layer_without_the_channels_that_went_before():
    net = nets.build("convnet", 3, in_shape=(1, 6, 6), channels=(4, 6)).double().eval()
    x = torch.randn(6, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(0)
    one = thinet_ticket(net, 0.5, x=x, layers=["0"], generator=draws)
    two = thinet_ticket(one.mask.apply(one.net), 0.5, x=x, layers=["3"], generator=draws)
    both = thinet_ticket(net, 0.5, x=x)
    assert both.mask == one.mask & two.mask
    assert gap(both.net, two.net) == 0
    assert gap(both.net, both.mask.apply(both.net)) == 0  # what went is 0, without any training


@pytest.mark.parametrize("samples", [0, 2.5])
def test_thinet_draws_whole_numbers(samples):
    with pytest.raises(ValueError, match=f"whole number of samples.* samples {samples}"):
        thinet(network("mlp"), 0.5, torch.eye(6, dtype=torch.float64), samples=samples)


def test_thinet_trains_after_each_layer_with_the_masks_so_far():
    fit, labels, held = trainer(source(), SHORT), [], []

    def spy(net, label="", *, hook=None):
        labels.append(label)
        held.append(hook.mask(net))
        return fit(net, label, hook=hook)

    net = (
        nets.build("convnet", 3, in_shape=(1, 6, 6), channels=(4, 6), batch_norm=True)
        .double()
        .eval()
    )
    x = torch.randn(6, 1, 6, 6, dtype=torch.float64)
    ticket = thinet_ticket(net, 0.5, spy, x=x)
    assert labels == ["thinet: 0", "thinet: 4"]
    assert list(held[0].counts()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert held[1] == ticket.mask
    assert not ticket.net.training
    for name, kept in ticket.mask.entries.items():
        assert (ticket.net.get_parameter(name)[~kept] == 0).all()
    untrained = thinet(net, 0.5, x)
    assert untrained.entries["0.weight"].equal(ticket.mask.entries["0.weight"])
    assert l1(net, 0.5).counts().keys() == untrained.counts().keys()
