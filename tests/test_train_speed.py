"""splinelib.train: what is done for speed, and that it changes nothing else."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training import SHORT, Spy, convnet, gap, images, source

from splinelib import data
from splinelib.train import Speed, train
from splinelib.train.distributed import Team
from splinelib.train.recipe import make_optimizer, restore_optimizer
from splinelib.train.step import Measure, gradients, scales, update

# speed


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("speed", "device", "major", "dtype", "precision"),
    [
        (Speed(), GPU, 9, torch.float32, "bf16"),
        (Speed(), GPU, 8, torch.float32, "bf16"),
        (Speed(), GPU, 7, torch.float32, "fp16"),
        (Speed(), GPU, 9, torch.float64, "fp32"),
        (Speed(), torch.device("cpu"), 0, torch.float32, "fp32"),
        (Speed(precision="bf16"), torch.device("cpu"), 0, torch.float32, "bf16"),
        (Speed(precision="fp32"), GPU, 9, torch.float32, "fp32"),
    ],
)
def test_precision_follows_the_capability(speed, device, major, dtype, precision):
    plan = speed.decide(device, major, dtype)
    assert plan.precision == precision
    assert plan.channels_last == (device.type == "cuda")


@pytest.mark.parametrize(
    ("compile", "major", "graphs", "mode"),
    [
        ("auto", 9, True, "reduce-overhead"),
        ("auto", 9, False, "default"),
        ("auto", 6, True, None),
        (True, 9, True, "default"),
        (False, 9, True, None),
        ("max-autotune", 9, True, "max-autotune"),
        ("max-autotune", 9, False, "max-autotune-no-cudagraphs"),
    ],
)
def test_graphs_only_where_gradients_are_not_added_up(monkeypatch, compile, major, graphs, mode):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "triton")
    plan = Speed(compile=compile).decide(GPU, major, torch.float32, graphs=graphs)
    assert plan.mode == mode
    assert Speed(compile=compile).decide(torch.device("cpu"), 0, torch.float32).mode in (
        None,
        "default",
        "max-autotune-no-cudagraphs",
    )


@pytest.mark.parametrize(("micro_batch", "graphs"), [(None, True), (8, False)])
def test_no_graphs_where_gradients_are_added_up(micro_batch, graphs):
    """Graphs write a pass's gradients over those of the pass before, which autograd keeps."""
    spy = Spy()
    train(convnet(), source(), replace(SHORT, epochs=1), micro_batch=micro_batch, speed=spy)
    assert spy.graphs == graphs


@pytest.mark.parametrize("wrong", [{"precision": "fp8"}, {"compile": "fast"}])
def test_unknown_speed_is_refused(wrong):
    with pytest.raises(ValueError, match="there are"):
        Speed(**wrong)


def test_fp16_needs_a_gpu():
    with pytest.raises(ValueError, match="needs a GPU"):
        train(convnet(), source(), SHORT, speed=Speed(precision="fp16"))


def test_bf16_is_near_fp32():
    net, batches = convnet(dtype=torch.float32), source(dtype=torch.float32)
    run = train(net, batches, SHORT, speed=Speed(precision="bf16"))
    assert 0 < gap(run.net, train(net, batches, SHORT).net) < 0.05
    assert {value.dtype for value in run.net.parameters()} == {torch.float32}


def test_full_batches_are_compiled_and_no_others(monkeypatch):
    """Each run has a function of its own: torch compiles one function for 8 networks at most."""
    compiled, compile = [], torch.compile

    def backend(graph, inputs):
        compiled.append([value.shape[0] for value in inputs if value.ndim == 4][-1])
        return graph

    def eager(function, dynamic, mode):
        return compile(function, dynamic=dynamic, backend=backend)

    monkeypatch.setattr(torch, "compile", eager)
    recipe, speed = replace(SHORT, epochs=1, drops=()), Speed(compile=True)
    train(convnet(), source(), recipe, speed=speed)
    assert compiled == [16]
    fast = train(convnet(), source(), recipe, test=source(n=20), speed=speed)
    assert compiled == [16] * 3  # one for training, one for the test
    plain = train(convnet(), source(), recipe, test=source(n=20))
    assert gap(fast.net, plain.net) < 1e-12
    assert fast.log[0]["test_accuracy"] == plain.log[0]["test_accuracy"]


def test_switches_of_torch_stay():
    before = torch.backends.cudnn.benchmark
    with Speed().decide(GPU, 9, torch.float32).tuned():
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before


# a gradient scaler, which the CPU has too


def scaled_steps(net, scale, slimming=0.0, overflow=False, first=0):
    """Steps with a gradient scaler; with ``overflow`` the first one has infinite gradients."""
    optimizer = make_optimizer(SHORT, net, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    measure = Measure(Speed().resolve(net), 16)
    for x, y in source(n=64, dtype=torch.float32).epoch(0, start=first):
        options = {"team": Team(), "measure": measure, "micro_batch": None}
        gradients(net, x, y, images=16, scaler=scaler, **options)
        if overflow:
            net[-1].bias.grad.fill_(torch.inf)
        overflow = False
        update(optimizer, scaler, scales(net) if slimming else [], slimming)
    return net, scaler


def test_a_skipped_first_step_leaves_no_trace():
    net, scaler = scaled_steps(convnet(norm=False, dtype=torch.float32), 2.0**10, overflow=True)
    assert scaler.get_scale() == 2.0**9
    other, _ = scaled_steps(convnet(norm=False, dtype=torch.float32), 2.0**9, first=1)
    assert gap(net, other) == 0


@pytest.mark.parametrize("slimming", [0.0, 0.1])
def test_the_scale_cancels(slimming):
    net, _ = scaled_steps(convnet(dtype=torch.float32), 2.0**10, slimming)
    other, _ = scaled_steps(convnet(dtype=torch.float32), 1.0, slimming)
    assert gap(net, other) < 1e-6


class Waits(TorchDispatchMode):
    """Counts the operations for which the host would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_step_waits_for_a_result(optimizer, enabled):
    net = convnet(dtype=torch.float32)
    fast = make_optimizer(replace(SHORT, optimizer=optimizer), net, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    batches = list(source(dtype=torch.float32).epoch(0))
    with Waits() as waits:
        for x, y in batches:
            gradients(
                net,
                x,
                y,
                images=16,
                team=Team(),
                measure=Measure(Speed().resolve(net), 16),
                scaler=scaler,
                micro_batch=7,
            )
            update(fast, scaler, scales(net), 0.1)
        assert waits.found == []
        net[0].weight.sum().item()
    assert waits.found == ["aten::_local_scalar_dense"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_state_takes_the_layout_of_the_weights(optimizer):
    """Weights laid out for a GPU go on from a checkpoint that a CPU wrote, and the reverse."""
    recipe, nets = replace(SHORT, optimizer=optimizer), [convnet(), convnet()]
    nets[1].to(memory_format=torch.channels_last)
    with torch.no_grad():
        [net[0].weight.set_(net[0].weight.repeat(1, 3, 1, 1)) for net in nets]
    nets[1][0].weight.data = nets[1][0].weight.data.contiguous(memory_format=torch.channels_last)
    both = [make_optimizer(recipe, net, fused=True) for net in nets]
    for step in range(3):
        if step == 1:
            restore_optimizer(both[1], copy.deepcopy(both[0].state_dict()["state"]))
        for net, fast in zip(nets, both, strict=True):
            net(torch.ones(2, 3, 6, 6).double()).square().sum().backward()
            fast.step()
            fast.zero_grad()
    assert nets[0][0].weight.stride() != nets[1][0].weight.stride()
    assert gap(*nets) < 1e-8
    for weight, values in both[1].state.items():
        assert all(v.stride() == weight.stride() for v in values.values() if v.ndim == 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("compile", [False, "reduce-overhead"])
def test_on_a_gpu(precision, compile):
    on = data.Batches(images(n=120).to("cuda"), batch=16, augment="crop-flip")
    speed = Speed(precision=precision, compile=compile)
    recipe = replace(SHORT, epochs=6, drops=(), slimming=1e-4)
    run = train(convnet(dtype=torch.float32).cuda(), on, recipe, test=on, speed=speed)
    assert run.log[-1]["test_accuracy"] > 0.9
    assert run.net[0].weight.is_contiguous()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_no_step_waits_on_a_gpu(precision):
    net = convnet(dtype=torch.float32).cuda()
    on = data.Batches(images(n=120).to("cuda"), batch=16)
    plan = Speed(precision=precision, compile=False).resolve(net)
    optimizer, scaler, measure = (
        make_optimizer(SHORT, net, fused=True),
        plan.scaler(),
        Measure(plan, 16),
    )
    options = {"team": Team(), "measure": measure, "scaler": scaler, "micro_batch": None}
    try:
        for step, (x, y) in enumerate(on.epoch(0)):
            gradients(net, x, y, images=16, **options)
            update(optimizer, scaler, scales(net), 1e-4)
            if step == 1:
                torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert net[0].weight.isfinite().all()
