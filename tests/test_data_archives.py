"""splinelib.data: damaged and hostile archives are refused, never read in part."""

import itertools
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_data_folders import KINDS, encoded, files, write_archive

from splinelib import data
from splinelib.data import archives
from splinelib.data.archives import listing
from splinelib.data.decode import rgb

CIFAR = "cifar10-jpeg75.tar.xz"


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


def test_a_changed_name_in_the_directory_of_a_zip_is_found(tmp_path):
    path = write_archive(tmp_path / "set.zip", files())
    raw, name = path.read_bytes(), b"train/cat/0.png"
    at = raw.rindex(name)  # the directory stands at the end
    for place, new in ((len(name) - 1, b"x"), (0, b"."), (len(name) - 1, b"/")):
        broken = bytearray(raw)
        broken[at + place : at + place + 1] = new
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"set.zip is corrupt.*differ"):
            listing(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_archive(tmp_path / "set.zip", files())
    raw = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(mark) + flags] |= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"set.zip is .*encrypted.*password"):
        listing(path)


@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_a_member_that_would_fill_the_memory_is_refused_unread(tmp_path, monkeypatch, kind):
    path = write_archive(tmp_path / f"set{kind}", files() | {"train/cat/9.png": bytes(2000)})
    monkeypatch.setattr(archives, "LARGEST", 1999)
    with pytest.raises(ValueError, match=r"holds 'train/cat/9.png', which is sparse or larger"):
        listing(path)
    monkeypatch.setattr(archives, "LARGEST", 2000)
    assert len(listing(path)["train/cat/9.png"]) == 2000


def test_a_sparse_member_is_refused(tmp_path):
    path, member = tmp_path / "set.tar", tarfile.TarInfo("train/cat/9.png")
    member.type = tarfile.GNUTYPE_SPARSE
    with tarfile.open(path, "w") as archive:
        archive.addfile(member)
    with pytest.raises(ValueError, match="which is sparse or larger than 256 MB"):
        listing(path)


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
