"""splinelib.train: two processes against one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from together import CALLS, HOOKS, filled
from training import PLAIN, SHORT, convnet, gap, source

from splinelib.train import Speed, own_device, train
from splinelib.train.distributed import Team, join
from splinelib.train.session import Session


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Results of process 0 and 1 of one launch."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("together.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = {"capture_output": True, "text": True, "timeout": 240, "check": False}
    done = subprocess.run([*launch, script, folder], env=PLAIN, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def state_gap(a, b):
    assert a.keys() == b.keys()
    pairs = [(a[name].double(), b[name].double()) for name in a]
    return max((x - y).abs().max().item() for x, y in pairs)


def same_log(a, b):
    for one, two in zip(a, b, strict=True):
        for name in one.keys() - {"seconds", "watch_seconds"}:
            assert one[name] == pytest.approx(two[name], abs=1e-10), name


@pytest.mark.parametrize("name", [*CALLS, "straight", "resumed"])
def test_all_processes_have_the_same_result(both, name):
    one, two = (result["runs"][name] for result in both)
    assert state_gap(one["net"], two["net"]) == 0
    same_log(one["log"], two["log"])
    assert one["stopped"] == two["stopped"]


@pytest.mark.parametrize("name", ["plain", "adam", "parts", "tested", *HOOKS])
def test_two_processes_do_what_one_does(both, name):
    run = train(**filled({**CALLS[name], "until": None}))
    found = both[0]["runs"][name]
    if name == "tested":
        assert found["stopped"]
        assert len(found["log"]) == 2
        run = train(**filled({**CALLS[name], "until": None, "recipe": replace(SHORT, epochs=2)}))
        found["log"] = [{**row} for row in found["log"]]
        for row in found["log"]:
            row.pop("looks")
    assert state_gap(found["net"], run.net.state_dict()) < 1e-10
    same_log(run.log, found["log"])
    if name in HOOKS:  # and it did something
        assert state_gap(found["net"], both[0]["runs"]["without"]["net"]) > 1e-3


@pytest.mark.parametrize(("name", "strength"), [("norm", 0.0), ("slim", 0.01)])
def test_batchnorm_of_two_processes_is_that_of_two_micro_batches(both, name, strength):
    """Weights and scales; the running statistics are those of the first half alone."""
    run = train(**filled(CALLS[name]), micro_batch=8)
    found, expected = both[0]["runs"][name]["net"], run.net.state_dict()
    for key in expected:
        if "running" not in key and "tracked" not in key:
            assert torch.allclose(found[key], expected[key], rtol=0, atol=1e-10), key
    net = convnet()
    optimizer = torch.optim.SGD(net.parameters(), SHORT.lr, momentum=0.9, weight_decay=1e-4)
    if name == "norm":
        mean = torch.zeros(4, dtype=torch.float64)
        for epoch in range(3):
            for group in optimizer.param_groups:
                group["lr"] = SHORT.lr * SHORT.factor**epoch
            for x, y in source(n=32).epoch(epoch):
                for part in (0, 1):
                    (F.cross_entropy(net(x.chunk(2)[part]), y.chunk(2)[part]) / 2).backward()
                    if part == 0:
                        mean = 0.9 * mean + 0.1 * net[0](x.chunk(2)[0]).mean((0, 2, 3)).detach()
                optimizer.step()
                optimizer.zero_grad()
        assert torch.allclose(found["1.running_mean"], mean, rtol=0, atol=1e-10)


def test_an_interrupted_run_of_two_goes_on(both):
    straight, resumed = (both[0]["runs"][name] for name in ("straight", "resumed"))
    assert state_gap(straight["net"], resumed["net"]) < 1e-12
    same_log(straight["log"], resumed["log"])


def test_a_last_batch_smaller_than_the_team_is_refused(both):
    for result in both:
        assert "1 image" in result["facts"]["refused"]


def test_what_process_0_refuses_all_refuse(both):
    assert ["images.seed" in result["facts"]["other"] for result in both] == [True, True]


def test_several_processes_take_no_cuda_graphs(both):
    assert [result["facts"]["graphs"] for result in both] == [False, False]


def test_each_process_has_its_own_gpu_or_the_cpu(both, monkeypatch):
    assert [result["facts"]["device"] for result in both] == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cuda", 1)


def test_two_processes_on_one_gpu_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "1" if "RANK" in name else "2")
    with pytest.raises(ValueError, match="should use cuda:1"), join(torch.device("cuda", 0)):
        pass


def test_each_process_draws_numbers_of_its_own():
    drawn = []
    for rank in (0, 1, 0):
        place = {"source": source(), "epoch": 2, "step": 1, "team": Team(rank, 2)}
        with torch.random.fork_rng([]):
            Session._reseed(SimpleNamespace(**place, plan=Speed().resolve(convnet())))
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[2] != drawn[1]


def test_shares_are_those_of_tensor_split():
    for world in (1, 2, 3, 7):
        parts = torch.arange(16).tensor_split(world)
        assert [Team(rank, world).share(16) for rank in range(world)] == [len(p) for p in parts]


def test_one_process_is_a_team():
    net = convnet()
    assert Team().wrap(net) is net
    assert Team().from_lead("x") == "x"
    assert gap(net, convnet()) == 0
