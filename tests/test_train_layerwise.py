"""splinelib.train.layerwise: each layer learns to classify before the next one."""

import pytest
import torch
import training
from learning import seeded
from torch import nn

from splinelib import nets
from splinelib.chain import chain
from splinelib.data import Batches, ImageSet
from splinelib.train import Recipe, Run, train
from splinelib.train.layerwise import Stage, layerwise


def dots(n=400, size=14):
    """Images of two bright pixels in a row; the class is their distance: 2, 4, 6 or 8."""
    labels, pixels = torch.arange(n) % 4, torch.zeros(n, 1, 5, size, dtype=torch.uint8)
    row, place = torch.randint(1, 4, (n,), generator=seeded()), torch.rand(n, generator=seeded(1))
    left = 1 + (place * (size - 4 - 2 * labels)).long()
    for shift in (0, 2 * labels + 2):
        pixels[range(n), 0, row, left + shift] = 255
    return ImageSet("dots", pixels, labels, ("2", "4", "6", "8"), (0.0,), (1.0,))


class TestLayerwise:
    def test_classifiers_get_better_with_depth(self):
        """Layer l sees 2 l + 1 pixels at once, so it can tell l distances from all others."""
        net = nets.convnet((1, 5, 14), (8, 8, 8), (3, 3, 3), 4, pool=None, batch_norm=True)
        _, runs = layerwise(net.float(), Batches(dots(), 50), epochs=36, every=15, side=1)
        reached = [run.log[-1]["accuracy"] for run in runs]
        assert reached[0] < 0.55
        assert reached[0] + 0.05 < reached[1] < 0.8
        assert reached[1] + 0.05 < reached[2]

    def test_trains_one_layer_at_a_time(self):
        net, source = planted_chain(), training.source()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        stages = []

        def fit(stage, label, **settings):
            earlier = [value.clone() for value in stage.before.state_dict().values()]
            part = [value.clone() for value in stage.part.parameters()]
            run = train(stage, **settings)
            after = run.net.before.state_dict().values()
            assert all(torch.equal(a, b) for a, b in zip(earlier, after, strict=True))
            parts = zip(part, run.net.part.parameters(), strict=True)
            assert all(not torch.equal(a, b) for a, b in parts)
            stages.append((label, len(earlier), settings["recipe"]))
            return run

        trained, runs = layerwise(net, source, epochs=2, every=1, fit=fit)
        assert [(label, count) for label, count, _ in stages] == [
            ("layer 0", 0), ("layer 4", 7), ("layer 9", 14)
        ]  # fmt: skip
        recipe = stages[0][2]
        assert (recipe.drops, recipe.factor, recipe.weight_decay) == ((1,), 0.2, 5e-4)
        assert isinstance(runs[0].net, Stage)
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
            assert not torch.equal(value, trained.state_dict()[name])
        x = next(source.epoch(0))[0]
        assert torch.equal(trained(x), runs[-1].net(x))  # the last layer is its own classifier

    def test_defaults_are_the_sources(self):
        recipes = []

        def fit(stage, label, recipe, source):
            recipes.append(recipe)
            return Run(stage.eval(), [], 0, False, 0.0)

        layerwise(planted_chain(), training.source(), fit=fit)
        assert recipes[0] == Recipe(
            epochs=50, batch=16, lr=0.1, drops=(15, 30, 45), factor=0.2, weight_decay=5e-4
        )

    def test_classifiers_see_side_times_side_pixels(self):
        inputs = []

        def fit(stage, label, recipe, source):
            inputs.append([m.in_features for m in stage.head.modules() if isinstance(m, nn.Linear)])
            return Run(stage.eval(), [], 0, False, 0.0)

        net = nets.convnet((1, 6, 6), (3, 4), (3, 3), 3, pool=None)
        for side in ({}, {"side": 1}, {"side": 9}):
            layerwise(net, training.source(), fit=fit, **side)
        assert inputs == [
            [12],
            [16],
            [],
            [3],
            [4],
            [],
            [108],
            [144],
            [],
        ]  # no more than the 6 x 6 that there are

    def test_each_layer_has_a_checkpoint_of_its_own(self, tmp_path):
        net, path = planted_chain(), tmp_path / "run.pt"
        straight = layerwise(net, training.source(), epochs=2)
        first = layerwise(net, training.source(), epochs=2, checkpoint=path)
        names = ["run-0.pt", "run-4.pt", "run-9.pt"]
        assert sorted(p.name for p in tmp_path.glob("*.pt")) == names
        (tmp_path / "run-9.pt").unlink()  # as if the last layer had not been reached
        written = {name: (tmp_path / name).read_bytes() for name in names[:2]}
        again = layerwise(net, training.source(), epochs=2, checkpoint=path)
        assert training.gap(straight.net, first.net) == training.gap(straight.net, again.net) == 0
        assert all((tmp_path / name).read_bytes() == old for name, old in written.items())

    def test_settings_that_would_be_lost_are_refused(self):
        net, images = nets.build("mlp", 3, in_shape=(1, 6, 6), hidden=[4]), training.source()
        for wrong in ({"every": 0}, {"fit": print, "nonsense": 3}):
            with pytest.raises(ValueError, match="every 1 or more epochs"):
                layerwise(net, images, **wrong)

    def test_refuses_what_is_no_chain_of_layers(self):
        with pytest.raises(ValueError, match="is a Bottleneck"):
            layerwise(nets.build("preresnet20", 10), training.source())
        layer = nn.Linear(2, 2)
        with pytest.raises(ValueError, match="'1' is the same layer as '0'"):
            chain(nn.Sequential(layer, layer))
        with pytest.raises(ValueError, match="ends with ReLU"):
            layerwise(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()), training.source())


def planted_chain():
    return nets.convnet((1, 6, 6), (3, 4), (3, 3), 3, batch_norm=True)
