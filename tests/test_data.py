"""splinelib.data: sets by formula against scikit-learn, digits and MNIST against their files."""

import gzip
import hashlib
import importlib
import math
import struct

import numpy as np
import pytest
import torch
from sklearn import datasets
from torchvision.datasets import MNIST

from splinelib import data

mnist_files = importlib.import_module("splinelib.data.mnist")  # the module, not its function

CENTERS = torch.tensor([[0.0, 0.0, 1.0], [3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
RANDOM = {
    "moons": lambda **kw: data.moons(60, **kw),
    "circles": lambda **kw: data.circles(60, **kw),
    "cross": lambda **kw: data.cross(60, **kw),
    "mixture": lambda **kw: data.mixture(60, CENTERS, **kw),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", RANDOM)
def test_random_sets_are_a_function_of_the_generator_alone(name):
    draw = RANDOM[name]
    rng = torch.random.get_rng_state()
    x, y = draw(generator=seeded(5))
    again, other, default = draw(generator=seeded(5)), draw(generator=seeded(6)), draw()
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert not torch.equal(x, other[0])
    assert torch.equal(default[0], draw(generator=seeded(0))[0])


@pytest.mark.parametrize("name", RANDOM)
def test_types_and_shapes(name):
    x, y = RANDOM[name]()
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
    assert x.shape == (60, 3 if name == "mixture" else 2)
    assert y.shape == (60,)


@pytest.mark.parametrize("n", [2, 7, 100])
def test_moons_without_noise_are_those_of_scikit_learn(n):
    x, y = data.moons(n, noise=0)
    expected_x, expected_y = datasets.make_moons(n, shuffle=False)
    assert np.allclose(x, expected_x, atol=1e-14)
    assert np.array_equal(y, expected_y)


@pytest.mark.parametrize("n", [2, 7, 100])
def test_circles_without_noise_are_those_of_scikit_learn(n):
    x, y = data.circles(n, noise=0, inner=0.3)
    expected_x, expected_y = datasets.make_circles(n, shuffle=False, factor=0.3)
    assert np.allclose(x, expected_x, atol=1e-14)
    assert np.array_equal(y, expected_y)


@pytest.mark.parametrize("draw", [data.moons, data.circles])
def test_noise_is_gaussian_with_the_given_deviation(draw):
    n = 20_000
    residual = (draw(n, noise=0.2)[0] - draw(n, noise=0)[0]) / 0.2
    assert residual.mean().abs() < 5 / math.sqrt(2 * n)
    assert abs(residual.var().item() - 1) < 5 * math.sqrt(2 / (2 * n))
    assert (residual.abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=0.012)


def test_cross_fills_its_square_and_swaps_classes_with_the_axes():
    x, y = data.cross(20_000, half_width=2.0)
    assert x.abs().max() <= 2
    assert x.min() < -1.99
    assert x.max() > 1.99
    # A quarter of the square on each side of the diagonals, by the angle of the point.
    quarter = torch.floor((torch.atan2(x[:, 1], x[:, 0]) / (math.pi / 4) + 1) / 2) % 4
    assert torch.equal(y, (quarter % 2).long())
    share = torch.bincount(quarter.long(), minlength=4) / len(y)
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / len(y))


def test_cross_has_the_size_of_the_paper_by_default():
    x, _ = data.cross()
    assert x.shape == (2000, 2)
    assert 4.9 < x.abs().max() <= 5


def test_mixture_draws_each_component_alike_around_its_center():
    n = 30_000
    x, y = data.mixture(n, CENTERS, sd=0.5)
    for k, center in enumerate(CENTERS):
        part = x[y == k]
        assert abs(len(part) / n - 1 / 3) < 5 * math.sqrt(2 / 9 / n)
        assert (part.mean(0) - center).abs().max() < 5 * 0.5 / math.sqrt(len(part))
        assert np.allclose(np.cov(part.T), 0.25 * np.eye(3), atol=0.02)


@pytest.mark.parametrize("peaks", [1, 2, 5])
def test_sawtooth_is_the_interpolation_of_its_corners(peaks):
    x, y = data.sawtooth(997, peaks)
    corners = np.arange(1, 2 * peaks + 2)
    assert x.shape == (997, 1)
    assert (x[0].item(), x[-1].item()) == (1, 2 * peaks + 1)
    assert y.dtype == torch.float64
    assert np.allclose(y, np.interp(x[:, 0], corners, (corners - 1) % 2), atol=1e-14)


BAD = {
    "moons n": (lambda: data.moons(1), "n is 1"),
    "moons noise": (lambda: data.moons(9, noise=-0.1), "noise -0.1"),
    "moons nan": (lambda: data.moons(9, noise=math.nan), "noise nan"),
    "circles inner": (lambda: data.circles(9, inner=1.0), "inner is 1.0"),
    "cross n": (lambda: data.cross(0), "n is 0"),
    "cross float n": (lambda: data.cross(2.5), "n is 2.5"),
    "cross width": (lambda: data.cross(9, half_width=-5), "half_width is -5"),
    "mixture centers": (lambda: data.mixture(9, CENTERS[0]), r"shape \(3,\).*\(k, D\)"),
    "mixture sd": (lambda: data.mixture(9, CENTERS, sd=-1), "sd is -1"),
    "sawtooth peaks": (lambda: data.sawtooth(9, peaks=0), "peaks is 0"),
    "digits": (lambda: data.digits("val"), "split is 'val'.*'train', 'test' or 'all'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_digits_are_those_of_scikit_learn():
    x, y = data.digits("all")
    raw = datasets.load_digits()
    assert np.array_equal(x * 16, raw.data)
    assert np.array_equal(y, raw.target)
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
    assert (x.min(), x.max()) == (0, 1)


def test_digits_split_into_every_fifth_image_of_each_class():
    x, y = data.digits("all")
    train_x, train_y = data.digits("train")
    test_x, test_y = data.digits("test")
    assert (len(train_y), len(test_y)) == (1442, 355)
    assert len({tuple(row) for row in x.tolist()}) == len(x)  # rows are their own names
    rows = [{tuple(row) for row in part.tolist()} for part in (train_x, test_x)]
    assert rows[0].isdisjoint(rows[1])
    for digit in range(10):
        of_class = x[y == digit]
        assert torch.equal(test_x[test_y == digit], of_class[4::5])
        assert (train_y == digit).sum() == len(of_class) - len(of_class[4::5])


def test_digit_images_are_the_same_pixels_in_rows():
    x, y = data.digits("test")
    images, labels = data.digits_images("test")
    assert torch.equal(labels, y)
    assert images.shape == (355, 1, 8, 8)
    assert torch.equal(images[7, 0, 2], x[7, 16:24])


# MNIST: small files of our own stand in for the official ones, except in the last test.


def write_part(folder, part, n, monkeypatch):
    """Write n images whose first pixel counts them, labels 0, 1, ..., and register their sums."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((n, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(n)
    images[:, 27, 27] = 255
    contents = (
        struct.pack(">IIII", 0x0803, n, 28, 28) + images.tobytes(),
        struct.pack(">II", 0x0801, n) + bytes(range(n)),
    )
    sums = {}
    for name, raw in zip(mnist_files._MNIST[part], contents, strict=True):
        packed = gzip.compress(raw)
        (folder / name).write_bytes(packed)
        sums[name] = hashlib.md5(packed).hexdigest()
    monkeypatch.setitem(mnist_files._MNIST, part, sums)


def test_official_checksums_are_those_of_torchvision():
    ours = {name: md5 for part in mnist_files._MNIST.values() for name, md5 in part.items()}
    assert ours == dict(MNIST.resources)


@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_mnist_from_the_test_set_alone_keeps_every_fifth_for_testing(tmp_path, monkeypatch, below):
    write_part(tmp_path / below, "test", 23, monkeypatch)
    x, y = data.mnist("test", tmp_path)
    assert y.tolist() == [4, 9, 14, 19]
    assert torch.equal(x[:, 0, 0, 0] * 255, y.double())
    assert (x[:, 0, 27, 27] == 1).all()
    assert x.shape == (4, 1, 28, 28)
    assert x.dtype == torch.float64
    assert data.mnist("train", tmp_path)[1].tolist() == [k for k in range(23) if k % 5 != 4]
    assert data.mnist("all", str(tmp_path))[1].tolist() == list(range(23))


def test_mnist_with_both_parts_keeps_the_official_split(tmp_path, monkeypatch):
    write_part(tmp_path, "train", 12, monkeypatch)
    write_part(tmp_path, "test", 7, monkeypatch)
    assert data.mnist("train", tmp_path)[1].tolist() == list(range(12))
    assert data.mnist("test", tmp_path)[1].tolist() == list(range(7))
    assert len(data.mnist("all", tmp_path)[1]) == 19


def test_mnist_reads_the_folder_of_the_environment(tmp_path, monkeypatch):
    write_part(tmp_path, "test", 10, monkeypatch)
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path))
    assert len(data.mnist("all")[1]) == 10


def test_mnist_finds_shared_data_above_the_package(tmp_path, monkeypatch):
    write_part(tmp_path / "shared/data/mnist", "test", 10, monkeypatch)
    monkeypatch.delenv("SPLINELIB_DATA", raising=False)
    monkeypatch.setattr(
        mnist_files, "__file__", str(tmp_path / "repo" / "splinelib" / "data" / "mnist.py")
    )
    assert len(data.mnist("all")[1]) == 10


def test_mnist_refuses_a_changed_file(tmp_path, monkeypatch):
    write_part(tmp_path, "test", 10, monkeypatch)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz has MD5 .* official"):
        data.mnist("train", tmp_path)


def test_mnist_says_what_to_do_where_files_are_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"no MNIST files in {tmp_path}: call mnist"):
        data.mnist(root=tmp_path)
    write_part(tmp_path, "test", 10, monkeypatch)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="download=True"):
        data.mnist(root=tmp_path)
    monkeypatch.delenv("SPLINELIB_DATA", raising=False)
    monkeypatch.setattr(mnist_files, "__file__", str(tmp_path / "data.py"))
    with pytest.raises(ValueError, match="no MNIST files in any folder .none was named: pass root"):
        data.mnist()
    with pytest.raises(ValueError, match="download=True needs a folder"):
        data.mnist(download=True)


def test_mnist_download_goes_through_torchvision_into_root(tmp_path, monkeypatch):
    def fake(root, download):
        assert download
        write_part(root / "MNIST" / "raw", "train", 6, monkeypatch)
        write_part(root / "MNIST" / "raw", "test", 5, monkeypatch)

    monkeypatch.setattr("torchvision.datasets.MNIST", fake)
    assert len(data.mnist("train", tmp_path, download=True)[1]) == 6


def test_mnist_refuses_an_unknown_split_before_it_reads(tmp_path):
    with pytest.raises(ValueError, match="split is 'val'"):
        data.mnist("val", tmp_path)


def test_real_mnist_where_it_is_at_hand():
    try:
        train_x, train_y = data.mnist("train")
    except ValueError as missing:
        pytest.skip(f"real MNIST is not on this machine: {missing}")
    test_x, test_y = data.mnist("test")
    sizes = {(8_000, 2_000), (60_000, 10_000)}
    assert (len(train_y), len(test_y)) in sizes
    assert train_x.shape[1:] == test_x.shape[1:] == (1, 28, 28)
    assert torch.bincount(torch.cat([train_y, test_y]), minlength=10).min() > 800
    assert (train_x.min(), train_x.max()) == (0, 1)
    assert 0.12 < test_x.mean() < 0.15  # 0.1307 is the mean grey of the official training set
