"""What is known of a raw folder without reading it."""

import os

import pytest

from pipeline.data.fingerprint import file_hashes, known_fingerprint, raw_fingerprint
from pipeline.errors import DataError


def test_a_fingerprint_is_known_until_a_file_is_new_changed_or_unread(tmp_path):
    raw = tmp_path / "raw"
    assert known_fingerprint(raw) is None
    (raw / "train").mkdir(parents=True)
    (raw / "train/a.png").write_bytes(b"a")
    assert known_fingerprint(raw) is None
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    read = raw_fingerprint(raw)
    assert known_fingerprint(raw) == read
    status = (raw / "train/a.png").stat()
    (raw / "train/a.png").write_bytes(b"longer")
    os.utime(raw / "train/a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known_fingerprint(raw) is None
    (raw / "train/a.png").write_bytes(b"a")
    os.utime(raw / "train/a.png", ns=(status.st_atime_ns, status.st_mtime_ns))

    (raw / "b.png").write_bytes(b"b")
    assert known_fingerprint(raw) is None
    (raw / "b.png").unlink()
    assert known_fingerprint(raw) == read
    os.utime(raw / "train/a.png", ns=(0, 1))
    assert known_fingerprint(raw) is None


def test_only_the_downloads_own_manifest_is_no_raw_file(tmp_path):
    raw = tmp_path / "raw"
    (raw / "train").mkdir(parents=True)
    (raw / "train/a.png").write_bytes(b"a")
    read = raw_fingerprint(raw)

    (raw / "manifest.json").write_text("{}")
    assert raw_fingerprint(raw) == read
    (raw / "train/manifest.json").write_text("{}")
    assert raw_fingerprint(raw) != read


def test_hidden_files_which_no_layout_reads_change_nothing(tmp_path):
    """A look into the folder with a file manager, or a notebook beside it, makes nothing anew."""
    raw = tmp_path / "raw"
    (raw / "train").mkdir(parents=True)
    (raw / "train/a.png").write_bytes(b"a")
    read = raw_fingerprint(raw)

    (raw / "train/.DS_Store").write_bytes(b"icons")
    (raw / ".ipynb_checkpoints").mkdir()
    (raw / ".ipynb_checkpoints/a.ipynb").write_bytes(b"{}")

    assert known_fingerprint(raw) == read
    assert raw_fingerprint(raw) == read
    assert "train/.DS_Store" in file_hashes(raw)


def test_links_to_nothing_are_counted_and_the_first_is_named(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "d.png").write_bytes(b"d")
    for name in ("b.png", "c.png"):
        (raw / name).symlink_to(tmp_path / "disk-that-is-not-mounted" / name)
    for look in (raw_fingerprint, known_fingerprint):
        with pytest.raises(DataError, match=r"2 files are links to nothing, first 'b\.png'; mount"):
            look(raw)
