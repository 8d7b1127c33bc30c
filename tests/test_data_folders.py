"""splinelib.data: folders and archives of images, whole, in parts, damaged and hostile."""

import io
import itertools
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from splinelib import data
from splinelib.data import archives
from splinelib.data.archives import listing, stem
from splinelib.data.decode import rgb

KINDS = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")
CIFAR = "cifar10-jpeg75.tar.xz"


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
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path))
    assert data.load("pets")[0].fingerprint == pets.fingerprint
    with pytest.raises(ValueError, match="'cats' is no data set.*holds 0 folders.*cifar100, mnist"):
        data.load("cats")
    write_folder(tmp_path / "pets", files())
    with pytest.raises(ValueError, match=r"holds 2 folders or archives.*pets, pets.tar.xz"):
        data.load("pets")


def test_names_lose_the_suffixes_of_archives_only():
    names = ["a.tar.gz", "b.0.tar.xz", "c.ZIP", "d.v2", "e.tgz", "x/f.tar.bz2"]
    assert [stem(name) for name in names] == ["a", "b.0", "c", "d.v2", "e", "f"]


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


@pytest.mark.parametrize("arguments", [{"test": "valid"}, {"size": 0}, {"size": (3, 4, 5)}])
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


# Damaged and hostile archives.


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, kind):
    whole = write_archive(tmp_path / f"whole{kind}", files()).read_bytes()
    # Python pads a tar to 10,240 bytes with zeros; without them it is still whole.
    end = len(whole.rstrip(b"\0")) if kind == ".tar" else len(whole)
    broken = tmp_path / f"broken{kind}"
    for length in sorted({0, 1, 300, end // 3, end // 2, 1024, 1536, end - 1} & {*range(end)}):
        broken.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"broken{kind} is corrupt, truncated"):
            listing(broken)


def test_a_tar_that_ends_between_members_is_truncated_too(tmp_path):
    path = write_archive(tmp_path / "set.tar", files())
    with tarfile.open(path) as archive:
        starts = [member.offset for member in archive.getmembers()]
    raw = path.read_bytes()
    for start in starts[1:]:
        path.write_bytes(raw[:start])
        with pytest.raises(ValueError, match="no end of archive"):
            listing(path)
        path.write_bytes(raw[:start] + b"x" * 512 + raw[start + 512 :])
        with pytest.raises(ValueError, match="corrupt"):
            listing(path)


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_a_flipped_bit_is_found(tmp_path, kind):
    path = write_archive(tmp_path / f"set{kind}", files())
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 16
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"set{kind} is corrupt"):
        data.folder(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more", bytes(20_000)])
def test_no_archive_at_all_is_refused(tmp_path, content):
    path = tmp_path / "set.tar.xz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.tar\.xz (is corrupt|holds none)"):
        data.folder(path)


@pytest.mark.parametrize("kind", [".tar", ".zip"])
@pytest.mark.parametrize(
    "name", ["/train/cat/9.png", "../cat/9.png", "train/../../9.png", "C:/9.png", "..\\9.png"]
)
def test_a_member_that_would_land_outside_is_refused(tmp_path, kind, name):
    path = write_archive(tmp_path / f"set{kind}", files() | {name: encoded(1)})
    with pytest.raises(ValueError, match="would land outside its folder") as error:
        data.folder(path)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = write_archive(tmp_path / "set.tar", files())
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("train/cat/9.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"set.tar holds 'train/cat/9.png', a link or device"):
        data.folder(path)


def test_links_in_a_zip_are_refused(tmp_path):
    path = write_archive(tmp_path / "set.zip", files())
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("train/cat/9.png")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ValueError, match=r"set.zip holds 'train/cat/9.png', a link or device"):
        data.folder(path)


def test_a_name_that_comes_twice_is_refused(tmp_path):
    path = write_archive(tmp_path / "set.tar", files())
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("train/cat/0.png"))
    with pytest.raises(ValueError, match=r"set.tar holds 'train/cat/0.png' twice"):
        data.folder(path)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.tar does not exist; give a folder or an archive"):
        data.folder(tmp_path / "none.tar")


# The real archive, where it is at hand: its beginning only, since all of it takes a while.


def test_the_first_members_of_a_real_archive():
    ups = Path(__file__).resolve().parents
    found = [up / "shared" / "data" / CIFAR for up in ups if (up / "shared/data" / CIFAR).is_file()]
    if not found:
        pytest.skip(f"{CIFAR} is not beside or above the repository")
    members = dict(itertools.islice(archives._tar(found[0]), 40))
    assert [name for name, raw in members.items() if raw is None] == ["train", "train/airplane"]
    for name, raw in members.items():
        assert raw is None or rgb(name, raw).size == (32, 32)
