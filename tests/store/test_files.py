from __future__ import annotations

import json
import multiprocessing
import os
import stat

import pytest

from mmbench.store.files import (
    DamagedError,
    canonical,
    digest,
    plain,
    read,
    read_json,
    replacing,
    write_json,
)

CONTENT = {"run_id": "a", "score": 1.5, "text": "\u00e9"}


@pytest.fixture
def path(tmp_path):
    write_json(tmp_path / "a.json", CONTENT)
    return tmp_path / "a.json"


def test_what_was_written_is_read(path):
    assert read(path) == read_json(path) == CONTENT
    envelope = json.loads(path.read_bytes())
    assert envelope == {"content": CONTENT, "sha256": digest(CONTENT)}


def test_numbers_that_json_cannot_hold_become_null():
    assert plain({"a": float("nan"), "b": [float("inf"), 1.0]}) == {"a": None, "b": [None, 1.0]}
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def bit_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def forge(text):
    """Replace a file by a text with its own right checksum."""
    import hashlib

    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return lambda path: path.write_text(f'{{"content":{text},"sha256":"{sha256}"}}\n')


def replace_by(make):
    def fault(path):
        path.unlink()
        make(path)

    return fault


DEEP = "[" * 200_000 + "]" * 200_000
FAULTS = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its end": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "followed by more": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "bit flipped": bit_flip,
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "another checksum": lambda path: path.write_text('{"content":{"run_id":"a"},"sha256":"x"}'),
    "another value": lambda path: path.write_bytes(path.read_bytes().replace(b"a", b"b")),
    "no object": lambda path: path.write_text("[]"),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "UTF-16": lambda path: path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16")),
    "nested beyond measure": forge(DEEP),
    "an object nested beyond measure": forge(f'{{"a":{DEEP}}}'),
    "a list": forge("[]"),
    "of a number": forge("NaN"),
    "of an endless number": forge("1" * 10_000),
    "of repeated keys": forge('{"run_id":"b","run_id":"a"}'),
    "of NaN": forge('{"a":NaN}'),
    "a folder": replace_by(lambda path: path.mkdir()),
    "a pipe": replace_by(os.mkfifo),
    "a link to nothing": replace_by(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replace_by(lambda path: path.symlink_to(path)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_as_it_was_written_is_damaged(path, fault):
    FAULTS[fault](path)
    with pytest.raises(DamagedError):
        read(path)
    assert read_json(path) is None


def test_no_file_is_written_twice(path):
    with pytest.raises(FileExistsError):
        write_json(path, {})
    assert read(path) == CONTENT


def test_a_file_has_the_mode_that_the_umask_asks_for(tmp_path):
    before = os.umask(0o002)
    try:
        write_json(tmp_path / "shared.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared.json").stat().st_mode) == 0o664


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(path):
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read(path) == CONTENT
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert read(path) == CONTENT
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_there(path):
    def killed():
        with replacing(path) as temporary:
            temporary.write_text("half")
            os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    with replacing(path.with_name("b.json")) as alive:
        alive.touch()
        assert list(path.parent.glob(".*")) == [alive], "the other's is gone"
    assert {found.name for found in path.parent.iterdir()} == {"a.json", "b.json"}
    assert read(path) == CONTENT
