"""splinelib.soft: probabilities against SciPy, gates against PyTorch, and the hard limit."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw
from scipy.stats import logistic
from torch import nn

from splinelib import nets, soft

Z = torch.linspace(-6, 6, 241, dtype=torch.float64)
SLOPES = [0.0, 0.1, -0.5, -1.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("temperature", [0.05, 1, 3.0])
def test_assignment_is_the_chance_that_logistic_noise_keeps_the_unit_active(temperature):
    expected = torch.from_numpy(logistic(scale=temperature).sf(-Z.numpy()))
    assert torch.allclose(soft.assignment(Z, temperature), expected, rtol=1e-12, atol=1e-15)


def test_both_sides_together_have_probability_one():
    total = soft.assignment(Z, 0.7) + soft.assignment(-Z, 0.7)
    assert torch.allclose(total, torch.ones_like(Z), rtol=0, atol=1e-15)


def test_temperature_zero_is_the_step_with_zero_on_the_inactive_side():
    z = torch.tensor([-1.0, -1e-300, 0.0, 1e-300, 2.0], dtype=torch.float64)
    assert soft.assignment(z, 0).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("temperature", [1e-3, 1e-200, 5e-324])
def test_small_temperatures_approach_the_step(temperature):
    z = Z[Z.abs() > 0.04]
    assert torch.allclose(soft.assignment(z, temperature), (z > 0).double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_type_and_shape_follow_the_input(dtype, temperature):
    z = torch.zeros(2, 3, 4, dtype=dtype)
    for result in (soft.assignment(z, temperature), soft.gated(z, temperature, 0.1)):
        assert (result.dtype, result.shape) == (dtype, z.shape)


@pytest.mark.parametrize("temperature", [-1.0, -1e-9, math.nan])
def test_bad_temperatures_are_named(temperature):
    net = nn.Sequential(nn.ReLU())
    for call in (
        lambda: soft.assignment(Z, temperature),
        lambda: soft.gated(Z, temperature),
        lambda: soft.SoftReLU(temperature),
        lambda: soft.soften(net, temperature),
        lambda: soft.region_probabilities(Z[:, None], temperature, torch.ones(1, 1)),
    ):
        with pytest.raises(ValueError, match=f"temperature is {temperature}.*at least 0"):
            call()


def test_unit_temperature_is_silu():
    assert torch.allclose(soft.gated(Z, 1.0), F.silu(Z), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("alpha", SLOPES)
def test_temperature_zero_is_the_hard_activation_exactly(alpha):
    assert torch.equal(soft.gated(Z, 0, alpha), nets.activation(alpha)(Z))


@settings(deadline=None)
@given(
    z=st.floats(-50, 50),
    temperature=st.floats(1e-3, 50),
    alpha=st.floats(-1, 1),
)
def test_the_gate_lies_below_the_hard_activation_by_a_known_share(z, temperature, alpha):
    z = torch.tensor(z, dtype=torch.float64)
    gap = torch.where(z > 0, z, alpha * z) - soft.gated(z, temperature, alpha)
    # The maximum over u of u / (1 + exp(u)) is W(1/e).
    bound = lambertw(1 / math.e).real * (1 - alpha) * temperature
    assert -1e-12 <= gap <= bound + 1e-12


def test_the_bound_on_the_gap_is_reached():
    u = 1 + lambertw(1 / math.e).real
    z = torch.tensor([2 * u, -2 * u], dtype=torch.float64)
    gap = torch.relu(z) - soft.gated(z, 2.0)
    assert gap.tolist() == pytest.approx([2 * lambertw(1 / math.e).real] * 2, rel=1e-12)


def test_abs_softens_to_a_hyperbolic_tangent():
    assert torch.allclose(soft.gated(Z, 0.5, -1.0), Z * torch.tanh(Z), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", SLOPES)
def test_gradients_match_finite_differences(alpha):
    z = Z[::20].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: soft.gated(t, 0.8, alpha), z)


@pytest.mark.parametrize(
    "net",
    [
        nets.mlp([2, 5, 4, 1], alpha=0.1),
        nets.mlp([2, 5, 4, 1], alpha=-1),
        nets.residual_mlp(2, 4, 2, 3),
        nn.ReLU(),
    ],
    ids=["leaky", "abs", "residual", "bare"],
)
def test_softening_at_temperature_zero_changes_nothing_and_leaves_the_net_alone(net):
    before = (repr(net), copy.deepcopy(net.state_dict()))
    x = torch.randn(50, 2, dtype=torch.float64, generator=seeded())
    softened = soft.soften(net, 0)
    assert torch.equal(softened(x), net(x))
    assert not torch.equal(soft.soften(net, 1.0)(x), net(x))
    assert repr(net) == before[0]
    assert all(torch.equal(before[1][name], value) for name, value in net.state_dict().items())
    assert repr(softened) == before[0]  # still piecewise affine
    assert "SoftReLU" in repr(soft.soften(net, 1.0))
    shared = {p.data_ptr() for p in net.parameters()}
    assert all(p.data_ptr() not in shared for p in softened.parameters())


def test_soften_reaches_one_module_used_twice_and_keeps_the_mode():
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(2, 3), act, nn.Linear(3, 3), act).eval()
    softened = soft.soften(net, 0.3)
    assert [type(module) for module in softened] == [nn.Linear, soft.SoftReLU] * 2
    assert not any(module.training for module in softened.modules())


def test_softened_net_traces_and_keeps_its_values():
    net = soft.soften(nets.residual_mlp(2, 4, 1, 1, alpha=0.2), 0.5)
    x = torch.randn(9, 2, dtype=torch.float64, generator=seeded())
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))


def test_soften_says_when_there_is_nothing_to_soften():
    with pytest.raises(ValueError, match="Linear has no ReLU, LeakyReLU or Abs module"):
        soft.soften(nn.Linear(2, 1), 0.1)


def all_codes(k):
    return torch.tensor(list(itertools.product([1, -1], repeat=k)))


@pytest.mark.parametrize("temperature", [0, 1e-3, 0.4, 10.0])
def test_region_probabilities_of_all_codes_sum_to_one(temperature):
    z = torch.randn(30, 6, dtype=torch.float64, generator=seeded())
    p = soft.region_probabilities(z, temperature, all_codes(6))
    assert p.shape == (30, 64)
    assert (p >= 0).all()
    assert torch.allclose(p.sum(1), torch.ones(30, dtype=torch.float64), rtol=0, atol=1e-13)


def test_hard_regions_get_probability_one_on_their_own_points_only():
    z = torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=torch.float64)
    codes = torch.tensor([[1, -1], [-1, 1], [1, 1]], dtype=torch.int8)
    assert soft.region_probabilities(z, 0, codes).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_region_probabilities_equal_noisy_frequencies():
    z = torch.tensor([[0.5, -0.3, 1.0]], dtype=torch.float64)
    u = torch.rand(200_000, 3, dtype=torch.float64, generator=seeded(1))
    noisy = z + 0.6 * (u / (1 - u)).log()  # logistic noise of scale 0.6
    drawn = torch.where(noisy > 0, 1, -1)
    seen = torch.stack([(drawn == code).all(1).double().mean() for code in all_codes(3)])
    p = soft.region_probabilities(z, 0.6, all_codes(3))[0]
    assert (seen - p).abs().max() < 5 * math.sqrt(0.25 / 200_000)


@pytest.mark.parametrize("alpha", SLOPES)
def test_a_soft_layer_is_the_mean_of_the_affine_maps_of_its_regions(alpha):
    net = nets.mlp([2, 5, 3], alpha)
    first, last = net[0], net[2]
    x = torch.randn(40, 2, dtype=torch.float64, generator=seeded(2))
    with torch.no_grad():
        p = soft.region_probabilities(first(x), 0.7, all_codes(5))
        one_or_alpha = torch.tensor([alpha, 1.0], dtype=torch.float64)
        slopes = one_or_alpha[(all_codes(5) > 0).long()]
        # A_s = W2 diag(q_s) W1 and b_s = W2 diag(q_s) b1 + b2 for each code s.
        a = torch.einsum("ok,rk,kd->rod", last.weight, slopes, first.weight)
        b = (slopes * first.bias) @ last.weight.T + last.bias
        pieces = torch.einsum("rod,bd->bro", a, x) + b
        mean = (p[:, :, None] * pieces).sum(1)
        assert torch.allclose(mean, soft.soften(net, 0.7)(x), rtol=0, atol=1e-12)


def test_region_probabilities_name_bad_shapes_and_entries():
    z = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"\(4, 3\) and codes \(2, 2\)"):
        soft.region_probabilities(z, 1, torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"need \(B, K\) and \(R, K\)"):
        soft.region_probabilities(z[0], 1, torch.ones(1, 3))
    with pytest.raises(ValueError, match="other than -1 and"):
        soft.region_probabilities(z, 1, torch.zeros(1, 3))


def test_soften_refuses_to_leave_a_call_hard():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.b = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)

        def forward(self, x):
            return torch.relu(self.b(self.act(self.a(x))))

    with pytest.raises(ValueError, match="calls relu as a function"):
        soft.soften(Mixed(), 0.5)
