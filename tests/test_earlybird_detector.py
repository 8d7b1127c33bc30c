"""splinelib.earlybird: rules, the detector in a loop, its memory and its checkpoints, probes."""

import copy
from functools import partial

import birds
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import normal
from torch import nn

from splinelib import nets
from splinelib.data import ImageSet
from splinelib.earlybird import (
    ALGORITHM_1,
    MASK_DISTANCE,
    PUBLIC_CODE,
    Codes,
    EarlyBird,
    Rule,
    canvas,
    codes,
    distance,
    distances,
    first_fire,
    held_out,
    mask_codes,
    matrix,
    random_inputs,
)
from splinelib.earlybird.bits import pack

# rules


def by_words(D, rule, start):
    """The row at which a rule fires first, as its definition says it."""
    for t in range(start, len(D)):
        if t - rule.length < start:
            continue
        if rule.compare == "consecutive":
            looked = [D[s][s - 1] for s in range(t - rule.length + 1, t + 1)]
        else:
            looked = [D[t][t - back] for back in range(1, rule.length + 1)]
        if max(looked) < rule.eps:
            return t
    return None


RULES = st.builds(
    Rule,
    st.sampled_from(["consecutive", "lookback"]),
    st.integers(1, 4),
    st.sampled_from([0.1, 0.2, 0.35, 1.0]),
)


@given(st.integers(0, 9), st.integers(0, 10**6), RULES, st.data())
def test_first_fire_is_what_the_rule_says(T, seed, rule, data):
    D = torch.rand(T, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 2
    D = (D + D.T) / 2
    D.fill_diagonal_(0)
    start = data.draw(st.integers(0, T))
    assert first_fire(D, rule, start) == by_words(D.tolist(), rule, start)
    assert first_fire(D.numpy(), rule, start) == first_fire(D.float().double(), rule, start)


@given(st.integers(1, 9), st.integers(0, 10**6), RULES, st.sampled_from(["layer", "element"]))
def test_online_and_recorded_detection_agree(T, seed, rule, weight):
    generator = torch.Generator().manual_seed(seed)
    snapshots, bits = [], [torch.rand(3, n, generator=generator) < 0.5 for n in (9, 70)]
    for _ in range(T):  # fewer and fewer bits change
        flips = float(torch.rand((), generator=generator)) ** 3
        bits = [b ^ (torch.rand(b.shape, generator=generator) < flips) for b in bits]
        words = torch.cat([pack(b) for b in bits], dim=1)
        snapshots.append(Codes(("a", "b"), (9, 70), words))
    D = matrix(snapshots, weight)
    for start in range(T):
        feed = iter(snapshots[start:])
        bird = EarlyBird(lambda _, feed=feed: next(feed), rule, weight=weight)
        answers = [bird.update(None) for _ in snapshots[start:]]
        found = first_fire(D, rule, start)
        assert (None if bird.fired is None else start + bird.fired) == found
        assert (answers.index(True) if any(answers) else None) == bird.fired
        assert bird.means == pytest.approx(D.diagonal(-1)[start:].tolist())
        assert len(bird.history) <= rule.length


def test_named_rules_are_those_of_their_sources():
    assert Rule("consecutive", 2, 0.15) == ALGORITHM_1
    assert Rule("lookback", 3, 0.16) == PUBLIC_CODE
    assert Rule("lookback", 4, 0.1) == MASK_DISTANCE


def test_a_queue_must_be_full_and_below_the_threshold():
    assert not Rule("consecutive", 2, 0.15).fires([0.0])
    assert not Rule("lookback", 2, 0.15).fires([0.0, 0.15])  # strictly below
    assert Rule("lookback", 2, 0.15).fires([0.9, 0.0, 0.14])


@pytest.mark.parametrize(
    "settings", [("both", 2, 0.1), ("lookback", 0, 0.1), ("lookback", 1.5, 0.1),
                 ("lookback", 2, 0.0), ("lookback", 2, float("nan"))]
)  # fmt: skip
def test_bad_rules_are_refused(settings):
    with pytest.raises(ValueError, match="compare=|eps is"):
        Rule(*settings)


def test_bad_matrices_are_refused():
    for D, message in (
        (torch.zeros(2, 3), "square"),
        (torch.full((2, 2), torch.nan), "NaN"),
        (2 * torch.ones(2, 2), "outside"),
    ):
        with pytest.raises(ValueError, match=message):
            first_fire(D, ALGORITHM_1)
    with pytest.raises(ValueError, match="start is 3"):
        first_fire(torch.zeros(2, 2), ALGORITHM_1, start=3)


# the detector


def steps(n, seed=0):
    """A network in n + 1 states, as training would leave it: it moves less and less."""
    net = nets.convnet((1, 6, 6), (4, 4), batch_norm=True)
    generator = torch.Generator().manual_seed(seed)
    states = [copy.deepcopy(net)]
    for step in range(n):
        with torch.no_grad():
            for p in net.parameters():
                change = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                p += 0.5**step * p.abs().mean() * change
        states.append(copy.deepcopy(net))
    return states


PROBE = normal(20, 1, 6, 6)
SNAPSHOTS = {
    "probe": (PROBE, {}),
    "all entries": (PROBE, {"features": None}),
    "few entries": (PROBE, {"features": 30, "weight": "element"}),
    "batchnorm": (partial(codes, x=PROBE, at="batchnorm"), {}),
    "mask": (partial(mask_codes, fraction=0.5), {"weight": "element"}),
}


@pytest.mark.parametrize("rule", [ALGORITHM_1, PUBLIC_CODE, Rule("lookback", 1, 0.05)], ids=str)
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_loop_stops_where_the_recorded_matrix_says(name, rule):
    snapshot, options = SNAPSHOTS[name]
    states = steps(9)
    bird = EarlyBird(snapshot, rule, keep="all", **options)
    fires = [bird.update(net) for net in states]
    D = matrix(bird.history, bird.weight)
    assert len(bird.history) == 10
    assert bird.fired == first_fire(D, rule)
    assert bird.fired == (fires.index(True) if any(fires) else None)
    assert bird.means == pytest.approx(D.diagonal(1).tolist())
    assert len(bird.distances) == 9
    for before, after, found in zip(
        bird.history[:-1], bird.history[1:], bird.distances, strict=True
    ):
        assert torch.equal(found, distances(before, after))


def test_the_first_update_only_stores():
    bird = EarlyBird(PROBE)
    assert bird.latest == {
        "distance": None, "layer_distances": None, "compared": [], "fired": None,
    }  # fmt: skip
    net = steps(0)[0]
    assert not bird.update(net)
    assert (bird.fired, bird.means, len(bird.history)) == (None, [], 1)
    assert not bird.update(net)
    assert bird.update(net)
    assert bird.update(net)  # and still does
    assert bird.fired == 2
    assert bird.latest == {
        "distance": 0.0, "layer_distances": [0.0, 0.0], "compared": [0.0, 0.0], "fired": 2,
    }  # fmt: skip


def test_a_probe_that_is_changed_later_is_still_the_old_one():
    probe, net = PROBE.clone(), steps(0)[0]
    bird = EarlyBird(probe)
    bird.update(net)
    probe.neg_()
    bird.update(net)
    assert bird.means == [0]


def test_it_watches_a_network_in_training_mode():
    net = steps(0)[0].train()
    bird = EarlyBird(PROBE)
    bird.update(net)
    assert net.training
    assert all(m.training for m in net.modules())
    net(PROBE)  # moves the running statistics
    bird.update(net)
    assert bird.means[0] > 0


@pytest.mark.parametrize("name", SNAPSHOTS)
@pytest.mark.parametrize("rule", [ALGORITHM_1, PUBLIC_CODE], ids=["algorithm", "code"])
@pytest.mark.parametrize("keep", [None, "all"])
def test_a_checkpoint_goes_on_identically(name, rule, keep, tmp_path):
    snapshot, options = SNAPSHOTS[name]
    states = steps(8)
    whole = EarlyBird(snapshot, rule, keep=keep, **options)
    answers = [whole.update(net) for net in states]
    for stop in (0, 1, 3, 6):
        first = EarlyBird(snapshot, rule, keep=keep, **options)
        before = [first.update(net) for net in states[:stop]]
        torch.save(first.state_dict(), tmp_path / "bird.pt")
        second = EarlyBird(snapshot, rule, keep=keep, **options)
        second.load_state_dict(torch.load(tmp_path / "bird.pt", weights_only=True))
        assert second.latest == first.latest
        assert second.nbytes - first.nbytes in (0, -getattr(first._sample, "nbytes", 0))
        assert before + [second.update(net) for net in states[stop:]] == answers
        assert (second.fired, second.means) == (whole.fired, whole.means)
        assert all(map(torch.equal, second.distances, whole.distances))
        assert len(second.history) == len(whole.history)
        pairs = zip(second.history, whole.history, strict=True)
        assert all(torch.equal(a.words, b.words) for a, b in pairs)


def test_a_state_of_another_detector_is_refused():
    bird = EarlyBird(PROBE, features=20)
    bird.update(steps(0)[0])
    for other, message in (
        (EarlyBird(PROBE, PUBLIC_CODE, features=20), "with rule ="),
        (EarlyBird(PROBE, features=21), "features = 20, but this one has features = 21"),
        (EarlyBird(PROBE, features=20, weight="element"), "weight = layer"),
        (EarlyBird(PROBE, features=20, keep="all"), "keep = None"),
        (EarlyBird(PROBE + 1, features=20), "with probe ="),
        (EarlyBird(PROBE[:9], features=20), "with probe ="),
        (EarlyBird(partial(codes, x=PROBE, features=20)), "with features ="),
    ):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(bird.state_dict())


@pytest.mark.parametrize(
    "snapshot, options, message",
    [
        (None, {}, "snapshot is a NoneType"),
        (PROBE, {"keep": 3}, "keep is 3"),
        (PROBE, {"weight": "unit"}, "weight is 'unit'"),
        (PROBE, {"features": 0}, "features is 0"),
    ],
)
def test_bad_settings_are_refused(snapshot, options, message):
    with pytest.raises(ValueError, match=message):
        EarlyBird(snapshot, **options)


def test_a_snapshot_must_be_codes_of_one_network():
    with pytest.raises(ValueError, match="gave a Linear, but must give Codes"):
        EarlyBird(lambda net: net).update(nn.Linear(2, 2))
    bird = EarlyBird(normal(4, 3))
    bird.update(nets.mlp([3, 8, 2]))
    with pytest.raises(ValueError, match="widths: 8 and 7"):
        bird.update(nets.mlp([3, 7, 2]))


def test_a_detector_that_keeps_little_forgets_the_rest():
    states = steps(6)
    for rule, held in ((ALGORITHM_1, 1), (PUBLIC_CODE, 3)):
        bird = EarlyBird(PROBE, rule, features=None)
        for net in states:
            bird.update(net)
        assert len(bird.history) == held
        assert bird.nbytes == held * bird.history[0].nbytes + PROBE.nbytes
        assert torch.equal(bird.history[-1].words, codes(states[-1], PROBE).words)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_detector_on_a_gpu_goes_on_from_a_cpu_checkpoint(tmp_path):
    states = [net.cuda() for net in steps(4)]
    probe = PROBE.cuda()
    whole = EarlyBird(probe, PUBLIC_CODE, keep="all")
    answers = [whole.update(net) for net in states]
    assert whole.history[0].device.type == "cpu"
    first = EarlyBird(probe, PUBLIC_CODE, keep="all")
    before = [first.update(net) for net in states[:2]]
    torch.save(first.state_dict(), tmp_path / "bird.pt")
    second = EarlyBird(probe, PUBLIC_CODE, keep="all")
    state = torch.load(tmp_path / "bird.pt", weights_only=True, map_location="cpu")
    second.load_state_dict(state)
    assert before + [second.update(net) for net in states[2:]] == answers
    assert second.means == whole.means


# the memory that the issue allows: 64 MB for PreResNet-101 with 512 images


@pytest.mark.parametrize("rule", [ALGORITHM_1, PUBLIC_CODE], ids=["algorithm", "code"])
def test_preresnet_with_512_images_stays_below_64_megabytes(rule):
    net, probe = nets.preresnet(101).eval(), torch.zeros(512, 3, 32, 32)
    two = codes(net, probe[:2], features=2048)
    assert len(two.layers) == 100
    assert sum(two.widths) == 1_945_600
    assert min(two.widths) >= 2048  # so the choice of entries counts in full, too
    snapshot = two.nbytes // 2 * 512
    held = rule.length if rule.compare == "lookback" else 1
    rows = 8 * sum(two.sizes)
    assert (held + 1) * snapshot + probe.nbytes + rows <= 64e6  # the new one stands beside them
    bird = EarlyBird(probe[:2], rule)
    for _ in range(held + 1):
        bird.update(net)
    assert bird.nbytes == held * two.nbytes + probe[:2].nbytes + rows


# probes


def image_set(n=30):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 2, 3, 4), generator=generator, dtype=torch.uint8)
    return ImageSet("test", pixels, torch.arange(n) % 3, ("a", "b", "c"), (0.4, 0.6), (0.2, 0.3))


def test_held_out_images_and_the_rest_are_all():
    images = image_set()
    probe, rest = held_out(images, 10)
    assert (probe.shape, len(rest)) == ((10, 2, 3, 4), 20)
    both = torch.cat([probe, rest.inputs()]).flatten(1)
    everything = images.inputs().flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, everything.tolist()))
    again, _ = held_out(images, 10, torch.Generator().manual_seed(0))
    assert torch.equal(probe, again)
    other, _ = held_out(images, 10, torch.Generator().manual_seed(1))
    assert not torch.equal(probe, other)
    for n in (0, 30):
        with pytest.raises(ValueError, match=f"n is {n}"):
            held_out(images, n)


def test_random_inputs_are_uniform_pixels():
    images = image_set()
    x = random_inputs(images, 2000)
    assert x.shape == (2000, 2, 3, 4)
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.mean, images.std))
    pixels = x * std + mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(pixels.std()) == pytest.approx(12**-0.5, abs=0.01)
    assert torch.equal(x, random_inputs(images, 2000, torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="n is 0"):
        random_inputs(images, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_are_drawn_on_the_cpu_whatever_the_default_device():
    images = image_set()
    with torch.device("cuda"):
        drawn = held_out(images, 10)[0], random_inputs(images, 10)
    expected = held_out(images, 10)[0], random_inputs(images, 10)
    assert all(map(torch.equal, drawn, expected))


def test_canvases_lie_in_their_plane():
    x0, x1, x2 = normal(3, 2, 3, 4)
    cone = canvas(x0, x1, side=5)
    assert cone.shape == (25, 2, 3, 4)
    assert torch.equal(cone[0], torch.zeros_like(x0))
    assert torch.equal(cone[4], x1)
    assert torch.equal(cone[20], x0)
    assert torch.allclose(cone[24], x0 + x1)
    assert torch.allclose(cone[5 * 3 + 1], 0.75 * x0 + 0.25 * x1)
    plane = canvas(x0, x1, side=5, kind="plane", x2=x2)
    for place, corner in ((0, x0), (4, x2), (20, x1), (24, x1 + x2 - x0)):
        assert torch.allclose(plane[place], corner)
    assert torch.linalg.matrix_rank((plane - x0).flatten(1), tol=1e-9) == 2
    assert canvas(x0.float(), x1.float()).shape == (10_000, 2, 3, 4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "disc"}, "kind='disc'"),
        ({"side": 1}, "side=1"),
        ({"kind": "plane"}, "x0, x1 and x2"),
        ({"x2": torch.zeros(3)}, "3 inputs"),
        ({"x0": torch.zeros(3).long(), "x1": torch.ones(3).long()}, "floating-point numbers"),
        ({"x1": torch.zeros(4)}, r"shapes \[\(3,\), \(4,\)\]"),
    ],
)
def test_bad_canvases_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        canvas(**{"x0": torch.zeros(3), "x1": torch.ones(3), **arguments})


def test_the_public_code_watches_a_canvas():
    states = steps(6)
    x = canvas(PROBE[0], PROBE[1], side=8)
    bird = EarlyBird(partial(codes, x=x, at="batchnorm"), PUBLIC_CODE)
    for net in states:
        bird.update(net)
    net, before = states[6].eval(), states[5].eval()
    maps = [
        [n[1](n[0](x)), n[5](n[4](n[:4](x)))] for n in (before, net)
    ]  # BatchNorm outputs, by hand
    by_layer = [float(((a > 0) != (b > 0)).double().mean()) for a, b in zip(*maps, strict=True)]
    assert bird.distances[-1].tolist() == pytest.approx(by_layer)
    assert bird.means[-1] == pytest.approx(sum(by_layer) / 2)
    assert bird.means[-1] == distance(*bird.history[-2:])


# checkpoints of another probe, several processes, odd input


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        (partial(codes, x=torch.ones(4, 2)), partial(codes, x=-torch.ones(4, 2))),
        (partial(mask_codes, fraction=0.3), partial(mask_codes, fraction=0.7)),
        (torch.zeros(4, 6), torch.zeros(2, 12)),
    ],
)
def test_the_state_of_another_probe_is_refused(mine, others):
    EarlyBird(mine).load_state_dict(EarlyBird(mine).state_dict())
    with pytest.raises(ValueError, match="the state is of a detector with probe"):
        EarlyBird(mine).load_state_dict(EarlyBird(others).state_dict())


def test_a_truncated_state_changes_nothing():
    bird = EarlyBird(torch.ones(4, 2))
    bird.update(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    state = {name: value for name, value in bird.state_dict().items() if name != "means"}
    with pytest.raises(ValueError, match="lacks 'means'"):
        bird.load_state_dict(state | {"recent": []})
    assert len(bird.history) == 1


def test_processes_that_share_a_network_decide_alike(tmp_path):
    torch.multiprocessing.spawn(birds.watch, args=(tmp_path,), nprocs=2)
    means = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert means[0] == means[1]
    assert min(means[0]) > 0


@pytest.mark.parametrize(
    "probe", [torch.ones(3), torch.ones(0, 2), torch.ones(3, 2).to(torch.uint8), nn.Linear(2, 1)]
)
def test_what_is_no_probe_is_refused_at_once(probe):
    with pytest.raises(ValueError, match="give a"):
        EarlyBird(probe)


def test_a_diverged_distance_never_fires():
    rule = Rule("consecutive", 2, 0.1)
    assert not any(rule.fires(v) for v in ([0.0, float("nan")], [float("nan"), 0.0]))
    with pytest.raises(ValueError, match="whole length"):
        Rule("consecutive", 2.0, 0.1)


def test_the_count_of_the_two_lines_is_that_of_epochs():
    net, bird = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), EarlyBird(torch.ones(4, 2))
    bird.update(net)
    done = next(epoch for epoch in range(1, 9) if bird.update(net))
    assert bird.fired == done == 2
