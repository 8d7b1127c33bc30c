"""splinelib.data.Stream: folders decoded by workers, the same batches however many there are."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_images import equal, stacked
from torchvision import transforms

from splinelib import data
from splinelib.data.steps import mixed_seed

SIZE = 12
# Python 3.12 and newer warn of every fork of a process with threads, hence of torch's own loader.
workers_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """ImageNet in small: 2 classes, images of different sizes; 11 train, 5 val."""
    root = tmp_path_factory.mktemp("nature")
    rng = np.random.default_rng(0)
    for split, count in (("train", 11), ("val", 5)):
        for k in range(count):
            folder = root / split / ("bird", "fish")[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (20 + k, 31 - k, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k:02}.JPEG")
    return root


def stream(root, split="train", **options):
    return data.Stream(root, split, **{"batch": 4, "size": SIZE, "workers": 0, **options})


@workers_fork
@pytest.mark.parametrize("augment", [True, False])
def test_batches_do_not_depend_on_the_number_of_workers(root, augment):
    rng = torch.random.get_rng_state()
    alone, helped = (stream(root, augment=augment, seed=3, workers=w) for w in (0, 2))
    for epoch in (1, 0):
        expected = stacked(alone.epoch(epoch))
        assert [len(y) for _, y in expected] == [4, 4, 3]
        assert equal(expected, helped.epoch(epoch))
        assert equal(expected[1:], helped.epoch(epoch, start=1))
    assert torch.equal(torch.random.get_rng_state(), rng)


@workers_fork
def test_an_epoch_may_be_left_and_another_begun(root):
    helped, alone = stream(root, batch=2, workers=2), stream(root, batch=2)
    left = helped.epoch(0)
    next(left)
    assert equal(stacked(alone.epoch(4)), helped.epoch(4))
    with pytest.raises(ValueError, match="another epoch of this stream has begun"):
        next(left)


def test_shares_and_starts(root):
    whole = stacked(stream(root).epoch(2))
    assert equal(whole[2:], stream(root).epoch(2, start=2))
    assert not list(stream(root).epoch(2, start=3))
    parts = [stacked(stream(root).epoch(2, rank=rank, world=4)) for rank in range(4)]
    joined = [tuple(map(torch.cat, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert equal(whole, joined)
    assert parts[3][2][0].shape == (0, 3, SIZE, SIZE)


def test_steps_before_the_start_are_not_decoded(root, monkeypatch):
    opened = []
    real = data.pictures.rgb
    monkeypatch.setattr(
        data.pictures, "rgb", lambda name, source: opened.append(name) or real(name, source)
    )
    next(stream(root).epoch(0, start=2))
    assert len(opened) == 3


def test_training_images_are_those_of_torchvisions_transforms(root):
    some = stream(root, seed=5, shuffle=False)
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    x, y = (torch.cat(parts) for parts in zip(*some.epoch(7), strict=True))
    paths = sorted((root / "train").rglob("*.JPEG"))
    for row, path in enumerate(paths):
        torch.manual_seed(mixed_seed(5, 7, row))
        assert torch.equal(x[row], steps(Image.open(path)))
        assert some.classes[y[row]] == path.parent.name
    other, _ = next(some.epoch(8))
    assert not torch.equal(other, x[:4])


def test_test_images_are_resized_and_cut_centrally(root):
    some = stream(root, "val", augment=False, shuffle=False)
    steps = transforms.Compose(
        [
            transforms.Resize(round(SIZE * 256 / 224)),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    x = torch.cat([x for x, _ in some.epoch(0)])
    paths = sorted((root / "val").rglob("*.JPEG"))
    assert torch.equal(x, torch.stack([steps(Image.open(path)) for path in paths]))


def test_every_image_comes_once_in_an_order_of_its_epoch(root):
    some = stream(root, batch=11, augment=False)
    batches = [next(some.epoch(epoch))[0] for epoch in range(2)]
    assert not torch.equal(*batches)
    sums = [x.sum((1, 2, 3)).sort().values for x in batches]
    assert torch.equal(*sums)


def test_a_stream_says_what_it_is_of(root, tmp_path):
    some = stream(root, dtype=torch.float64)
    assert (some.steps, some.images, some.batch) == (3, 11, 4)
    assert (some.shape, some.classes) == ((3, SIZE, SIZE), ("bird", "fish"))
    assert some.name == root.name
    assert stream(root, name="nature").name == "nature"
    x, _ = next(some.epoch(0))
    assert x.dtype == torch.float64
    assert x.is_contiguous(memory_format=torch.channels_last)
    x, _ = next(stream(root, channels_last=False).epoch(0))
    assert x.is_contiguous()


def test_the_fingerprint_is_of_names_and_sizes(root, tmp_path):
    def copy(name, change=b"", rename=None):
        for path in (root / "train").rglob("*.JPEG"):
            place = tmp_path / name / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes() + (change if path.name == "03.JPEG" else b""))
        if rename:
            os.rename(tmp_path / name / "train/fish/03.JPEG", tmp_path / name / rename)
        return stream(tmp_path / name).fingerprint

    plain = stream(root).fingerprint
    assert plain.startswith("names+sizes:")
    assert copy("same") == plain
    assert len({plain, copy("longer", b"x"), copy("renamed", rename="train/fish/x.JPEG")}) == 3


@workers_fork
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(root, tmp_path, workers):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"train/[ab]/0.jpg is no readable image"):
        next(stream(tmp_path, workers=workers).epoch(0))


def test_faulty_trees_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train is no folder"):
        stream(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="train holds no class; need .* for each class"):
        stream(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(ValueError, match="cat.*each class needs a folder with images"):
        stream(tmp_path)
    for place in ("train/cat", "val/dog"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 5)).save(tmp_path / place / "0.png")
    with pytest.raises(ValueError, match="different classes, for instance 'cat'"):
        stream(tmp_path, "val")


BAD = {
    "batch": ({"batch": 0}, "batch is 0"),
    "size": ({"size": 0}, "size is 0"),
    "part of a pixel": ({"size": 4.0}, "size is 4.0.*whole"),
    "workers": ({"workers": -1}, "workers is -1"),
    "part of a worker": ({"workers": 1.5}, "workers is 1.5.*whole"),
    "seed": ({"seed": 0.5}, "seed is 0.5.*whole"),
    "dtype": ({"dtype": torch.int8}, "dtype is torch.int8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_named(root, name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        stream(root, **options)


def test_hidden_entries_are_passed_over(root, tmp_path):
    for path in root.rglob("*.JPEG"):
        place = tmp_path / ".cache" / path.relative_to(root)  # hidden above the root does not count
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    top, expected = tmp_path / ".cache", stream(root).fingerprint
    assert stream(top).fingerprint == expected
    for name in ("train/bird/._0.JPEG", "train/fish/.old/1.JPEG", "train/bird/notes.txt"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(b"no image")
    (top / "train" / ".ipynb_checkpoints").mkdir()
    assert stream(top).fingerprint == expected
    assert stream(top, "val").classes == data.folder(top, size=4)[0].classes == ("bird", "fish")


def test_a_linked_root_keeps_its_own_name(root, tmp_path):
    (tmp_path / "nature").symlink_to(root)
    assert stream(tmp_path / "nature").name == "nature"


def test_bad_places_are_named_at_once(root):
    with pytest.raises(ValueError, match="start 9: need .* from 0 to 3"):
        stream(root).epoch(0, start=9)
    with pytest.raises(ValueError, match="rank is 1 of world 1"):
        stream(root).epoch(0, rank=1)


@workers_fork
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_batches_of_a_cpu(root):
    on_cpu, on_gpu = stream(root), stream(root, device="cuda", workers=2)
    for (x, y), (a, b) in zip(on_cpu.epoch(1), on_gpu.epoch(1), strict=True):
        assert a.device.type == b.device.type == "cuda"
        assert torch.allclose(x, a.cpu(), atol=1e-6)
        assert torch.equal(y, b.cpu())
