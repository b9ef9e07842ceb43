"""Where the text of a lab file comes from: a file or text at hand, bounded in size, UTF-8."""

from __future__ import annotations

from pathlib import Path

from dataplane.errors import ConfigurationError, Problem

MAX_BYTES = 4 * 1024 * 1024
"""Size of the largest lab file that is read: about 20,000 instances, and half a minute of reading."""


def read_text(source: Path | str | bytes, file_name: str | None = None) -> tuple[str, str]:
    """Return the text and the name it goes by in messages.

    `bytes`, a string of several lines, and a string that comes with a `file_name` are the text itself; any other
    string, and a `Path`, name a file.

    Raises:
        ConfigurationError: no such file, not readable, too large, or not UTF-8.
    """
    if isinstance(source, str) and (file_name is not None or "\n" in source):
        content = source.encode("utf-8", "surrogatepass")
    elif isinstance(source, bytes):
        content = source
    else:
        file_name = file_name or str(source)
        content = _read_file(Path(source), file_name)
    name = file_name or "<text>"
    if len(content) > MAX_BYTES:
        megabytes = MAX_BYTES // (1024 * 1024)
        raise _refused(name, f"the file is larger than {megabytes} MiB", "split the lab")
    try:
        return content.decode("utf-8-sig"), name
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        message = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise _refused(name, message, "save the file as UTF-8", line, column) from None


def _read_file(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(name, "no such file", "give the path of a lab file, such as examples/quickstart.yaml") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _refused(name, f"cannot be read: {reason}", "") from None


def _refused(name: str, message: str, hint: str, line: int = 0, column: int = 0) -> ConfigurationError:
    return ConfigurationError([Problem(path="", message=message, hint=hint, file=name, line=line, column=column)])
