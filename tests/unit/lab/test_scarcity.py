"""What has run out is followed by what to do about it, and nothing else is."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from lab.scarcity import is_scarce, remedy, said
from lab.state_root import state_root


def error(number: int, *name: str) -> OSError:
    return OSError(number, os.strerror(number), *name)


def test_a_full_disk_below_the_state_folder_can_be_avoided(tmp_path: Path) -> None:
    elsewhere = ", or have XDG_STATE_HOME name a folder elsewhere"
    assert (
        remedy(error(errno.ENOSPC, str(state_root() / "lab" / "daemon.log"))) == f"; free some space there{elsewhere}"
    )
    assert remedy(error(errno.EDQUOT), state_root() / "lab") == f"; free some space there{elsewhere}"
    assert remedy(error(errno.ENOSPC, str(tmp_path / "packets.pcapng"))) == "; free some space there"


def test_a_larger_number_of_open_files_is_named() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    told = said(error(errno.EMFILE, "/dev/net/tun"))
    assert told.startswith(f"/dev/net/tun: Too many open files; a process may have {limit} here; ")
    assert int(told.rpartition("ulimit -n ")[2]) > limit


@pytest.mark.parametrize("number", [errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_whatever_is_scarce_has_a_remedy(number: int) -> None:
    assert is_scarce(error(number))
    assert remedy(error(number)).startswith("; ")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EBADF])
def test_other_errors_are_told_as_they_are(number: int) -> None:
    assert not is_scarce(error(number))
    assert said(error(number, "/x")) == f"/x: {os.strerror(number)}"
