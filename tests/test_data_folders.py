"""splinelib.data: folders and archives of images, whole, in parts, damaged and hostile."""

import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from splinelib import data
from splinelib.data.archives import stem
from splinelib.data.decode import rgb

KINDS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")


def encoded(seed, sides=(6, 5), kind="png", mode="RGB"):
    """One random image's file."""
    shape = (*sides, 3) if mode == "RGB" else sides
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {"jpg": "JPEG"}.get(kind, kind))
    return file.getvalue()


def files(classes=("cat", "dog", "emu"), test="test", top=""):
    """A small set: three training images and two test images a class."""
    found = {}
    for row, name in enumerate(classes):
        for split, count in (("train", 3), (test, 2)):
            for k in range(count):
                seed = 1000 * row + 10 * k + len(split) + ord(name[0])
                kind = "jpg" if k else "png"
                found[f"{top}{split}/{name}/{k}.{kind}"] = encoded(seed, kind=kind)
    return found


def write_folder(root, content):
    for name, raw in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return root


def write_archive(path, content, folders=()):
    """Write an archive of the kind that its suffix says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in folders:
                archive.mkdir(name)
            for name, raw in content.items():
                archive.writestr(name, raw)
        return path
    mode = path.suffix.lstrip(".")
    with tarfile.open(path, "w:" if mode == "tar" else f"w:{mode}") as archive:
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for name, raw in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def same(some, others):
    return all(a.fingerprint == b.fingerprint for a, b in zip(some, others, strict=True))


# What is loaded.


def test_a_folder_is_what_torchvision_makes_of_it(tmp_path):
    train, test = data.folder(write_folder(tmp_path / "pets", files()))
    for part, split in ((train, "train"), (test, "test")):
        expected = ImageFolder(tmp_path / "pets" / split)
        assert torch.equal(part.images, torch.stack([pil_to_tensor(x) for x, _ in expected]))
        assert part.labels.tolist() == expected.targets
        assert list(part.classes) == expected.classes
    assert (train.name, train.shape, len(train), len(test)) == ("pets", (3, 6, 5), 9, 6)
    pixels = train.images.double() / 255
    assert np.allclose(train.mean, pixels.mean((0, 2, 3)), atol=1e-4)
    assert np.allclose(test.std, pixels.std((0, 2, 3), correction=0), atol=1e-4)


def test_threads_change_no_order(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "pets", files())
    expected = data.folder(path)
    monkeypatch.setattr(data.folders, "BLOCK", 2)
    assert same(data.folder(path), expected)
    for name in ("train/dog/2.jpg", "train/cat/1.jpg"):
        (path / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match="train/cat/1.jpg is no readable"):  # the first of them
        data.folder(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top", ["", "./", "pets-main/"])
def test_an_archive_is_the_folder_that_it_holds(tmp_path, kind, top):
    expected = data.folder(write_folder(tmp_path / "pets", files()))
    shuffled = dict(sorted(files(top=top).items(), key=lambda item: item[0][::-1]))
    extra = {f"{top}classes.txt": b"cat", f"{top}train/cat/notes.txt": b"no image"}
    shadows = {f"{top}train/cat/._0.png": b"a Mac's", "__MACOSX/train/cat/0.png": b"shadows"}
    archive = write_archive(tmp_path / f"pets{kind}", shuffled | extra | shadows)
    before = sorted(tmp_path.rglob("*"))
    loaded = data.folder(archive)
    assert same(loaded, expected)
    assert loaded[0].name == "pets"
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked


def test_val_serves_as_test_and_both_need_a_choice(tmp_path):
    expected = data.folder(write_folder(tmp_path / "a", files(test="test")))
    val = {name.replace("test/", "val/"): raw for name, raw in files(test="test").items()}
    assert same(data.folder(write_folder(tmp_path / "b", val)), expected)
    both = write_folder(tmp_path / "c", val | files(test="test"))
    with pytest.raises(ValueError, match="both val and test: say which"):
        data.folder(both)
    assert same(data.folder(both, test="val"), expected)
    unlabelled = write_folder(tmp_path / "d", val | {"test/images/0.png": encoded(3)})
    assert same(data.folder(unlabelled), expected)


def test_parts_join_into_one_set_in_any_order(tmp_path):
    expected = data.folder(write_folder(tmp_path / "whole", files()))
    parts = [{}, {}]
    for name, raw in files().items():
        parts["/cat/" in name][name] = raw
    paths = [
        write_archive(tmp_path / f"part.{k}.tar.xz", part | {"classes.txt": b"x"}, ["train"])
        for k, part in enumerate(parts)
    ]
    joined = data.folder(*paths)
    assert same(joined, expected)
    assert same(data.folder(*paths[::-1]), expected)
    assert joined[0].name == "part.0+part.1"
    assert data.folder(*paths, name="pets")[1].name == "pets"
    with pytest.raises(ValueError, match=r"part.0.tar.xz holds 'train/.*another part holds too"):
        data.folder(*paths, paths[0])


def test_parts_may_each_be_wrapped_in_a_folder(tmp_path):
    expected = data.folder(write_folder(tmp_path / "whole", files(("cat", "test"), "val")))
    parts = {"train": {}, "val": {}}
    for name, raw in files(("cat", "test"), "val").items():
        parts[name.split("/")[0]][f"pets-main/{name}"] = raw
    paths = [write_archive(tmp_path / f"{k}.zip", part) for k, part in parts.items()]
    assert same(data.folder(*paths), expected)
    bare = {name.removeprefix("pets-main/"): raw for name, raw in parts["val"].items()}
    assert same(data.folder(paths[0], write_archive(tmp_path / "b.zip", bare)), expected)


def test_links_are_followed_but_never_twice(tmp_path):
    expected = data.folder(write_folder(tmp_path / "pets", files()))
    linked = write_folder(tmp_path / "linked", without("train/dog"))
    (linked / "train/dog").symlink_to(tmp_path / "pets/train/dog")
    assert same(data.folder(linked), expected)
    (linked / "test/cat/all").symlink_to(linked)
    with pytest.raises(ValueError, match=r"test/cat/all leads to .*linked, which is read already"):
        data.folder(linked)


def test_suffixes_may_be_in_upper_case(tmp_path):
    expected = data.folder(write_folder(tmp_path / "lower", files()))
    upper = {name[:-3] + name[-3:].upper(): raw for name, raw in files().items()}
    assert same(data.folder(write_folder(tmp_path / "upper", upper)), expected)


def test_tiny_imagenets_own_layout(tmp_path):
    plain = data.folder(write_folder(tmp_path / "plain", files(test="val")))
    official, notes = {}, []
    for name, raw in files(test="val").items():
        split, label, file = name.split("/")
        if split == "train":
            official[f"tiny/train/{label}/images/{file}"] = raw
            official[f"tiny/train/{label}/{label}_boxes.txt"] = b"0 0 1 1"
        else:
            official[f"tiny/val/images/{label}-{file}"] = raw
            notes.append(f"{label}-{file}\t{label}\t0\t0\t5\t5")
    official["tiny/val/val_annotations.txt"] = "\n".join(notes).encode()
    official["tiny/test/images/test_0.png"] = encoded(5)
    official["tiny/wnids.txt"] = b"cat"
    archive = write_archive(tmp_path / "tiny.zip", official)
    assert same(data.folder(archive), plain)
    assert same(data.folder(write_folder(tmp_path, official) / "tiny"), plain)
    less = {k: v for k, v in official.items() if not k.endswith("cat-0.png")}
    with pytest.raises(ValueError, match="val holds no image of cat-0.png"):
        data.folder(write_archive(tmp_path / "less.zip", less))
    with pytest.raises(ValueError, match="val/images/new.png belongs to no class"):
        data.folder(
            write_archive(tmp_path / "more.zip", official | {"tiny/val/images/new.png": b"x"})
        )
    official["tiny/val/val_annotations.txt"] = b"cat-0.png"
    with pytest.raises(ValueError, match="lines of an image's name and its class"):
        data.folder(write_archive(tmp_path / "notes.zip", official))


@pytest.mark.parametrize("size", [4, (4, 4), (3, 8)])
def test_a_size_cuts_centrally_and_resizes(tmp_path, size):
    flat = np.zeros((12, 24, 3), np.uint8)
    flat[:, 4:20] = 200  # the central square and what the filter reaches beside it
    file = io.BytesIO()
    Image.fromarray(flat).save(file, "PNG")
    content = {f"{split}/a/0.png": file.getvalue() for split in ("train", "test")}
    content["train/a/1.png"] = encoded(1, (30, 20))
    train, test = data.folder(write_folder(tmp_path, content), size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert train.shape == test.shape == (3, height, width)
    if height == width:
        assert (test.images == 200).all()
        assert (train.images[0] == 200).all()
    image = Image.open(io.BytesIO(content["train/a/1.png"]))  # 30 high, 20 wide
    rows = 20 * height / width  # of the largest central part; all columns are kept
    box = (0, (30 - rows) / 2, 20, (30 + rows) / 2)
    expected = pil_to_tensor(image.resize((width, height), Image.Resampling.BILINEAR, box))
    assert torch.equal(train.images[1], expected)


def test_grey_images_become_rgb(tmp_path):
    content = {f"{split}/a/0.png": encoded(1, mode="L") for split in ("train", "test")}
    train, _ = data.folder(write_folder(tmp_path, content))
    assert train.shape == (3, 6, 5)
    assert torch.equal(train.images[:, 0], train.images[:, 2])


def test_load_finds_folders_and_archives_by_name(tmp_path, monkeypatch):
    write_archive(tmp_path / "pets.tar.xz", files())
    write_archive(tmp_path / "cifar10-mine.zip", files())
    (tmp_path / "pets.txt").write_text("no archive")
    pets, mine = data.load("pets", tmp_path)[0], data.load("cifar10-mine", tmp_path)[0]
    assert pets.fingerprint == mine.fingerprint
    assert (pets.name, mine.name) == ("pets", "cifar10-mine")
    assert mine.std == (0.2023, 0.1994, 0.2010) != pets.std
    write_archive(tmp_path / "cifar100-mine.zip", files())
    assert data.load("cifar100-mine", tmp_path)[1].mean == (0.4914, 0.4822, 0.4465)
    (tmp_path / "elsewhere").mkdir()
    write_folder(tmp_path / "elsewhere" / "other name", files())
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere" / "other name")
    assert data.load("linked", tmp_path)[0].fingerprint == pets.fingerprint
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path))
    assert data.load("pets")[0].fingerprint == pets.fingerprint
    with pytest.raises(
        ValueError, match="'cats' is no data set.* 0 folders .* so called. Known.*100, mnist"
    ):
        data.load("cats")
    write_folder(tmp_path / "pets", files())
    with pytest.raises(ValueError, match=r"2 folders or archives .*so called \(pets, pets.tar.xz"):
        data.load("pets")


def test_names_lose_the_suffixes_of_archives_only(tmp_path, monkeypatch):
    names = ["a.tar.gz", "b.0.tar.xz", "c.ZIP", "d.v2", "e.tgz", "x/f.tar.bz2"]
    assert [stem(name) for name in names] == ["a", "b.0", "c", "d.v2", "e", "f"]
    monkeypatch.chdir(tmp_path)
    assert stem(".") == stem("") == tmp_path.name
    assert stem("..") == tmp_path.parent.name


# Faults of a set.


def without(*endings):
    return {name: raw for name, raw in files().items() if not name.startswith(endings)}


BAD = {
    "no train": (without("train"), "holds test: need train/<class>/"),
    "no test": (without("test"), "holds train: need .*val/<class>/ or test/<class>/"),
    "nothing": ({"readme.txt": b"x"}, "holds none: need train/<class>/"),
    "class only in train": (without("test/dog"), "only in train: dog; only in test: none"),
    "class only in test": (without("train/emu"), "only in train: none; only in test: emu"),
    "image outside": (files() | {"train/0.png": encoded(1)}, "train/0.png belongs to no class"),
    "no image": (files() | {"train/cat/0.png": b"text"}, "train/cat/0.png is no readable image"),
    "half a png": (files() | {"test/dog/0.png": encoded(1)[:70]}, "test/dog/0.png is no readable"),
    "half a jpeg": (
        files() | {"train/dog/1.jpg": encoded(1, (90, 90), "jpg")[:1500]},
        "train/dog/1.jpg is no readable image",
    ),
    "no bytes": (files() | {"train/emu/2.jpg": b""}, "train/emu/2.jpg is no readable image"),
    "sizes": (
        files() | {"train/dog/1.jpg": encoded(1, (6, 7))},
        "train/dog/1.jpg is 6x7, train/cat/0.png 6x5 .*pass size=",
    ),
    "sizes of test": (
        {k: encoded(1, (4, 4)) if k.startswith("test") else v for k, v in files().items()},
        "training images are 6x5, test images 4x4 .*pass size=",
    ),
}


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("name", BAD)
def test_a_faulty_set_is_refused_and_the_fault_named(tmp_path, name, kind):
    content, message = BAD[name]
    if kind == "folder":
        path = write_folder(tmp_path, content)
    else:
        path = write_archive(tmp_path / "set.tar", content)
    with pytest.raises(ValueError, match=message):
        data.folder(path)


@pytest.mark.parametrize("kind", ["folder", ".tar.gz", ".zip"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_folder_is_named(tmp_path, split, kind):
    content = files() | {f"{split}/fox/readme.txt": b"x"}
    other = "train" if split == "test" else "test"
    content[f"{other}/fox/0.png"] = encoded(1)
    if kind == "folder":
        path = write_folder(tmp_path, content)
    else:
        path = write_archive(tmp_path / f"set{kind}", content, [f"{split}/fox/"])
    with pytest.raises(ValueError, match=f"{split} holds no image of fox: add"):
        data.folder(path)


def test_deep_images_are_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5), 999, np.uint16)).save(file, "PNG")
    path = write_folder(tmp_path, files() | {"train/cat/0.png": file.getvalue()})
    with pytest.raises(ValueError, match="train/cat/0.png has more than 8 bits"):
        data.folder(path)


def png(depth, colour, row):
    """A PNG of one row, made by hand: Pillow writes no 16 bits a channel in colour."""
    head = struct.pack(">IIBBBBB", 1, 1, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def float_tiff():
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5), 0.5, np.float32)).save(file, "TIFF")
    return file.getvalue()


DEEP = {
    "rgb": png(16, 2, bytes(6)),
    "rgba": png(16, 6, bytes(8)),
    "grey and alpha": png(16, 4, bytes(4)),
    "grey": png(16, 0, bytes(2)),
    "ppm": b"P6 1 1 65535\n" + bytes(6),
    "plain ppm": b"P3 1 1 65535\n300 5 6\n",
    "float tiff": float_tiff(),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_never_cut(name):
    with pytest.raises(ValueError, match=r"^x has more than 8 bits a channel"):
        rgb("x", DEEP[name])


def test_8_bits_a_channel_and_less_are_read():
    assert rgb("x", png(8, 2, bytes([1, 2, 3]))).getpixel((0, 0)) == (1, 2, 3)
    assert rgb("x", png(8, 6, bytes([1, 2, 3, 0]))).getpixel((0, 0)) == (1, 2, 3)
    assert rgb("x", b"P6 1 1 255\n" + bytes([1, 2, 3])).getpixel((0, 0)) == (1, 2, 3)
    head = struct.pack("<IiiHHIIiiIIIII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    head = head[:40] + head[40:52]
    bmp = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + head + struct.pack("<HH", 0xF800, 0)
    assert rgb("x", bmp).getpixel((0, 0)) == (255, 0, 0)  # 16 bits a pixel


def test_a_palette_s_transparency_is_dropped_without_a_warning():
    image, file = Image.new("P", (1, 1)), io.BytesIO()
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.save(file, "PNG", transparency=bytes([0, 128]))
    assert rgb("x", file.getvalue()).getpixel((0, 0)) == (9, 8, 7)


BAD_SETTINGS = [
    {"test": "valid"}, *({"size": size} for size in (0, (3, 4, 5), 4.0, True, (4, 4.0), "4")),
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD_SETTINGS)
def test_bad_settings_are_named(tmp_path, arguments):
    path = write_folder(tmp_path, files())
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is"):
        data.folder(path, **arguments)


def test_no_path_is_refused():
    with pytest.raises(ValueError, match="give one path at least"):
        data.folder()


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    path, real = write_folder(tmp_path / "set", files()), os.scandir

    def scandir(top):
        if str(top).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(top))
        return real(top)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"dog cannot be listed: Permission denied"):
        data.folder(path)
