from __future__ import annotations

import errno
import os
import pwd
import re
from pathlib import Path

import pytest

from lab import rootless


@pytest.fixture
def subuid(tmp_path: Path) -> Path:
    return tmp_path / "subuid"


def test_a_range_is_found_by_name_or_number(subuid: Path) -> None:
    uid = os.geteuid()
    name = pwd.getpwuid(uid).pw_name
    subuid.write_text(f"other:1:1\n{name}:100000:65536\n{uid}:300000:65536\n")
    assert rootless.subordinate_range(str(subuid), uid) == (100000, 65536)
    subuid.write_text(f"# comment\nbroken\n{uid}:300000:131072\n")
    assert rootless.subordinate_range(str(subuid), uid) == (300000, 65536)


@pytest.mark.parametrize("content", ["", "other:1:2\n", "x:y:z\n"])
def test_no_range(subuid: Path, content: str) -> None:
    subuid.write_text(content)
    assert rootless.subordinate_range(str(subuid), os.geteuid()) is None


def test_no_file(subuid: Path) -> None:
    assert rootless.subordinate_range(str(subuid), os.geteuid()) is None


def test_groups_that_exist_without_a_gap(tmp_path: Path) -> None:
    for content, last in (
        ("         0       1000          1\n", 0),
        ("         0       1000          1\n         1     100000      65536\n", 65536),
        ("         1     100000      65536\n         0       1000          1\n", 65536),
        ("         0       1000          1\n         5     100000      65536\n", 0),
        ("         0          0 4294967295\n", 2147483647),
    ):
        assert rootless.last_group_of(content) == last


@pytest.mark.parametrize(
    ("switch", "forbids", "fix"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or run vpclab with sudo)",
        ),
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "run: sudo sysctl -w kernel.unprivileged_userns_clone=1 (or run vpclab with sudo)",
        ),
        (
            "user/max_user_namespaces",
            "0",
            "run: sudo sysctl -w user.max_user_namespaces=15000 (or run vpclab with sudo)",
        ),
    ],
)
def test_the_switch_that_forbids_is_named(tmp_path: Path, switch: str, forbids: str, fix: str) -> None:
    path = tmp_path / switch
    path.parent.mkdir()
    path.write_text(f"{forbids}\n")
    assert rootless.fix(tmp_path) == fix
    path.write_text("7\n")
    assert "sysctl" not in rootless.fix(tmp_path)


def test_root_may_run_out_of_namespaces_too() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "network namespace")
    assert re.search(
        r"take other labs down, or run: sudo sysctl -w user.max_net_namespaces=\d+$", str(rootless.explain(error))
    )
