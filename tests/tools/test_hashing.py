import hashlib
import os

from recbole_mm.tools import hashing
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts, sha256_of_tree

LONG_AGO = (1_000_000_000, 1_000_000_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_hashed_by_its_content_whatever_its_size(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"abc", b"x" * (hashing.BLOCK + 1)):
        path.write_bytes(content)
        assert sha256_of_file(path) == sha256(content)


def test_a_file_that_is_rewritten_at_once_with_as_many_bytes_gets_another_hash(tmp_path):
    path = tmp_path / "file"
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert sha256_of_file(path) == sha256(content)


def test_a_settled_file_is_read_once_and_again_after_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "SETTLED", -1)
    monkeypatch.setattr(hashing, "_known", {})
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert [sha256_of_file(path), sha256_of_file(path)] == [sha256(b"one")] * 2
    assert len(hashing._known) == 1

    path.write_bytes(b"three")

    assert sha256_of_file(path) == sha256(b"three")


def test_a_file_that_takes_the_place_of_another_gets_a_hash_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "SETTLED", -1)
    path, other = tmp_path / "file", tmp_path / "other"
    for place, content in ((path, b"one"), (other, b"two")):
        place.write_bytes(content)
        os.utime(place, LONG_AGO)
    assert sha256_of_file(path) == sha256(b"one")

    os.replace(other, path)

    assert sha256_of_file(path) == sha256(b"two")


def test_a_tree_is_hashed_by_names_and_contents_of_the_files_that_fit(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "model.py").write_text("a = 1\n")
    (tmp_path / "notes.txt").write_text("no code")
    before = sha256_of_tree(tmp_path, "*.py")
    assert before == sha256(b"part/model.py\0a = 1\n")

    (tmp_path / "notes.txt").write_text("other")
    assert sha256_of_tree(tmp_path, "*.py") == before

    (tmp_path / "part" / "model.py").rename(tmp_path / "part" / "other.py")
    assert sha256_of_tree(tmp_path, "*.py") != before


def test_parts_are_hashed_as_one():
    assert sha256_of_parts(["ab", b"\x00", "ç"]) == sha256("ab\0ç".encode())
