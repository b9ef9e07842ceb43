"""Each obstacle gives one line, with the command that removes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import preflight


@pytest.fixture(autouse=True)
def ping_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, **rest: "ping" if name == "ping" else which(name, **rest))


def lines(obstacles: object) -> list[str]:
    return [str(obstacle) for obstacle in obstacles]  # type: ignore[attr-defined]


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def superuser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("ordinary_user")
def test_a_missing_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler --flag")
    assert lines(preflight.check_build()) == [
        "no C compiler (no-such-compiler); run: sudo apt-get install -y gcc libc6-dev"
    ]


@pytest.mark.usefixtures("superuser")
def test_missing_headers_name_the_package_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("sys.executable", "/usr/bin/python3")
    assert lines(preflight.check_build()) == ["no Python.h for /usr/bin/python3; run: apt-get install -y python3-dev"]
    monkeypatch.setattr("sys.executable", "/opt/python/bin/python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert lines(preflight.check_build())[0].endswith(f"apt-get install -y python{version}-dev")


@pytest.mark.usefixtures("superuser")
def test_everything_missing_at_once_is_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.executable", "/usr/bin/python3")
    (line,) = lines(preflight.check_build())
    assert line.endswith("; run: apt-get install -y gcc libc6-dev python3-dev python3-venv")


@pytest.mark.usefixtures("ordinary_user")
def test_a_missing_venv_module_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.executable", "/usr/bin/python3")
    assert lines(preflight.check_build()) == [
        "/usr/bin/python3 has no venv module; run: sudo apt-get install -y python3-venv"
    ]


@pytest.mark.usefixtures("ordinary_user")
def test_a_missing_ping_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(preflight, "_check_tun", lambda: None)
    monkeypatch.setattr(preflight, "_try_namespace", lambda *, with_tun: "")
    assert lines(preflight.check_lab()) == ["ping is not installed; run: sudo apt-get install -y iputils-ping"]


@pytest.mark.usefixtures("ordinary_user")
def test_a_missing_tun_device_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight, "TUN", tmp_path / "tun")
    monkeypatch.setattr(preflight, "_try_namespace", lambda *, with_tun: "")
    (line,) = lines(preflight.check_lab())
    assert "does not exist; run: sudo modprobe tun" in line


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (PermissionError(13, "Permission denied"), "may not be opened by user 1000; run: sudo chmod 666 /dev/net/tun"),
        (OSError(19, "No such device"), "cannot be opened (No such device); run: sudo modprobe tun"),
    ],
)
@pytest.mark.usefixtures("ordinary_user")
def test_a_refused_tun_device_says_how_to_open_it(monkeypatch: pytest.MonkeyPatch, refused: OSError, line: str) -> None:
    def refuse(*_: object) -> int:
        raise refused

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(preflight, "_try_namespace", lambda *, with_tun: "")
    assert lines(preflight.check_lab()) == [f"/dev/net/tun {line}"]


@pytest.mark.parametrize(
    ("switch", "value", "fix"),
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "=0"),
        ("kernel.unprivileged_userns_clone", "0", "=1"),
        ("user.max_user_namespaces", "0", "=15000"),
    ],
)
@pytest.mark.usefixtures("ordinary_user")
def test_refused_namespaces_name_the_switch_of_this_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: str, value: str, fix: str
) -> None:
    file = tmp_path.joinpath(*switch.split(".", 1))
    file.parent.mkdir(parents=True)
    file.write_text(value + "\n")
    monkeypatch.setattr(preflight, "SWITCHES", tmp_path)
    monkeypatch.setattr(preflight, "_check_tun", lambda: None)
    monkeypatch.setattr(preflight, "_try_namespace", lambda *, with_tun: "user namespace: refused")
    (line,) = lines(preflight.check_lab())
    assert line.startswith("user 1000 may not make network namespaces here (user namespace: refused); ")
    assert f"run: sudo sysctl -w {switch}{fix} " in line


@pytest.mark.usefixtures("superuser")
def test_root_without_the_right_to_make_namespaces_is_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_check_tun", lambda: None)
    monkeypatch.setattr(preflight, "_try_namespace", lambda *, with_tun: "network namespace: refused")
    (line,) = lines(preflight.check_lab())
    assert "--privileged" in line


def test_missing_test_programs_are_told_in_one_line_and_stop_nothing(tmp_path: Path) -> None:
    script = Path(preflight.__file__)
    result = subprocess.run(
        [sys.executable, "-P", script, "test"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert result.stderr.count("\n") <= 1
    if result.stderr:  # /usr/sbin and /sbin are searched too
        assert "curl" in result.stderr
        assert "apt-get install -y" in result.stderr


def test_build_obstacles_end_with_status_3_and_one_line(tmp_path: Path) -> None:
    script = Path(preflight.__file__)
    result = subprocess.run(
        [sys.executable, "-P", script, "build"],
        env={"PATH": str(tmp_path), "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert result.stderr.startswith("vpclab: ")
    assert "no C compiler (no-such-compiler)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_packages_are_names_apt_understands() -> None:
    assert {"gcc", "python3-venv", "iputils-ping", "tshark"} <= set(preflight.packages())
    assert all(name == name.lower() and " " not in name for name in preflight.packages())


@pytest.mark.e2e
def test_the_machine_that_runs_these_tests_has_no_obstacle() -> None:
    assert lines(preflight.check_lab()) == []
