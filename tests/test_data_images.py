"""splinelib.data: image sets, their batches, the colour set and `load`."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from torch import nn
from torchvision import datasets as official
from torchvision import transforms

import splinelib
from splinelib import data
from splinelib.data.batches import cropped
from splinelib.data.images import statistics

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=20, channels=3, side=8, classes=5, seed=0):
    """A random set; label k % classes."""
    x = torch.randint(256, (n, channels, side, side), generator=seeded(seed), dtype=torch.uint8)
    y = torch.arange(n) % classes
    names = tuple(f"class {k}" for k in range(classes))
    return data.ImageSet("random", x, y, names, MEAN[:channels], STD[:channels])


def one_by_one(some, rows, moves, pad):
    """Torchvision's way: each image padded, cropped, flipped, normalised by itself."""
    out = []
    for row, (top, left, flip) in zip(rows.tolist(), moves.T.tolist(), strict=True):
        image = TF.to_pil_image(some.images[row])
        image = TF.crop(TF.pad(image, [pad] * 4), top, left, *some.shape[1:])
        image = TF.hflip(image) if flip else image
        out.append(TF.normalize(TF.to_tensor(image), some.mean, some.std))
    return torch.stack(out)


# The set.


def test_inputs_are_bit_for_bit_those_of_torchvision():
    some = images(6)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    expected = torch.stack([steps(TF.to_pil_image(x)) for x in some.images])
    assert torch.equal(some.inputs(), expected)
    assert torch.equal(some.inputs(dtype=torch.bfloat16), expected.bfloat16())
    exact = (
        some.images.double() / 255 - torch.tensor(MEAN, dtype=torch.float64)[:, None, None]
    ) / (torch.tensor(STD, dtype=torch.float64)[:, None, None])
    assert (some.inputs(dtype=torch.float64) - exact).abs().max() < 1e-14


@pytest.mark.parametrize("rows", [slice(2, 9, 3), [2, 5, 8], torch.tensor([2, 5, 8]), "mask", []])
def test_rows_may_be_slices_numbers_or_masks(rows):
    some = images(9)
    keep = [] if isinstance(rows, list) and not rows else [2, 5, 8]
    if isinstance(rows, str):
        rows = torch.arange(9) % 3 == 2
    part = some.subset(rows)
    assert torch.equal(part.images, some.images[keep])
    assert torch.equal(part.labels, some.labels[keep])
    assert torch.equal(part.inputs(), some.inputs(rows))
    assert part.name == f"random-{len(keep)}of9"
    assert some.subset(rows, name="mine").name == "mine"


def test_fingerprint_is_of_content_and_order_alone():
    some = images(5000, side=2)  # more than one part of the hash
    same = data.ImageSet(
        "other", some.images.clone(), some.labels, some.classes, (0,) * 3, (1,) * 3
    )
    assert same.fingerprint == some.fingerprint
    assert replace(some, classes=list(some.classes)).fingerprint == some.fingerprint
    assert len(some.fingerprint) == 64
    strided = some.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert replace(some, images=strided).fingerprint == some.fingerprint
    pixels, labels = some.images.clone(), some.labels.clone()
    pixels[4999, 2, 1, 1] ^= 1
    labels[0] = 1
    others = [
        replace(some, images=pixels),
        replace(some, labels=labels),
        replace(some, classes=("a", *some.classes[1:])),
        replace(some, images=some.images.reshape(5000, 3, 4, 1)),
        some.subset(slice(4999)),
    ]
    prints = {some.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 6


def test_a_set_on_its_device_stays_itself():
    some = images()
    assert some.to("cpu") is some
    assert "20 of 3x8x8, 5 classes" in repr(some)


def test_statistics_are_those_of_all_pixels():
    some = images(50)
    values = some.images.double() / 255
    mean, std = statistics(some.images)
    assert np.allclose(mean, values.mean((0, 2, 3)), atol=5.1e-5)
    assert np.allclose(std, values.std((0, 2, 3), correction=0), atol=5.1e-5)
    black = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert statistics(black) == ((0.0,), (1.0,))


BAD_SETS = {
    "floats": ({"images": torch.zeros(20, 3, 8, 8)}, "images are torch.float32.*uint8"),
    "no channels": ({"images": torch.zeros(20, 8, 8, dtype=torch.uint8)}, r"shape \(20, 8, 8\)"),
    "labels": ({"labels": torch.arange(19)}, r"labels are torch.int64 of shape \(19,\)"),
    "types": ({"labels": torch.zeros(20)}, "labels are torch.float32"),
    "no class": ({"labels": torch.full((20,), 5)}, "from 5 to 5, but there are 5 classes"),
    "negative": ({"labels": torch.full((20,), -1)}, "from -1 to -1"),
    "mean": ({"mean": (0.5,)}, r"mean is \(0.5,\).*give 3 numbers"),
    "std": ({"std": (0.1, 0.0, 0.1)}, "std above 0"),
    "nan": ({"mean": (0.5, float("nan"), 0.5)}, "mean is .*nan.*finite"),
    "one name twice": ({"classes": ("a", "b", "c", "d", "a")}, "two of one name"),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_a_set_that_does_not_fit_is_refused(name):
    changes, message = BAD_SETS[name]
    with pytest.raises(ValueError, match=message):
        replace(images(), **changes)


def test_bad_rows_and_types_are_named():
    with pytest.raises(ValueError, match=r"rows has shape \(\)"):
        images().inputs(3)
    with pytest.raises(ValueError, match=r"type torch.float32.*row numbers"):
        images().subset(torch.tensor([0.5]))
    with pytest.raises(ValueError, match="dtype is torch.int64"):
        images().inputs(dtype=torch.int64)


# Crop and flip.


@pytest.mark.parametrize("channels", [1, 3])
def test_each_move_and_flip_is_torchvisions(channels):
    some, pad = images(1, channels), 2
    moves = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(2)).T
    rows = torch.zeros(moves.shape[1], dtype=torch.long)
    ours = some.subset(rows)
    batch = replace(ours, images=cropped(ours.images, pad, *moves)).inputs()
    assert torch.equal(batch, one_by_one(some, rows, moves, pad))


def test_a_batch_is_made_of_its_draws_as_torchvision_would():
    some = images(30)
    batches = data.Batches(some, batch=7, augment="crop-flip", pad=4, seed=3)
    rows, *moves = batches._draws(2)
    expected = one_by_one(some, rows, torch.stack(moves), 4)
    x, y = (torch.cat(parts) for parts in zip(*batches.epoch(2), strict=True))
    assert torch.equal(x, expected)
    assert torch.equal(y, some.labels[rows])
    black = TF.normalize(torch.zeros(3, 8, 8), MEAN, STD)
    assert torch.isclose(x, black).all(1).float().mean() > 0.2  # padded before it is normalised


def test_moves_and_flips_are_uniform_and_independent():
    n, pad = 40_500, 4
    big = images(n, channels=1, side=1)
    rows, top, left, flip = data.Batches(big, augment="crop-flip", pad=pad, seed=1)._draws(0)
    assert sorted(rows.tolist()) == list(range(n))
    cells = ((top * 9 + left) * 2 + flip).bincount(minlength=162).double()
    expected = n / 162
    chi2 = ((cells - expected) ** 2 / expected).sum()
    assert abs(chi2 - 161) < 5 * (2 * 161) ** 0.5
    assert (top.min(), top.max(), left.min(), left.max()) == (0, 8, 0, 8)
    only_crop = data.Batches(big, augment="crop", pad=pad, seed=1)._draws(0)
    assert torch.equal(only_crop[:3], torch.stack([rows, top, left]))
    assert not only_crop[3].any()


def test_without_augmentation_an_epoch_is_the_set_itself():
    some = images(23)
    plain = data.Batches(some, batch=10, shuffle=False)
    x, y = (torch.cat(parts) for parts in zip(*plain.epoch(5), strict=True))
    assert torch.equal(x, some.inputs())
    assert torch.equal(y, some.labels)
    shuffled = torch.cat([y for _, y in data.Batches(some, batch=10).epoch(5)])
    assert not torch.equal(shuffled, some.labels)
    assert torch.equal(shuffled.sort().values, some.labels.sort().values)


# Batches as a function of (seed, epoch, step).


@pytest.fixture(params=[1, 2**25], ids=["one step a block", "many"])
def block(request, monkeypatch):
    monkeypatch.setattr("splinelib.data.batches.BLOCK", request.param)


def stacked(epoch):
    return [(x.clone(), y.clone()) for x, y in epoch]


def equal(some, others):
    pairs = zip(some, others, strict=True)
    return all(torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in pairs)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("augment", [None, "crop", "crop-flip"])
def test_an_epoch_can_be_entered_at_any_step(augment):
    batches = data.Batches(images(23), batch=5, augment=augment, seed=4)
    rng = torch.random.get_rng_state()
    whole = stacked(batches.epoch(1))
    assert [len(y) for _, y in whole] == [5, 5, 5, 5, 3]
    assert batches.steps == 5
    for start in range(6):
        assert equal(whole[start:], batches.epoch(1, start=start))
    assert equal(whole, data.Batches(images(23), 5, augment=augment, seed=4).epoch(1))
    assert torch.equal(torch.random.get_rng_state(), rng)


@pytest.mark.parametrize("change", ["epoch", "seed"])
def test_epochs_and_seeds_differ(change):
    first = data.Batches(images(23), batch=23, augment="crop", seed=0)
    other = data.Batches(images(23), batch=23, augment="crop", seed=int(change == "seed"))
    (x, _), (z, _) = next(first.epoch(0)), next(other.epoch(int(change == "epoch")))
    assert not torch.equal(x, z)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("world", [2, 3, 4])
def test_shares_of_all_processes_are_the_batch_of_one(world):
    batches = data.Batches(images(21), batch=6, augment="crop-flip", channels_last=True)
    whole = stacked(batches.epoch(3, start=1))
    shares = [stacked(batches.epoch(3, start=1, rank=rank, world=world)) for rank in range(world)]
    for step, (x, y) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)
        sizes = [len(part[1]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert shares[-1][-1][0].shape[1:] == (3, 8, 8)  # an empty share keeps its shape


@pytest.mark.parametrize("augment", [None, "crop-flip"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_type_and_memory_format_are_as_asked(augment, dtype):
    options = {"batch": 8, "augment": augment, "dtype": dtype}
    plain, _ = next(data.Batches(images(), **options).epoch(0))
    last, _ = next(data.Batches(images(), channels_last=True, **options).epoch(0))
    assert plain.dtype == last.dtype == dtype
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_batches_say_what_they_are_of():
    some = images()
    batches = data.Batches(some, batch=64)
    assert (batches.steps, batches.images, batches.batch) == (1, 20, 64)
    assert (batches.name, batches.shape, batches.classes) == ("random", (3, 8, 8), some.classes)
    assert batches.fingerprint == some.fingerprint


BAD_BATCHES = {
    "batch": (lambda: data.Batches(images(), batch=0), "batch is 0"),
    "pad": (lambda: data.Batches(images(), augment="crop", pad=-1), "pad -1"),
    "augment": (lambda: data.Batches(images(), augment="flip"), "augment is 'flip'.*'crop-flip'"),
    "dtype": (lambda: data.Batches(images(), dtype=torch.uint8), "dtype is torch.uint8"),
    "dtype's name": (lambda: data.Batches(images(), dtype="float32"), "dtype is 'float32'"),
    "part of an image": (lambda: data.Batches(images(), batch=2.5), "batch is 2.5.*whole"),
    "no number": (lambda: data.Batches(images(), batch=True), "batch is True.*whole"),
    "part of a pixel": (lambda: data.Batches(images(), augment="crop", pad=1.5), "pad 1.5"),
    "seed": (lambda: data.Batches(images(), seed=0.5), "seed is 0.5.*whole"),
    "part of an epoch": (lambda: data.Batches(images()).epoch(1.5), "epoch is 1.5.*whole"),
    "empty": (lambda: data.Batches(images().subset([])), "holds no image"),
    "epoch": (lambda: data.Batches(images()).epoch(-1), "epoch is -1"),
    "start": (lambda: data.Batches(images(), batch=5).epoch(0, start=5), "start 5.*0 to 4"),
    "rank": (lambda: data.Batches(images()).epoch(0, rank=2, world=2), "rank is 2 of world 2"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_settings_of_batches_are_named_at_once(name):
    call, message = BAD_BATCHES[name]
    with pytest.raises(ValueError, match=message):
        call()


@needs_gpu
def test_a_gpu_makes_the_batches_of_a_cpu():
    some = images(50)
    moved = some.to("cuda")
    assert moved.fingerprint == some.fingerprint
    options = {"batch": 16, "augment": "crop-flip", "channels_last": True}
    on_cpu, on_gpu = (data.Batches(s, **options).epoch(1, start=1) for s in (some, moved))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (x, y), (a, b) in zip(on_cpu, batches, strict=True):
        assert a.device.type == b.device.type == "cuda"
        assert torch.allclose(x, a.cpu(), atol=1e-6)
        assert torch.equal(y, b.cpu())


# The colour set.


def test_colour_is_a_function_of_its_arguments():
    rng = torch.random.get_rng_state()
    train, test = data.colour(200, size=16)
    assert torch.equal(torch.random.get_rng_state(), rng)
    again, other = data.colour(200, size=16)[0], data.colour(200, size=16, seed=1)[0]
    assert train.fingerprint == again.fingerprint != other.fingerprint
    assert train.shape == test.shape == (3, 16, 16)
    assert train.labels.bincount().tolist() == [20] * 10
    assert test.labels.bincount().tolist() == [5] * 10
    rows = {bytes(image.flatten().tolist()) for image in train.images}
    assert rows.isdisjoint(bytes(image.flatten().tolist()) for image in test.images)
    assert (train.mean, train.std) == (test.mean, test.std) == statistics(train.images)


def test_colour_makes_the_same_bytes_everywhere():
    # Whole numbers only: this fingerprint holds on every machine.
    assert data.colour(40, size=8)[0].fingerprint.startswith("27b9c640b9f2")


def accuracy_after(net, train, test, epochs, lr):
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    batches = data.Batches(train, batch=64, augment="crop-flip", pad=2)
    for epoch in range(epochs):
        for x, y in batches.epoch(epoch):
            adam.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            adam.step()
    with torch.no_grad():
        return (net.eval()(test.inputs()).argmax(1) == test.labels).double().mean().item()


def test_colour_is_learnt_by_a_small_convnet_and_not_by_a_linear_one():
    train, test = data.colour(1600, size=16)
    layers = []
    for inputs, outputs in ((3, 12), (12, 24)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    conv = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 16, 10))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 10))
    assert accuracy_after(conv, train, test, 8, 4e-3) > 0.35
    assert 0.1 < accuracy_after(linear, train, test, 3, 1e-3) < 0.32


@pytest.mark.parametrize("arguments", [(9,), (100, 7), (100.0,), (100, 16, 0.5)])
def test_colour_refuses_what_it_cannot_make(arguments):
    with pytest.raises(ValueError, match="need whole numbers, n >= 10 and size >= 8|seed is 0.5"):
        data.colour(*arguments)


# By name.


def test_digits_as_images_are_the_digits():
    train, test = data.load("digits")
    for part, split in ((train, "train"), (test, "test")):
        x, y = data.digits_images(split)
        assert (part.images.double() / 255 - x).abs().max() <= 0.5 / 255 + 1e-12
        assert torch.equal(part.labels, y)
    assert len(train.images.unique()) == 17
    assert train.name == test.name == "digits"
    assert (train.inputs().mean().abs(), abs(train.inputs().std() - 1)) < (1e-3, 1e-3)


def write_cifar(root, kind, monkeypatch):
    """Write a small set in CIFAR's format, whose sums torchvision then takes for official."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    label = "labels" if kind is official.CIFAR10 else "fine_labels"
    rng, sums = np.random.default_rng(0), {}

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = official.utils.calculate_md5(folder / name)

    names = [f"class {k}" for k in range(10)]
    for name, _ in kind.train_list + kind.test_list:
        pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        write(name, {"data": pixels, label: [3, 1, 4, 1]})
    write(kind.meta["filename"], {kind.meta["key"]: names})
    for part in ("train_list", "test_list"):
        changed = [[name, sums[name]] for name, _ in getattr(kind, part)]
        monkeypatch.setattr(kind, part, changed)
    meta = kind.meta | {"md5": sums[kind.meta["filename"]]}
    monkeypatch.setattr(kind, "meta", meta)
    return folder


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_by_torchvision(tmp_path, monkeypatch, name):
    kind = {"cifar10": official.CIFAR10, "cifar100": official.CIFAR100}[name]
    folder = write_cifar(tmp_path, kind, monkeypatch)
    train, test = data.load(name, tmp_path)
    assert len(train) == 4 * len(kind.train_list)
    assert len(test) == 4
    expected = TF.to_tensor(kind(tmp_path, train=False)[2][0])
    assert torch.equal(test.images[2], (255 * expected).round().to(torch.uint8))
    assert test.labels.tolist() == [3, 1, 4, 1]
    assert train.classes == tuple(f"class {k}" for k in range(10))
    assert (train.name, train.mean, train.std) == (
        name, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    )  # fmt: skip
    file = folder / kind.test_list[0][0]
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ValueError, match=f"no official {name} files in .*differ.*download=True"):
        data.load(name, tmp_path)


def test_a_box_without_any_data_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("SPLINELIB_DATA", raising=False)
    monkeypatch.setattr(splinelib.data.official, "__file__", str(tmp_path / "official.py"))
    none = "in any folder .none was named: pass root, or set SPLINELIB_DATA."
    with pytest.raises(
        ValueError, match=rf"^no official cifar10 files {none}: call load\("
    ) as caught:
        data.load("cifar10")
    assert "None" not in str(caught.value)
    with pytest.raises(ValueError, match=f"0 folders or archives {none} are so called. Known"):
        data.load("cats")


@pytest.mark.parametrize("kind", [RuntimeError, OSError])
def test_cifar_is_downloaded_into_root_only(tmp_path, monkeypatch, kind):
    asked = []

    def fake(root, train, download):
        asked.append((root, train, download))
        raise kind("no network in a test")

    monkeypatch.setattr(official, "CIFAR10", fake)
    monkeypatch.delenv("SPLINELIB_DATA", raising=False)
    with pytest.raises(ValueError, match="download=True needs a folder"):
        data.load("cifar10", download=True)
    with pytest.raises(ValueError, match="no official cifar10.*no network in a test") as caught:
        data.load("cifar10", tmp_path, download=True)
    assert isinstance(caught.value.__cause__, kind)
    assert asked == [(tmp_path, True, True)]


@pytest.mark.parametrize("both", [True, False])
def test_mnist_as_images_is_mnist(tmp_path, monkeypatch, both):
    from test_data import write_part

    write_part(tmp_path, "test", 10, monkeypatch)
    if both:
        write_part(tmp_path, "train", 9, monkeypatch)
    train, test = data.load("mnist", tmp_path)
    assert (len(train), len(test)) == ((9, 10) if both else (8, 2))
    assert train.name == "mnist-t10k"  # only 60,000 training images are MNIST
    assert (train.mean, train.std) == ((0.1307,), (0.3081,))
    x, y = data.mnist("test", tmp_path)
    assert torch.equal(test.images.double() / 255, x)
    assert torch.equal(test.labels, y)


def test_mnist_lies_in_the_folder_of_all_sets(tmp_path, monkeypatch):
    from test_data import write_part

    (tmp_path / "mnist").mkdir()
    write_part(tmp_path / "mnist", "test", 10, monkeypatch)
    assert len(data.load("mnist", tmp_path)[1]) == 2
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path))
    assert len(data.load("mnist")[0]) == 8


def test_a_failed_download_of_mnist_is_explained(tmp_path, monkeypatch):
    def fake(root, download):
        raise OSError("no network in a test")

    monkeypatch.setattr(official, "MNIST", fake)
    with pytest.raises(ValueError, match="could not be downloaded .*no network in a test") as error:
        data.load("mnist", tmp_path, download=True)
    assert isinstance(error.value.__cause__, OSError)


def test_an_unknown_name_points_to_the_stream(tmp_path):
    with pytest.raises(ValueError, match=r"'imagenet' is no data set .*Stream\(root, 'train'\)"):
        data.load("imagenet", tmp_path)
