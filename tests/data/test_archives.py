"""Archives are extracted whole and safely, or nothing is left and one line says why."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.data import archives
from pipeline.data.archives import extract_archive, unpack_archives
from pipeline.errors import DataError, StorageError


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_bytes(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_refused(archive: Path, match: str) -> None:
    """Extraction fails with a message, and neither `into` nor anything beside it changes."""
    before = set(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=match):
        extract_archive(archive, archive.parent / "out")
    assert set(archive.parent.rglob("*")) == before


def test_nested_archives_become_the_folders_a_kaggler_expects(tmp_path):
    competition = tmp_path / "dogs-vs-cats.zip"
    competition.write_bytes(
        zip_bytes(
            {
                "train.zip": zip_bytes({"train/cat.0.jpg": b"c", "train/dog.0.jpg": b"d"}),
                "test1.tar.gz": tar_bytes({"1.jpg": b"1", "sub/2.jpg": b"2"}, "w:gz"),
                "train.csv.zip": zip_bytes({"train.csv": b"id\n"}),
                "labels.csv.gz": gzip.compress(b"id,label\n"),
                "sampleSubmission.csv": b"id,label\n1,0\n",
                "__MACOSX/._train": b"junk",
                "windows\\inside.txt": b"w",
            }
        )
    )
    extract_archive(competition, tmp_path / "raw")
    assert files_under(tmp_path / "raw") == {
        "labels.csv": b"id,label\n",
        "sampleSubmission.csv": b"id,label\n1,0\n",
        "test1/1.jpg": b"1",
        "test1/sub/2.jpg": b"2",
        "train.csv": b"id\n",
        "train/cat.0.jpg": b"c",
        "train/dog.0.jpg": b"d",
        "windows/inside.txt": b"w",
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_tar_is_read(tmp_path, mode):
    files = {f"train/{i}.bin": os.urandom(3000) for i in range(20)}
    suffix = ".tar" + mode[1:].replace(":", ".")
    archive = tmp_path / f"a{suffix}"
    archive.write_bytes(tar_bytes(files, mode))
    extract_archive(archive, tmp_path / "out")
    assert files_under(tmp_path / "out") == files


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".csv.gz"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.97])
def test_a_truncated_archive_names_itself_and_leaves_nothing(tmp_path, suffix, keep):
    files = {f"{i}.bin": os.urandom(3000) for i in range(20)}
    if suffix == ".zip":
        data = zip_bytes(files)
    elif suffix == ".csv.gz":
        data = gzip.compress(os.urandom(9000))
    else:
        data = tar_bytes(files, "w" + suffix.removeprefix(".tar").replace(".", ":"))
    archive = tmp_path / f"train{suffix}"
    archive.write_bytes(data[: int(len(data) * keep) if suffix != ".tar" else 3584 * 7])
    assert_refused(archive, rf"train{suffix} is damaged, truncated.*download it again")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_damaged_archive_is_refused(tmp_path, suffix):
    files = {f"{i}.bin": os.urandom(3000) for i in range(20)}
    data = bytearray(
        zip_bytes(files)
        if suffix == ".zip"
        else tar_bytes(files, "w" + suffix.removeprefix(".tar").replace(".", ":"))
    )
    middle = len(data) // 2
    data[middle : middle + 8] = b"\xff\x00\xff\x00\xff\x00\xff\x00"
    archive = tmp_path / f"a{suffix}"
    archive.write_bytes(bytes(data))
    assert_refused(archive, "is damaged")


def test_a_damaged_tar_header_is_not_taken_for_the_end(tmp_path):
    data = bytearray(tar_bytes({f"{i}.txt": b"x" for i in range(4)}, "w"))
    data[2 * 1024 : 2 * 1024 + 100] = b"\x01" * 100
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(data))
    assert_refused(archive, "a.tar is damaged")


def test_a_damaged_zip_directory_does_not_lose_files(tmp_path):
    data = bytearray(zip_bytes({f"{i}.txt": b"x" for i in range(4)}))
    first = data.index(b"PK\x01\x02")
    comment_length = first + 32
    data[comment_length] = data.index(b"PK\x01\x02", first + 1) - first
    archive = tmp_path / "a.zip"
    archive.write_bytes(bytes(data))
    assert_refused(archive, "a.zip is damaged.*3 entries in its directory, 4 expected")


def test_a_damaged_nested_archive_names_both(tmp_path):
    archive = tmp_path / "competition.zip"
    archive.write_bytes(zip_bytes({"train.zip": b"PK not a zip", "a.txt": b"a"}))
    assert_refused(archive, "train.zip in competition.zip is damaged")


@pytest.mark.parametrize(
    "name", ["../escape.txt", "a/../../escape.txt", "/etc/escape.txt", "..\\escape.txt", "C:\\x"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_leaves_the_folder(tmp_path, name, kind):
    archive = tmp_path / f"a.{kind}"
    archive.write_bytes(zip_bytes({name: b"x"}) if kind == "zip" else tar_bytes({name: b"x"}, "w"))
    assert_refused(archive, "outside its folder")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("train")
    info.type, info.linkname = kind, "/etc"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info)
    assert_refused(tmp_path / "a.tar", "'train' is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("train")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    assert_refused(tmp_path / "a.zip", "'train' is a link or a device")


def test_a_bomb_is_refused(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes({"zeros": bytes(archives.RATIO_FLOOR_BYTES + 1)}))
    assert_refused(archive, "a.zip expands to more than 200 times its size")


def test_a_bomb_cannot_hide_in_nested_archives(tmp_path):
    inner = zip_bytes({"zeros": bytes(archives.RATIO_FLOOR_BYTES // 4)})
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes({f"{i}.zip": inner for i in range(5)}))
    assert_refused(archive, "bomb")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes({f"{i}": b"" for i in range(4)}))
    assert_refused(archive, "more than 3 entries")


def test_archives_without_end_are_refused(tmp_path):
    data = zip_bytes({"a.txt": b"a"})
    for _ in range(archives.MAX_DEPTH + 1):
        data = zip_bytes({"inner.zip": data})
    archive = tmp_path / "a.zip"
    archive.write_bytes(data)
    assert_refused(archive, "more than 4 deep")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a.jpg", "A.jpg"], "'a.jpg' and 'A.jpg' are one file"),
        (["Train/a.jpg", "train/b.jpg"], "'Train' and 'train' are one file"),
        (["caf\u00e9", "cafe\u0301"], "are one file"),
        (["a", "a/b"], "'a' appears twice"),
        (["bad\nname"], "control characters"),
        (["x" * 300], "cannot be a file name"),
    ],
)
def test_names_that_cannot_be_kept_apart_are_refused(tmp_path, names, match):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes(dict.fromkeys(names, b"x")))
    assert_refused(archive, match)


def test_an_encrypted_zip_and_an_unknown_kind_are_refused(tmp_path):
    data = bytearray(zip_bytes({"a": b"x"}))
    data[6] |= 1  # the encryption flags of the local and the central header
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert_refused(tmp_path / "a.zip", r"a\.zip .*encrypted.*; unpack it by hand")
    (tmp_path / "b.7z").write_bytes(b"7z")
    assert_refused(tmp_path / "b.7z", "b.7z is no archive that can be read here")


def test_what_only_a_person_can_unpack_is_not_to_be_downloaded_again(tmp_path):
    data = bytearray(zip_bytes({"a": b"x"}))
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 9  # Deflate64, as Windows writes large ones
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert_refused(tmp_path / "a.zip", r"a\.zip .*method is not supported\); unpack it by hand")


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_names_beyond_ascii_are_read_without_the_flag_that_few_programs_set(tmp_path, encoding):
    name = "Käse/1.jpg".encode(encoding)
    stand_in = "x" * len(name)
    data = zip_bytes({stand_in: b"1"}).replace(stand_in.encode(), name)
    (tmp_path / "a.zip").write_bytes(data)
    extract_archive(tmp_path / "a.zip", tmp_path / "out")
    assert files_under(tmp_path / "out") == {"Käse/1.jpg": b"1"}


def test_a_folder_of_windows_is_a_folder(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_bytes({"train\\": b"", "train\\1.jpg": b"1"}))
    extract_archive(tmp_path / "a.zip", tmp_path / "out")
    assert files_under(tmp_path / "out") == {"train/1.jpg": b"1"}


def test_a_nested_archive_does_not_overwrite_another_file(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(
        zip_bytes({"train/1.txt": b"old", "train.zip": zip_bytes({"1.txt": b"new"})})
    )
    assert_refused(archive, "'1.txt' is already at")
    archive.write_bytes(
        zip_bytes({"train/1.txt": b"same", "train.zip": zip_bytes({"1.txt": b"same", "2": b""})})
    )
    extract_archive(archive, tmp_path / "out")
    assert files_under(tmp_path / "out") == {"train/1.txt": b"same", "train/2": b""}


def test_a_failure_keeps_what_was_there_before(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "a.zip").write_bytes(zip_bytes({"b.txt": b"b", "../c": b"c"}))
    assert_refused(tmp_path / "a.zip", "outside")
    assert files_under(tmp_path / "out") == {"mine.txt": b"mine"}


def test_archives_put_there_by_hand_are_unpacked(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "competition.zip").write_bytes(
        zip_bytes({"train.zip": zip_bytes({"train/1": b"1"}), "a.csv": b"a"})
    )
    assert unpack_archives(raw) == ["competition.zip"]
    assert files_under(raw) == {"train/1": b"1", "a.csv": b"a"}
    (raw / "test.zip").write_bytes(zip_bytes({"1.jpg": b"t"}))
    assert unpack_archives(raw) == ["test.zip"]
    assert files_under(raw) == {"train/1": b"1", "a.csv": b"a", "test/1.jpg": b"t"}
    (raw / "bad.zip").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad.zip is damaged"):
        unpack_archives(raw)
    assert (raw / "bad.zip").exists()


def test_what_a_killed_extraction_left_is_removed(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a")
    (tmp_path / "b.zip").write_bytes(zip_bytes({"train.zip": zip_bytes({"1.jpg": b"1"})}))
    child = os.fork()
    if not child:
        archives._Budget.take = lambda *_: os._exit(9)  # with the file created and nothing in it
        unpack_archives(tmp_path)
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.glob(".*.partial/*")] == ["train.zip"]

    assert unpack_archives(tmp_path) == ["b.zip"]

    assert files_under(tmp_path) == {"a.csv": b"a", "b/train/1.jpg": b"1"}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_while_the_content_is_moved_leaves_the_rest_to_be_moved(tmp_path, moves):
    content = {"train/1.jpg": b"1", "test/2.jpg": b"2", "a.csv": b"a"}
    (tmp_path / "all.zip").write_bytes(zip_bytes(content))
    child = os.fork()
    if not child:
        move, left = os.replace, iter(range(moves))
        os.replace = lambda *paths: os._exit(9) if next(left, None) is None else move(*paths)
        Path.unlink = lambda *_, **__: os._exit(9)
        unpack_archives(tmp_path)
    os.waitpid(child, 0)
    assert len([path for path in tmp_path.iterdir() if path.name[0] != "."]) == 1 + moves

    assert unpack_archives(tmp_path) == ["all.zip"]

    assert files_under(tmp_path) == content
    assert unpack_archives(tmp_path) == list(tmp_path.glob(".*")) == []


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path, tiny_disk):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_bytes({f"{i}.bin": os.urandom(300_000) for i in range(6)}))
    with pytest.raises(StorageError, match="disk full"):
        extract_archive(archive, tiny_disk / "raw")
    assert list(tiny_disk.iterdir()) == []


def test_what_the_tar_command_wrote_is_read(tmp_path):
    """Not only what Python itself wrote."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.txt").write_text("one")
    made = subprocess.run(
        ["tar", "-czf", "train.tar.gz", "train"], cwd=tmp_path, check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("no tar command here")
    extract_archive(tmp_path / "train.tar.gz", tmp_path / "out")
    assert files_under(tmp_path / "out") == {"train/1.txt": b"one"}
