"""Where the text comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import source
from dataplane.load.source import read_text


def refusal(*arguments: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_text(*arguments)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    return str(problem)


def test_a_path_and_a_one_line_string_name_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: \xc3\xa9\n")
    assert read_text(file) == ("name: é\n", str(file))
    assert read_text(str(file)) == ("name: é\n", str(file))
    assert read_text(file, "shown.yaml") == ("name: é\n", "shown.yaml")


def test_bytes_several_lines_and_named_text_are_text() -> None:
    assert read_text(b"a: 1") == ("a: 1", "<text>")
    assert read_text("a: 1\n") == ("a: 1\n", "<text>")
    assert read_text("a: 1", "shown.yaml") == ("a: 1", "shown.yaml")


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml").startswith(f"{tmp_path}/no.yaml: no such file; ")
    assert "cannot be read: Is a directory" in refusal(tmp_path)
    assert "cannot be read" in refusal("nul\0byte")


def test_what_is_not_utf_8(tmp_path: Path) -> None:
    assert refusal(b"a: 1\nb: \xff\n") == "<text>:2:4: byte 0xff is not UTF-8; save the file as UTF-8"
    assert "not UTF-8" in refusal("a: 1\n".encode("utf-16"))
    assert "not UTF-8" in refusal("a: \ud800\n")


def test_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 1024 * 1024)
    file = tmp_path / "lab.yaml"
    file.write_bytes(b"#" * (1024 * 1024))
    assert len(read_text(file)[0]) == 1024 * 1024
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in refusal(file)
