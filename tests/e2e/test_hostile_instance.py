"""An instance whose root plays foul on the wire harms nobody: neighbours talk on and hear nothing, the worker lives."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from tests.e2e import hostile
from tests.e2e.conversation import WAIT_S, listen
from tests.e2e.hostile import ADMITTED, ECHO, OWN_PORT, PLAIN, TALK, TOKEN, TRICKS, Party, Surroundings
from tests.e2e.lab.stage import eventually
from vpclab import Lab

FLOOD = str(Path(__file__).with_name("flood.py"))
MARK = b"numbered "
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_PIECES = ("Raw", "IPv6 Extension Header - Fragmentation header", "IPv6 Extension Header - Hop-by-Hop Options Header")
"""What scapy calls the rest of a datagram in fragments, and headers before the UDP header that it does not follow."""


def _vpc(ipv6: str) -> dict[str, Any]:
    def only(port: int, protocol: str, source: str) -> dict[str, Any]:
        return {"protocol": protocol, "ports": port, "source": source}

    # By address: what pretends to come from a neighbour is stopped by nothing but the source check.
    anybody = [only(ADMITTED, "udp", block) for block in ("10.0.1.0/24", f"{ipv6}::/64")]

    return {
        "cidr": "10.0.0.0/16",
        "ipv6_cidrs": [f"{ipv6}::/56"],
        "subnets": {"one": {"cidr": "10.0.1.0/24", "ipv6_cidr": f"{ipv6}::/64"}},
        "security_groups": {
            "hostile": {"description": "nothing in"},
            "neighbour": {"description": "one port for anybody", "ingress": anybody},
            "server": {
                "description": "for the neighbour",
                "ingress": [only(ECHO, "udp", "group:neighbour"), only(TALK, "tcp", "group:neighbour")],
            },
        },
    }


def _lab_file(name: str) -> dict[str, Any]:
    def instance(vpc: str, last: int, group: str) -> dict[str, Any]:
        ipv6 = f"2001:db8:{'0' if vpc == 'v' else '1'}:0::{last}"
        place = {"vpc": vpc, "subnet": "one", "private_ip": f"10.0.1.{last}", "ipv6_address": ipv6}
        return {**place, "security_groups": [group]}

    return {
        "version": 1,
        "name": name,
        "vpcs": {"v": _vpc("2001:db8:0:0"), "w": _vpc("2001:db8:1:0")},
        "instances": {
            "hostile": instance("v", 10, "hostile"),
            "neighbour": instance("v", 11, "neighbour"),
            "server": instance("v", 12, "server"),
            "wrecker": instance("v", 13, "hostile"),
            "stranger": instance("w", 11, "neighbour"),
        },
    }


class Street:
    """The hostile instance, and those who live beside it and talk: numbered questions, each answered."""

    def __init__(self, lab: Lab, other: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.pid = lab.status()["pid"]
        self.who = Surroundings(
            own=self._party("hostile"),
            router=Party(mac=self._router_mac(), address4="10.0.1.1", address6="fe80:ec2::1"),
            neighbour=self._party("neighbour"),
            server=self._party("server"),
            stranger=self._party("stranger"),
        )
        self.asked = self._settled = 0
        neighbour, server = lab["neighbour"], lab["server"]
        self.line = stack.enter_context(lab["hostile"].socket(socket.AF_PACKET, socket.SOCK_RAW))
        self.line.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self.line.bind(("eth0", 0))
        self.line.settimeout(WAIT_S)
        self._admitted = self._bound(stack, "neighbour", ADMITTED)
        self._admitted.settimeout(1.0)
        self._question = self._bound(stack, "neighbour", OWN_PORT)
        self._answer = self._bound(stack, "server", ECHO)
        with listen(lab, "server", TALK) as listener:
            self._near = stack.enter_context(neighbour.socket())
            self._near.bind(("", OWN_PORT))
            self._near.settimeout(WAIT_S)
            self._near.connect((server.address4, TALK))
            self._far = stack.enter_context(listener.accept()[0])
            self._far.settimeout(WAIT_S)
        for each in (neighbour, lab["hostile"]):
            each.run(["ip", "link", "set", "eth0", "promisc", "on"], check=True)
        self.heard = {
            name: stack.enter_context(place[node].sniffer())
            for name, place, node in (
                ("hostile", lab, "hostile"),
                ("neighbour", lab, "neighbour"),
                ("stranger", lab, "stranger"),
                ("elsewhere", other, "neighbour"),
            )
        }

    def _party(self, name: str) -> Party:
        node = self.lab[name]
        return Party(mac=node.mac, address4=str(node.address4), address6=str(node.address6))

    def _router_mac(self) -> str:
        port = self.counters("hostile")["port"]
        return str(self.lab.ask("neighbour", port=port, destination="192.0.2.1"))

    def _bound(self, stack: ExitStack, node: str, port: int) -> socket.socket:
        made = stack.enter_context(self.lab[node].socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.bind(("", port))
        made.settimeout(WAIT_S)
        return made

    def counters(self, name: str) -> dict[str, Any]:
        """The interface of a node, with its counters."""
        node = next(node for node in self.lab.status()["nodes"] if node["name"] == name)
        return dict(node["interfaces"][0])

    def is_silent(self) -> bool:
        """Whether the hostile instance has sent nothing by itself for two seconds."""
        sent, end = self.counters("hostile")["counters"]["sent_frames"], time.monotonic() + 2.0
        while time.monotonic() < end:
            if self.counters("hostile")["counters"]["sent_frames"] != sent:
                return False
            time.sleep(0.05)
        return True

    def send(self, frame: bytes, offload: bytes = PLAIN) -> int:
        """Send from the hostile instance; the error of its kernel, or 0."""
        try:
            self.line.send(offload + frame)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def talk(self) -> None:
        """One numbered question to the server and its answer, as datagrams and over the connection."""
        self.asked += 1
        words = MARK + b"%d" % self.asked
        self._question.sendto(words, (self.who.server.address4, ECHO))
        question, asker = self._answer.recvfrom(64)
        assert (question, asker[0]) == (words, self.who.neighbour.address4)
        self._answer.sendto(b"re " + question, asker)
        assert self._question.recv(64) == b"re " + words
        for here, there in ((self._near, self._far), (self._far, self._near)):
            here.sendall(words + b"\n")
            assert there.recv(64) == words + b"\n"

    def settle(self) -> int:
        """Wait until all that the hostile instance has sent is decided: an honest datagram sent behind it has arrived.

        Returns how many of those it took: after a flood, those before it may have filled the neighbour's socket.
        """
        for tries in itertools.count(1):
            self._settled += 1
            words = b"honest %d" % self._settled
            assert self.send(hostile.honest(self.who, words)) == 0
            with contextlib.suppress(TimeoutError):
                while self._admitted.recv(1 << 16) != words:
                    pass
                return tries
            assert tries < 20, "the neighbour does not get what it admits"
        raise AssertionError("endless")

    def judge(self) -> None:
        """Look at everything that anybody has heard since the last time."""
        for name in ("stranger", "elsewhere"):
            assert list(self.heard[name].frames(timeout_s=0)) == [], name
        for frame in self.heard["hostile"].frames(timeout_s=0):
            assert MARK not in frame, "the hostile instance hears its neighbours"
        for frame in set(self.heard["neighbour"].frames(timeout_s=0)):  # a flood is the same frame many times
            self._judge_heard(frame)

    def _judge_heard(self, frame: bytes) -> None:
        who, seen = self.who, Ether(frame)
        assert seen.dst == who.neighbour.mac
        at = {address: each.mac for each in who.parties[:-1] for address in (each.address4, each.address6)}
        if ARP in seen:
            assert (seen[ARP].op, seen[ARP].hwsrc) == (2, at[seen[ARP].psrc])
            return
        if ICMPv6ND_NA in seen:
            assert (seen[ICMPv6ND_NA].S, seen[ICMPv6NDOptDstLLAddr].lladdr) == (1, at[seen[ICMPv6ND_NA].tgt])
            return
        six = IPv6 in seen
        packet = seen[IPv6 if six else IP]
        ends = [(each.address6 if six else each.address4) for each in (who.own, who.server, who.neighbour)]
        if seen.src == who.server.mac:
            assert (packet.src, packet.dst) == (ends[1], ends[2])
            assert TCP in seen or UDP in seen
            assert TOKEN not in frame
            return
        # What the neighbour admits, from who it says it is from.
        assert seen.src in (who.own.mac, who.router.mac)
        assert (packet.src, packet.dst) == (ends[0], ends[2])
        assert UDP not in seen or seen[UDP].dport == ADMITTED
        assert UDP in seen or packet.payload.name in _PIECES, packet

    def is_well(self) -> None:
        """The worker lives, in the process it was in, and both ends know each other's MACs."""
        status = self.lab.status()
        assert status["pid"] == self.pid
        for node, other in (("neighbour", self.who.server), ("server", self.who.neighbour)):
            table = json.loads(self.lab[node].run(["ip", "-j", "neigh"], check=True).stdout)
            macs = {row["dst"]: row.get("lladdr") for row in table if "lladdr" in row}
            assert macs[other.address4] == other.mac
            assert set(macs.values()) <= {party.mac for party in self.who.parties}, macs


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with (
        Lab.from_dict(_lab_file("street")) as lab,
        Lab.from_dict(_lab_file("elsewhere")) as other,
        ExitStack() as stack,
    ):
        made = Street(lab, other, stack)
        eventually(made.is_silent, "its kernel has told multicast routers who it is, which counts as a trick does")
        yield made


def test_known_tricks_are_dropped_each_with_its_reason(street: Street) -> None:
    """In one test: what they do to the neighbours would show later, too."""
    for name, (reason, make) in TRICKS.items():
        frame = bytes(make(street.who))
        street.settle()
        before = street.counters("hostile")["counters"]
        for _ in range(5):
            assert street.send(frame) == 0
            street.talk()
        behind = street.settle()
        after = street.counters("hostile")["counters"]
        gained = {key: count - before["reasons"].get(key, 0) for key, count in after["reasons"].items()}
        assert {key: count for key, count in gained.items() if count} == {reason.name: 5}, name
        assert after["sent_frames"] - before["sent_frames"] == 5 + behind, name
        street.judge()
    street.is_well()


# No shrinking: the frames of one example have little to do with one another, and each try costs real time.
@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_whatever_it_sends_neighbours_talk_on_and_hear_none_of_it(street: Street, data: st.DataObject) -> None:
    kinds = set()
    for each in data.draw(st.lists(hostile.sendings(street.who), min_size=8, max_size=24)):
        kinds.add((street.send(each.frame, each.offload) == 0, each.offload != PLAIN))
    for taken, offloaded in kinds:
        event(
            f"{'with' if offloaded else 'without'} an offload header, {'taken' if taken else 'refused'} by its kernel"
        )
    street.talk()
    street.settle()
    street.judge()
    assert street.lab.status()["pid"] == street.pid


def test_after_all_that_every_frame_is_counted_and_everybody_knows_who_is_where(street: Street) -> None:
    street.settle()
    told = street.lab["hostile"].run(["cat", "/sys/class/net/eth0/statistics/tx_packets"], check=True).stdout
    assert street.counters("hostile")["counters"]["sent_frames"] == int(told)
    street.is_well()


@pytest.mark.parametrize("what", ["tricks", "honest"])
def test_a_flood_stops_nobody(street: Street, what: str) -> None:
    tricks = [bytes(make(street.who)) for _, make in TRICKS.values()]

    def sent() -> int:
        return int(street.counters("hostile")["counters"]["sent_frames"])

    def enough() -> bool:
        street.talk()
        return street.asked >= asked + 20 and sent() >= before + 2000

    before, asked = sent(), street.asked
    with flooding(street.lab, tricks if what == "tricks" else [hostile.honest(street.who, b"honest")]):
        eventually(enough, "questions answered in a flood", deadline_s=60)
    street.settle()
    street.judge()
    street.is_well()


@contextmanager
def flooding(lab: Lab, frames: list[bytes]) -> Iterator[None]:
    """The hostile instance sends these over and over, as fast as it can, during the block."""
    child = lab["hostile"].popen([sys.executable, "-I", FLOOD, "eth0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps([frame.hex() for frame in frames]).encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"up\n"
        yield
    finally:
        child.kill()
        child.communicate(timeout=WAIT_S)


GAMES = (
    *("down", "up", "mtu 65521", "mtu 68", "mtu 9001", "address 02:00:00:00:00:66", "txqueuelen 1", "arp off"),
    *("multicast off", "allmulticast on", "gro_max_size 200000"),
)


def test_games_with_its_device_are_its_own_loss(street: Street) -> None:
    wrecker = street.lab["wrecker"]
    for game in GAMES:
        wrecker.run(["ip", "link", "set", "eth0", *game.split()], check=True)
        street.talk()
    wrecker.run(["ip", "link", "delete", "eth0"], check=True)
    eventually(lambda: street.counters("wrecker")["counters"]["reasons"].get("PORT_DOWN"), "the worker sees it go")
    street.talk()
    street.settle()
    street.judge()
    street.is_well()


@pytest.mark.parametrize("how", ["delete", "rename"])
def test_an_instance_without_its_device_stops_no_change_and_gets_it_back(street: Street, how: str) -> None:
    wrecker, file = street.lab["wrecker"], _lab_file(street.lab.name)

    def change(host: str) -> None:
        file["internet"] = {"hosts": {host: {"address": "198.51.100.10"}}}  # every instance learns a new name
        street.lab.apply(file)

    change(f"before-{how}")  # another test may have taken it
    link = ["ip", "link"] if how == "delete" else ["ip", "link", "set", "eth0"]
    if how == "rename":
        wrecker.run([*link, "down"], check=True)
    wrecker.run([*link, *(["delete", "eth0"] if how == "delete" else ["name", "mine"])], check=False)
    change(how)
    assert wrecker.ping("10.0.1.1")
    street.talk()


def test_nobody_takes_the_other_end_of_its_device(street: Street) -> None:
    """Whoever has that reads and writes as the network does, without any check."""
    taken = street.lab["hostile"].run([sys.executable, "-I", "-c", _TAKE_TAP])
    assert taken.stdout.split() == ["EBUSY", "EINVAL"], taken.stderr
    street.talk()


_TAKE_TAP = """
import errno, fcntl, os, struct
TUNSETIFF, IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 2, 0x100, 0x1000, 0x4000
for more in (0, IFF_MULTI_QUEUE):
    try:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more
        fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), TUNSETIFF, struct.pack("16sH22x", b"eth0", flags))
        print("taken")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
