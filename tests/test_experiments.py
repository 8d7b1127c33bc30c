"""splinelib.experiments: configs, the paper's numbers, packed distances, what is shown."""

import csv
import dataclasses
import json
import re
from collections import Counter
from importlib.resources import files

import pytest
import torch

from splinelib import cost, data, experiments, nets
from splinelib.earlybird import EarlyBird, distances, first_fire, matrix
from splinelib.experiments import Experiment, Job, cell, get, paper_values, registry
from splinelib.experiments.images import Images, images
from splinelib.experiments.packing import pack, pack_pairs, unpack, unpack_pairs
from splinelib.experiments.queue import seconds
from splinelib.experiments.registry import matching
from splinelib.experiments.show import ours, show
from splinelib.experiments.sources import MissingDataError, load
from splinelib.experiments.watching import RULES, watchers
from splinelib.experiments.watching import distances as section
from splinelib.train import Recipe

VGG = get("vgg16/cifar10/dense")


# The paper's numbers


def test_every_table_has_as_many_numbers_as_the_paper_prints():
    # Counted in the paper: rows x columns of each table, ranges as two numbers.
    counts = {
        1: 2 + 2 + 2 * 3 * 4 + 2 * 4 * 4,
        2: 4 * 7 * 3 * 3,
        3: 2 * 4 + 15 * 6,
        4: 4 * (5 * 6 + 3 * 2 + 2),
        5: 4 * 2 * 3,
        6: 2 * 4 * 4,
        7: 2 * 2 * 4,
        8: 8 * 3,
        9: 4 * 6 + 4,
        10: 4 * (4 + 2),
        11: 2 * (3 * 6 + 3 + 2),
        12: 6 * 5,
    }
    found = {table: len(paper_values(table=table)) for table in counts}
    assert found == counts


@pytest.mark.parametrize(
    "wanted, value, sd",
    [
        ((1, "VGG-16", "CIFAR-100", "EB Spline", 0.5, "accuracy"), 69.96, 0.41),
        ((2, "PreResNet-101", "CIFAR-10", "Spline", 0.7, "flops_p"), 10.1, None),
        ((2, "VGG-16", "CIFAR-100", "NS", 0.1, "energy_kj"), 636.5, None),
        ((3, "ResNet-50", "ImageNet", "Meta Pruning", 0.5, "top5"), None, None),
        ((3, "ResNet-18", "ImageNet", "EB Spline", 0.3, "energy_mj"), 82.85, None),
        ((4, "PreResNet-101", "CIFAR-100", "GraSP", 0.7, "accuracy"), 69.60, 0.43),
        ((5, "VGG-16", "CIFAR-10", "Spline (FA)", 0.5, "accuracy"), 93.25, 0.12),
        ((6, "VGG-16", "CIFAR-10", "EB (RMSprop)", 0.0, "emerge_epoch"), 88, None),
        ((7, "PreResNet-101", "CIFAR-10", "EB (Adv. Init)", 0.5, "accuracy"), 93.36, 0.11),
        ((8, "VGG-16", "CIFAR-100", "Random Init.", 0.7, "accuracy"), 60.44, 4.98),
        ((9, "PreResNet-101", "CIFAR-10", "ThiNet", 0.7, "accuracy"), 90.25, 0.25),
        ((10, "VGG-16", "CIFAR-100", "NS", 0.9, "accuracy"), 1, None),
        ((11, "PreResNet-101", "CIFAR-100", "NS-IP", 0.5, "flops_p"), 21.3, None),
        ((12, "PreResNet-101", "CIFAR-100", "Late (32th)", 0.0, "distance_epoch_120"), 0.038, None),
    ],
)
def test_numbers_read_again_in_the_paper(wanted, value, sd):
    names = ("table", "network", "dataset", "method", "ratio", "quantity")
    (found,) = paper_values(**dict(zip(names, wanted, strict=True)))
    assert (found.value, found.sd) == (value, sd)


def test_rows_that_the_paper_prints_twice_agree():
    """Tables 4, 5, 6, 7 and 11 repeat rows of Table 2, and Table 6 the dense rows of Table 1."""
    for again in paper_values(quantity="accuracy"):
        first = {4: 2, 11: 2}.get(again.table)
        if first and again.method in ("Spline", "EB Spline"):
            (same,) = paper_values(cell=cell(2, *key(again)[1:]), quantity="accuracy")
            assert (again.value, again.sd) == (same.value, same.sd), again
        if again.table == 5 and again.method == "Spline (PCA)":
            where = cell(2, again.network, again.dataset, "Spline", again.ratio)
            assert paper_values(cell=where, quantity="accuracy")[0].value == again.value
        if again.table == 6 and again.method == "EB (SGD)":
            kind = ("Unpruned", 1) if again.ratio == 0 else ("EB Spline", 2)
            where = cell(kind[1], again.network, again.dataset, kind[0], again.ratio)
            assert paper_values(cell=where, quantity="accuracy")[0].value == again.value


def key(value):
    return value.table, value.network, value.dataset, value.method, value.ratio


def test_printed_gains_are_differences_up_to_what_is_noted():
    """Table 3 prints gains over the dense network, Table 1 over network slimming: recomputed."""
    for gain in paper_values(table=3, quantity="accuracy_gain"):
        (own,) = paper_values(cell=gain.cell, quantity="accuracy")
        (dense,) = paper_values(
            table=3, network=gain.network, method="Unpruned", quantity="accuracy"
        )
        assert own.value - dense.value == pytest.approx(gain.value, abs=0.006)
    for gain in paper_values(table=1, method="Improv."):
        rows = paper_values(
            table=1,
            network=gain.network,
            dataset=gain.dataset,
            ratio=gain.ratio,
            quantity="accuracy",
        )
        by = {row.method: row.value for row in rows}
        best = max(by["Spline"], by["EB Spline"]) - by["NS"]
        assert best == pytest.approx(gain.value, abs=0.006)


def test_csv_is_well_formed_and_unique():
    text = files("splinelib.experiments").joinpath("paper.csv").read_text()
    rows = list(csv.reader(text.splitlines()))
    assert {len(row) for row in rows} == {9}
    keys = [tuple(row[:6]) for row in rows[1:]]
    assert len(set(keys)) == len(keys)


def test_unknown_attribute_is_named():
    with pytest.raises(ValueError, match="tabel: the paper's numbers have"):
        paper_values(tabel=2)


# Configs and names


def test_every_cell_of_the_paper_has_a_config_and_every_config_a_real_cell():
    printed = {v.cell for v in paper_values() if "mprov." not in v.method}
    answered = [where for e in registry().values() for where in e.cells]
    assert printed - set(answered) == set()
    assert {where for where in answered if where.startswith("Table")} - printed == set()
    figures = {where.split(" |")[0] for where in answered if where.startswith("Fig.")}
    assert figures >= {f"Fig. {n}" for n in ("5a", "5b", "5c", "7", "9", "13", "15a", "15b")}


def test_names_are_unique_and_the_most_important_come_first():
    found = list(registry().values())
    assert [e.importance for e in found] == sorted((e.importance for e in found), reverse=True)
    keys = [e.key for e in found]
    assert len(set(keys)) == len(keys), "two names for one run"


ORDER = [  # what is run first, before breadth: patterns of names, and how many experiments they are
    ("vgg16/cifar10/dense", 1),
    ("vgg16/cifar10/(ns|spline|eb-spline)-[357]0", 9),
    ("preresnet101/cifar10/dense", 1),
    ("preresnet101/cifar10/(ns|spline|eb-spline)-[357]0", 9),
    ("(vgg16|preresnet101)/cifar10/(thinet|lt|snip)-[357]0", 18),
    ("(vgg16|preresnet101)/cifar10/eb-train-[357]0", 6),
    ("(vgg16|preresnet101)/cifar100/(spline|spline-rho[0-9.]+)-[1357]0", 30),
    ("(vgg16|preresnet101)/(cifar10|cifar100)/spline-fa-[1357]0", 12),
    ("(vgg16|preresnet101)/(cifar10|cifar100)/[a-z-]+-90", 16),
    ("preresnet101-leaky/(cifar10|cifar100)/[a-z-]+(-[357]0)?", 14),
    ("resnet18/tiny-imagenet/dense", 1),
    ("resnet18/tiny-imagenet/ns-[13]0", 2),
    ("resnet18/tiny-imagenet/eb-spline-[13]0", 2),
]


def test_the_comparisons_of_the_book_come_before_breadth():
    names = list(registry())
    for pattern, count in ORDER:
        group, names = names[:count], names[count:]
        assert all(re.fullmatch(pattern, name) for name in group), (pattern, group)
    assert names[0] == "vgg16/cifar100/dense"


def test_configs_survive_json_and_keys_depend_on_what_is_run_alone():
    for e in registry().values():
        again = Experiment.from_json(json.loads(json.dumps(e.to_json())))
        assert (again.to_json(), again.key) == (e.to_json(), e.key)
    other = dataclasses.replace(VGG, seeds=9, importance=1, cells=(), name="a/cifar10/b")
    assert other.key == VGG.key
    for change in ({"images": 100}, {"speed": {"precision": "fp32"}}, {"recipe": Recipe(epochs=1)}):
        assert dataclasses.replace(VGG, **change).key != VGG.key


def test_settings_that_an_old_config_does_not_mention_have_their_defaults():
    config = {k: v for k, v in VGG.to_json().items() if k not in ("start", "start_options", "pad")}
    assert Experiment.from_json(config).key == VGG.key
    with pytest.raises(ValueError, match=r"holds colour, which this version .* does not know"):
        Experiment.from_json({**config, "colour": 1})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "vgg16/dense"}, "is no name of an experiment on 'cifar10'"),
        ({"name": "vgg16/../cifar10/dense"}, "is no name"),
        ({"name": "VGG/cifar10/dense"}, "is no name"),
        ({"data": "mnist"}, "is no name of an experiment on 'mnist'"),
        ({"probes": ("train",)}, "probes .'train'. are unknown"),
        ({"images": 0}, "images is 0; give a whole number"),
        ({"augment": "flip"}, "augment 'flip'"),
    ],
)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VGG, **change)


def test_stand_ins_have_names_of_their_own():
    e = get("vgg16/cifar10-jpeg75/dense")
    assert (e.name, e.data, e.cells) == ("vgg16/cifar10-jpeg75/dense", "cifar10-jpeg75", VGG.cells)
    assert get("small/vgg16/cifar10-jpeg75/dense").images == 10_000
    (same,) = matching("vgg16/cifar10/dense", {"cifar10": "cifar10-jpeg75"})
    assert same == e
    with pytest.raises(ValueError, match="did you mean vgg16/cifar10/dense"):
        get("vgg16/cifar10/dens")
    with pytest.raises(ValueError, match="see `list`$"):
        get("?")
    with pytest.raises(ValueError, match="no experiment matches"):
        matching("nothing/*")


def test_all_runs_of_a_network_train_on_the_same_images():
    """Held-out images differ by their number alone: detectors, dense and pruned runs agree."""
    numbers: dict[tuple, set] = {}
    for e in registry().values():
        numbers.setdefault((e.network, e.data, e.images), set()).add(e.probe_images)
    assert {key: found for key, found in numbers.items() if len(found) > 1} == {}
    assert numbers["preresnet101", "cifar10", None] == {256}
    assert numbers["resnet50", "imagenet", None] == {10_000}  # ten of each class


FORMS = {(e.network, str(e.network_options)): e for e in registry().values()}


@pytest.mark.parametrize("e", FORMS.values(), ids=lambda e: e.name)
def test_networks_of_configs_can_be_built_for_their_images(e, tmp_path):
    shape = {"digits": (1, 8, 8), "imagenet": (3, 64, 64)}.get(e.data, (3, 32, 32))
    pixels = torch.zeros(2, *shape, dtype=torch.uint8)
    numbers = (0.5,) * shape[0], (0.5,) * shape[0]
    two = data.ImageSet(e.data, pixels, torch.zeros(2).long(), tuple("abcdefg"), *numbers)
    job = Job(e, 1, Images(two, two, {}, {}), torch.device("cpu"), tmp_path, cost.Ledger())
    net = job.network()
    assert net.eval()(two.inputs()).shape == (2, 7)
    if sum(p.numel() for p in net.parameters()) < 2e6:  # the others are drawn in the same way
        same, other = job.network(), dataclasses.replace(job, seed=2).network()
        first, *others = (next(n.parameters()) for n in (net, same, other))
        assert [torch.equal(first, weight) for weight in others] == [True, False]


# Distances as text


def test_packing_rounds_to_four_decimals_and_keeps_shapes():
    values = torch.rand(40, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    again = unpack(pack(values), (40, 13))
    assert torch.equal((again * 1e4).round(), (values * 1e4).round())
    assert unpack(pack(torch.tensor([0.0, 1.0])), (2,)).tolist() == [0, 1]
    symmetric = (values[:13] + values[:13].T) / 2
    symmetric.fill_diagonal_(0)
    assert torch.allclose(unpack_pairs(pack_pairs(symmetric), 13), symmetric, atol=5.1e-5)
    assert unpack_pairs(pack_pairs(torch.zeros(1, 1)), 1).tolist() == [[0]]


@pytest.mark.parametrize(
    "bad", [torch.tensor([1.1]), torch.tensor([-0.1]), torch.tensor([torch.nan])]
)
def test_only_distances_are_packed(bad):
    with pytest.raises(ValueError, match=r"NaN or numbers outside \[0, 1\]"):
        pack(bad)


@pytest.mark.parametrize("text", ["", "no base 64!", "AAAA", pack(torch.zeros(3))])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="are no"):
        unpack(text, (2,))


# What a dense run watches


def trained(epochs=6):
    """A small network that moves less and less, and its snapshots by our own hand."""
    net = nets.convnet((1, 8, 8), (4, 6), (3, 3), batch_norm=True, dtype=torch.float32).eval()
    probe = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    probes = {"held-out": probe, "test": probe[:9], "canvas": probe[:4]}
    watched = watchers(probes, ("held-out", "test", "canvas", "mask-50"), features=64)
    oracle = EarlyBird(probe, features=64, keep="all")
    for t in range(epochs):
        with torch.no_grad():
            net[0].weight += 0.4 * 0.5**t * torch.sin(torch.arange(36.0)).view(4, 1, 3, 3)
            net[1].weight += 0.1 * torch.cos(t + torch.arange(4.0))
        for one in (*watched.values(), oracle):
            one.update(net)
    return watched, oracle


def test_recorded_distances_are_those_of_the_detector():
    watched, oracle = trained()
    result = {"name": "a/b/c", "seed": 0, "distances": section(watched)}
    found = experiments.distance_matrix(result, "held-out")
    assert torch.allclose(found, matrix(oracle.history), atol=5.1e-5)
    assert list(watched) == ["detector", "held-out", "test", "canvas", "mask-50"]
    layers, moved = experiments.layer_distances(result)
    assert layers == watched["detector"].history[-1].layers
    assert torch.allclose(moved, torch.stack(watched["detector"].distances), atol=5.1e-5)
    history = oracle.history
    by_hand = [distances(a, b) for a, b in zip(history, history[1:], strict=False)]
    assert torch.allclose(found.diagonal(1), torch.stack(by_hand).mean(1), atol=5.1e-5)


def test_recorded_firing_epochs_are_those_of_the_matrices():
    watched, _ = trained()
    result = {"name": "a/b/c", "seed": 0, "distances": section(watched)}
    for probe, rules in (
        ("held-out", ("algorithm-1", "public-code")),
        ("mask-50", ("mask-distance",)),
    ):
        for rule in rules:
            weight = "element" if probe == "mask-50" else "layer"
            again = first_fire(experiments.distance_matrix(result, probe), RULES[rule])
            assert experiments.fired(result, probe, rule, weight) == again
    assert experiments.fired(result, "detector", "algorithm-1") == watched["detector"].fired
    with pytest.raises(ValueError, match=r"a/b/c, seed 0, does not say when .*'mask-distance'"):
        experiments.fired(result, "test", "mask-distance")
    with pytest.raises(ValueError, match="recorded no matrix of 'random'; there is held-out"):
        experiments.distance_matrix(result, "random")


def test_watchers_go_on_from_their_state():
    watched, _ = trained()
    fresh = watchers(
        {"held-out": torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))},
        ("held-out",),
        features=64,
    )
    assert list(fresh) == ["detector", "held-out"]
    for name, new in fresh.items():
        new.load_state_dict(watched[name].state_dict())
        assert new.latest == watched[name].latest
    assert watchers({}, (), 64) == {}
    assert section({}) is None


# Images


def test_images_are_split_into_train_held_out_and_test():
    e = get("small/mlp/digits/brief")
    found = images(e, seed=3)
    told = found.told
    assert told["train_images"] + told["held_out_images"] == told["loaded_images"] == 1442
    assert (len(found.train), len(found.test)) == (told["train_images"], told["test_images"])
    assert set(found.probes) == {"held-out", "test", "random"}
    assert {len(p) for p in found.probes.values()} == {128}
    inside = {row.numpy().tobytes() for row in found.train.inputs()}
    assert sum(row.numpy().tobytes() in inside for row in found.probes["held-out"]) < 3  # no image
    assert bag(found.train) + bag(found.held) == bag(data.load("digits")[0])
    assert torch.equal(found.held.inputs(), found.probes["held-out"])
    again, other = images(e, seed=3), images(e, seed=4)
    assert torch.equal(again.probes["random"], found.probes["random"])
    assert not torch.equal(other.probes["held-out"], found.probes["held-out"])
    assert other.told == found.told


def bag(images):
    """How often each image comes with its label, whatever the order."""
    pairs = zip(images.inputs(), images.labels.tolist(), strict=True)
    return Counter(x.numpy().tobytes() + bytes([y]) for x, y in pairs)


def test_a_part_of_the_images_is_the_same_for_all_seeds_and_says_so():
    e = dataclasses.replace(get("small/mlp/digits/brief"), images=300, probes=("canvas",))
    found = images(e, seed=0)
    assert found.told["name"] == "digits-300of1442"
    assert found.told["train_images"] == 172
    assert found.probes["canvas"].shape == (121, 1, 8, 8)  # 11 x 11 points, at most 128
    with pytest.raises(ValueError, match="wants 128 images, 128 of them held out"):
        images(dataclasses.replace(e, images=128), seed=0)


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(
        MissingDataError, match=r"--download once.*--as-data cifar10=cifar10-jpeg75"
    ):
        load("cifar10", tmp_path)
    with pytest.raises(MissingDataError, match="--data tiny-imagenet-100=PATH"):
        load("tiny-imagenet-100", tmp_path)
    with pytest.raises(MissingDataError, match="does not exist.*--data my-set="):
        load("my-set", places={"my-set": [tmp_path / "none"]})
    with pytest.raises(MissingDataError, match="with train and val in it: --data imagenet=FOLDER$"):
        images(get("resnet18/imagenet/dense"), 0, root=tmp_path)


def test_times_have_units():
    assert [seconds(text) for text in ("90s", "25m", "2h", "0.5m")] == [90, 1500, 7200, 30]
    for bad in ("25", "0s", "m", "-1m", "1d", ""):
        with pytest.raises(ValueError, match="give a number with its unit: 90s, 25m, 2h"):
            seconds(bad)


def test_show_says_what_was_not_run_and_never_a_number(tmp_path, monkeypatch):
    lines = show("vgg16/cifar10/dense", tmp_path)
    assert len(lines) == 6
    assert all(line.endswith("not run here") for line in lines[1:])
    assert show("vgg16/cifar10/ns-30", tmp_path)[0] == "vgg16/cifar10/ns-30"
    monkeypatch.delitem(experiments.METHODS, "ns")
    assert show("vgg16/cifar10/ns-30", tmp_path)[0].endswith("(method not in splinelib yet)")
    with pytest.raises(ValueError, match="no experiment matches"):
        show("nothing", tmp_path)


def test_ours_in_the_units_of_the_paper():
    result = {"accuracy": 0.5, "flops": {"total": 3 * 10**15}, "energy": "not measured"}
    values = {v.quantity: v for v in paper_values(table=2, method="NS", ratio=0.5)}
    assert ours(result, values["accuracy"]) == 50
    assert ours(result, values["flops_p"]) == pytest.approx(3)
    assert ours(result, values["energy_kj"]) is None
    assert ours({**result, "energy": 5e4}, values["energy_kj"]) == 50
    assert ours(result, paper_values(table=12)[0]) is None
