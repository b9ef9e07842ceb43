from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from lab import mount_view
from lab.node_plan import NodePlan


def test_hosts_has_all_names_and_the_node_itself(tmp_path: Path) -> None:
    hosts = {"web": (ip_address("10.0.1.10"), ip_address("2001:db8::10")), "app": (ip_address("10.0.2.10"),)}
    mount_view.write_files(tmp_path / "web", NodePlan(name="web", interfaces=(), hosts=hosts), {})
    lines = (tmp_path / "web" / "hosts").read_text().splitlines()
    assert lines[2:] == ["10.0.1.10\tweb", "2001:db8::10\tweb", "10.0.2.10\tapp"]
    assert lines[0] == "127.0.0.1\tlocalhost"


def test_a_node_always_knows_its_own_name(tmp_path: Path) -> None:
    mount_view.write_files(tmp_path / "web", NodePlan(name="web", interfaces=(), hostname="ip-10-0-1-10"), {})
    assert (tmp_path / "web" / "hosts").read_text().endswith("127.0.1.1\tip-10-0-1-10\n")
    assert (tmp_path / "web" / "hostname").read_text() == "ip-10-0-1-10\n"


def test_files_are_changed_in_place_because_mounts_show_files_not_names(tmp_path: Path) -> None:
    long = {f"n{number}": (ip_address("10.0.0.1"),) for number in range(50)}
    mount_view.write_files(tmp_path / "web", NodePlan(name="web", interfaces=(), hosts=long), {})
    before = (tmp_path / "web" / "hosts").stat().st_ino
    mount_view.write_files(tmp_path / "web", NodePlan(name="web", interfaces=()), {})
    assert (tmp_path / "web" / "hosts").stat().st_ino == before
    assert "n49" not in (tmp_path / "web" / "hosts").read_text()


def test_a_mapping_that_nodes_share_is_put_into_words_once(tmp_path: Path) -> None:
    cache: mount_view.HostsCache = {}
    hosts = {"web": (ip_address("10.0.1.10"),)}
    for name in ("a", "b"):
        mount_view.write_files(tmp_path / name, NodePlan(name=name, interfaces=(), hosts=hosts), cache)
    assert len(cache) == 1
    assert (tmp_path / "a" / "hosts").read_text() == (tmp_path / "b" / "hosts").read_text().replace("\tb\n", "\ta\n")
