"""splinelib.surgery: plans as text, pruned networks in files, and in ONNX."""

import copy
import io
import json
import warnings
import zipfile

import pytest
import torch
from networks import normal, shaken
from test_surgery import agree, leaky, masked_by
from torch import nn

from splinelib import nets, surgery
from splinelib.masks import Mask
from splinelib.surgery import Plan

NETWORK = {"name": "preresnet20", "classes": 4, "width": 0.25}


@pytest.fixture(scope="module")
def cut():
    net = shaken(nets.build(**NETWORK))
    return surgery.cut(net, masked_by(net, "select", 0.5))


def test_a_plan_is_a_value(cut):
    plan = cut.plan
    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["kept"]["stem"] == plan.kept["stem"].tolist()
    plan.kept["stem"].zero_()
    assert len(plan.kept["stem"].unique()) == len(plan.kept["stem"])
    with pytest.raises(TypeError):
        plan.kept["stem"] = torch.tensor([0])
    with pytest.raises(TypeError, match="unhashable"):
        hash(plan)
    assert plan != surgery.plan(nets.build(**NETWORK), Mask({}))
    assert plan != 3
    assert copy.deepcopy(plan) == plan
    assert repr(plan).endswith("channels kept)")


BAD_PLANS = {
    "empty": {"kept": {"0": []}, "read": {"0": [0]}, "sizes": {"0": (2, 1)}},
    "too large": {"kept": {"0": [2]}, "read": {"0": [0]}, "sizes": {"0": (2, 1)}},
    "out of order": {"kept": {"0": [1, 0]}, "read": {"0": [0]}, "sizes": {"0": (2, 1)}},
    "halves": {"kept": {"0": [0.5]}, "read": {"0": [0]}, "sizes": {"0": (2, 1)}},
    "other layers": {"kept": {"0": [0]}, "read": {"1": [0]}, "sizes": {"0": (2, 1)}},
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_bad_plans_are_refused(case):
    with pytest.raises(ValueError, match="plan"):
        Plan(**BAD_PLANS[case])
    for text in ("", "[]", "{}", '{"format": "splinelib plan 1"}', '{"format": "other"}'):
        with pytest.raises(ValueError, match="the text is no plan"):
            Plan.from_json(text)


@pytest.mark.parametrize("training", [True, False])
def test_a_pruned_network_is_saved_and_loaded(cut, tmp_path, training):
    small = copy.deepcopy(cut.net).train(training)
    small.classifier.weight.requires_grad_(False)
    path = tmp_path / "folder" / "small.pt"
    surgery.save(path, small, cut.plan, NETWORK)
    again, plan = surgery.load(path)
    assert plan == cut.plan
    assert str(again) == str(small)
    assert again.state_dict().keys() == small.state_dict().keys()
    for name, value in again.state_dict().items():
        assert torch.equal(value, small.state_dict()[name])
        assert value.dtype == small.state_dict()[name].dtype
    assert again.training == training
    assert [p.requires_grad for p in again.parameters()] == [
        p.requires_grad for p in small.parameters()
    ]
    assert agree(again, cut.net, (3, 16, 16), 0)
    assert [f.name for f in path.parent.iterdir()] == ["small.pt"]
    assert torch.load(path, weights_only=True)["network"] == NETWORK


def test_a_network_of_ones_own_needs_its_builder(tmp_path):
    net = shaken(leaky())
    small, plan = surgery.cut(net, masked_by(net, "inner", 0.5))
    path = tmp_path / "small.pt"
    surgery.save(path, small, plan)
    with pytest.raises(ValueError, match="load.path, build=lambda: MyNet"):
        surgery.load(path)
    assert agree(surgery.load(path, build=leaky).net, small, (3, 20, 20), 0)
    with pytest.raises(ValueError, match="not of this network"):
        surgery.load(path, build=lambda: nets.mlp([2, 3]))


def test_two_cuts_are_saved_as_one(tmp_path):
    net, path = shaken(leaky()), tmp_path / "small.pt"
    once, plan = surgery.cut(net, masked_by(net, "inner", 0.5))
    twice, second = surgery.cut(once, masked_by(once, "inner", 0.5))
    surgery.save(path, twice, second)
    with pytest.raises(ValueError, match=r"not of this network.*save\(.*, plan\.then\(plan2\)\)"):
        surgery.load(path, build=leaky)
    surgery.save(path, twice, plan.then(second))
    assert agree(surgery.load(path, build=leaky).net, twice, (3, 20, 20), 0)


def test_only_what_the_plan_leaves_is_saved(cut, tmp_path):
    path = tmp_path / "small.pt"
    with pytest.raises(ValueError, match="not of this network"):
        surgery.save(path, nets.build(**NETWORK), cut.plan)
    for value in (torch.Generator(), torch.float64, [object()]):
        with pytest.raises(ValueError, match="a config is made of numbers, texts"):
            surgery.save(path, cut.net, cut.plan, NETWORK | {"alpha": value})
    with pytest.raises(ValueError, match="'name' and 'classes'"):
        surgery.save(path, cut.net, cut.plan, {"name": "preresnet20"})
    with pytest.raises(ValueError, match="net is Plan.*must be a network"):
        surgery.save(path, cut.plan, cut.net)
    with pytest.raises(ValueError, match="plan is a dict, but must be the plan"):
        surgery.save(path, cut.net, {})
    for other in ({"width": 0.5}, {"classes": 5}, {"name": "vgg16"}):
        with pytest.raises(ValueError, match="the plan is not of this network"):
            surgery.save(path, cut.net, cut.plan, NETWORK | other)
    assert not path.exists()


def test_a_config_that_builds_another_function_is_not_saved(tmp_path):
    network = {"name": "mlp", "classes": 3, "in_shape": [4], "hidden": [8]}
    net = nets.build(**network, alpha=0.1)
    small, plan = surgery.cut(net, masked_by(net, "inner", 0.5))
    with pytest.raises(ValueError, match=r"'\(2\): ReLU.*in place of '\(2\): LeakyReLU"):
        surgery.save(tmp_path / "small.pt", small, plan, network)
    before = torch.get_rng_state()
    surgery.save(tmp_path / "small.pt", small, plan, network | {"alpha": 0.1})
    assert torch.equal(torch.get_rng_state(), before)


def test_files_that_are_not_whole_are_told(cut, tmp_path):
    path = tmp_path / "small.pt"
    surgery.save(path, cut.net, cut.plan, NETWORK)
    content = path.read_bytes()
    at = content.index(cut.net.state_dict()["stem.weight"].numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ValueError, match="damaged: the checksum of its part"):
        surgery.load(path)
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="is damaged, or no file that torch.save wrote"):
        surgery.load(path)
    torch.save(cut.net.state_dict(), path)
    with pytest.raises(ValueError, match="no pruned network of this version"):
        surgery.load(path)
    torch.save(cut.net, path)
    with pytest.raises(ValueError, match="holds code"):
        surgery.load(path)
    found = torch.load(io.BytesIO(content), weights_only=True)
    found["state"]["stem.weight"] = torch.zeros(1)
    torch.save(found, path)
    with pytest.raises(ValueError, match="weights of another network"):
        surgery.load(path)
    assert zipfile.is_zipfile(io.BytesIO(content))


def test_a_pruned_network_goes_to_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    blocks = [nets.Bottleneck(8, 4, 8, 1, 0.1), nets.Bottleneck(8, 4, 12, 2, 0.0)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.BatchNorm2d(12), nn.ReLU())
    net.extend([nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(12 * 16, 4)])
    net = shaken(net).float()
    small, _ = surgery.cut(net, masked_by(net, "select", 0.5))
    x, path = normal(2, 3, 16, 16).float(), str(tmp_path / "small.onnx")
    with warnings.catch_warnings():  # of the exporter's own making
        warnings.simplefilter("ignore")
        torch.onnx.export(small, (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = small(x).detach()
    error = (torch.from_numpy(found) - expected).abs().max()
    assert error <= 1e-5 * expected.abs().max()


def test_a_pruned_network_is_copied_and_scripted(cut):
    assert agree(copy.deepcopy(cut.net), cut.net, (3, 16, 16), 0)
    traced = torch.export.export(cut.net, (normal(2, 3, 16, 16),)).module()
    assert torch.equal(traced(normal(2, 3, 16, 16)), cut.net(normal(2, 3, 16, 16)))
    assert isinstance(cut.net.stage1[0].bn1, nn.Sequential)
