"""The peers on the wire: two hosts in network namespaces of their own, and what is between them.

    client 10.0.1.10 eth0 --- router (a namespace of its own) --- eth0 198.51.100.10 server

The client's eth0 and the server's have an MTU of 1500 everywhere. Every topology is made when it is entered, and is
gone, with every process it needed, when it is left.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

CLIENT, SERVER, TRANSLATED = "10.0.1.10", "198.51.100.10", "203.0.113.10"
RULES = 200
MTU = 1500
_NETNS = Path("/run/netns")
_PREFIX = "bench"  # then the process that made it
_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_numbers = itertools.count(1)


class CannotRun(Exception):
    """What every measure on the wire needs is missing, or does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From a client to a server."""

    client: str
    """Its network namespace, as a file."""
    server: str
    address: str
    """The server's, as the client knows it."""
    seen_as: str
    """The client's, as the server must see it."""


Bed = Callable[[int], AbstractContextManager[Way]]
"""Makes the topology with so many ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer, and what to install for it."""

    name: str
    bed: Bed
    needs: tuple[tuple[str, str], ...] = ()
    """Programs and the packages they come with."""

    def missing(self) -> str:
        """The package that is missing, or nothing."""
        return next((package for program, package in self.needs if shutil.which(program) is None), "")


def command(*words: str, text: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run to its end, which must come within a minute."""
    try:
        return subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **(env or {})},
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"{' '.join(words)}: does not end") from None


def run(*words: str, text: str = "", env: dict[str, str] | None = None) -> str:
    """Run to its end; its output. CannotRun with its words when it fails."""
    done = command(*words, text=text, env=env)
    if done.returncode:
        raise CannotRun(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def tied(*words: str) -> list[str]:
    """The command line, killed when this process ends, however it ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *words]


# -- namespaces --------------------------------------------------------------------------------------------------


def sweep() -> None:
    """Remove namespaces of runs that were killed."""
    for path in _NETNS.glob(f"{_PREFIX}-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            run("ip", "netns", "del", path.name)


@contextmanager
def _namespaces(*kinds: str) -> Iterator[list[str]]:
    """New named network namespaces with loopback up."""
    number = next(_numbers)
    names: list[str] = []
    try:
        for kind in kinds:
            name = f"{_PREFIX}-{os.getpid()}-{number}-{kind}"
            run("ip", "netns", "add", name)
            names.append(name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _veth(one: str, device: str, other: str, peer: str) -> None:
    end = ["mtu", str(MTU)]
    run("ip", "-n", one, "link", "add", device, *end, "type", "veth", "peer", "name", peer, *end, "netns", other)
    run("ip", "-n", one, "link", "set", device, "up")
    run("ip", "-n", other, "link", "set", peer, "up")


def _offload(namespace: str, device: str, *settings: str) -> None:
    run("ip", "netns", "exec", namespace, "ethtool", "-K", device, *settings)


def _mac(namespace: str, device: str) -> str:
    return run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address").strip()


def _batch(namespace: str, lines: list[str]) -> None:
    if lines:
        run("ip", "-n", namespace, "-batch", "-", text="\n".join(lines) + "\n")


def _path(client: str, server: str, seen_as: str = CLIENT) -> Way:
    return Way(client=str(_NETNS / client), server=str(_NETNS / server), address=SERVER, seen_as=seen_as)


# -- bare veth ---------------------------------------------------------------------------------------------------


@contextmanager
def veth(ports: int) -> Iterator[Way]:
    """Nothing between them."""
    with _namespaces("a", "b") as (a, b):
        _veth(a, "eth0", b, "eth0")
        _batch(a, [f"addr add {CLIENT}/24 dev eth0", f"route add {SERVER} dev eth0"])
        _batch(b, [f"addr add {SERVER}/24 dev eth0", f"route add {CLIENT} dev eth0"])
        yield _path(a, b)


# -- the kernel ----------------------------------------------------------------------------------------------------


@contextmanager
def _around_router(ports: int) -> Iterator[tuple[str, str, str]]:
    """Client, router, server; the router has `ports` devices: v0 to the client, v1 to the server, the others idle."""
    with _namespaces("a", "r", "b", "i") as (a, r, b, idle):
        _veth(r, "v0", a, "eth0")
        _veth(r, "v1", b, "eth0")
        _batch(a, [f"addr add {CLIENT}/24 dev eth0", "route add default via 10.0.1.1"])
        _batch(b, [f"addr add {SERVER}/24 dev eth0", "route add default via 198.51.100.1"])
        more = range(2, ports)
        _batch(r, [f"link add v{n} mtu {MTU} type veth peer name e{n} mtu {MTU} netns {idle}" for n in more])
        _batch(r, [f"link set v{n} up" for n in more])
        _batch(idle, [f"link set e{n} up" for n in more])
        yield a, r, b


@contextmanager
def _kernel(ports: int, rules: str, seen_as: str) -> Iterator[Way]:
    with _around_router(ports) as (a, r, b):
        addresses = ["addr add 10.0.1.1/24 dev v0", "addr add 198.51.100.1/24 dev v1"]
        addresses += [f"addr add 172.16.{n}.1/24 dev v{n}" for n in range(2, ports)]
        _batch(r, addresses)
        run("ip", "netns", "exec", r, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        if rules:
            run("ip", "netns", "exec", r, "nft", "-f", "-", text=rules)
        yield _path(a, b, seen_as)


def forwarding(ports: int) -> AbstractContextManager[Way]:
    """The kernel's forwarding: routes, no rules, no connection tracking."""
    return _kernel(ports, "", CLIENT)


def _nft_rules() -> str:
    drops = "\n".join(f"    ip saddr 192.0.2.{n % 250 + 1} tcp dport {10000 + n} drop" for n in range(RULES))
    return f"""
table ip bench {{
  chain rules {{
{drops}
    accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    jump rules
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr 10.0.0.0/8 oifname "v1" snat to {TRANSLATED}
  }}
}}
"""


def nftables(ports: int) -> AbstractContextManager[Way]:
    """The same with connection tracking, source NAT, and 200 rules that new connections pass."""
    return _kernel(ports, _nft_rules(), TRANSLATED)


# -- Open vSwitch --------------------------------------------------------------------------------------------------


def _ovs_flows(client_mac: str, server_mac: str, router_macs: tuple[str, str]) -> str:
    """What the nftables rules say, in OpenFlow. MAC addresses that a router has: towards the client, the server."""
    lines = ["table=0,priority=1,ip,actions=ct(table=1,zone=1,nat)"]
    lines += ["table=1,priority=9,ct_state=+trk+inv,ip,actions=drop"]
    lines += [f"table=1,priority=8,ct_state=+trk+{state},ip,actions=resubmit(,3)" for state in ("est", "rel")]
    lines += ["table=1,priority=7,ct_state=+trk+new,ip,in_port=1,actions=resubmit(,2)"]
    lines += [
        f"table=2,priority={1000 - n},tcp,nw_src=192.0.2.{n % 250 + 1},tp_dst={10000 + n},actions=drop"
        for n in range(RULES)
    ]
    lines += [f"table=2,priority=1,ip,actions=ct(commit,zone=1,nat(src={TRANSLATED}),table=3)"]
    for number, (source, destination) in {1: (router_macs[1], server_mac), 2: (router_macs[0], client_mac)}.items():
        out = 3 - number
        actions = f"mod_dl_src:{source},mod_dl_dst:{destination},dec_ttl,output:{out}"
        lines += [f"table=3,priority=1,ip,in_port={number},actions={actions}"]
    return "\n".join(lines) + "\n"


@contextmanager
def _switch(r: str, tso: bool) -> Iterator[dict[str, str]]:
    """A database and a switch of our own in this namespace; the environment in which its tools find it."""
    with tempfile.TemporaryDirectory(prefix="bench-ovs-") as folder, ExitStack() as stack:
        env = {f"OVS_{kind}": folder for kind in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")}
        database, log = f"{folder}/conf.db", f"{folder}/db.sock"
        run("ovsdb-tool", "create", database, str(_SCHEMA), env=env)
        commands = [
            ["ovsdb-server", database, f"--remote=punix:{log}", f"--unixctl={folder}/db.ctl"],
            ["ovs-vswitchd", f"unix:{log}", f"--unixctl={folder}/switch.ctl"],
        ]
        for number, command in enumerate(commands):
            output = stack.enter_context(open(f"{folder}/{number}.txt", "wb"))
            child = subprocess.Popen(
                tied("ip", "netns", "exec", r, *command, "-vconsole:warn", "-vsyslog:off"),
                env={**os.environ, **env},
                stdout=output,
                stderr=output,
            )
            stack.callback(_end, child)
            if number == 0:
                _eventually(lambda: os.path.exists(log), "ovsdb-server")
                run("ovs-vsctl", "--no-wait", "init", env=env)
                setting = f"other_config:userspace-tso-enable={'true' if tso else 'false'}"
                run("ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", setting, env=env)
        yield env


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _eventually(holds: Callable[[], object], what: str, limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise CannotRun(f"{what} did not come up")
        time.sleep(0.01)


@contextmanager
def _open_vswitch(ports: int, tso: bool) -> Iterator[Way]:
    with _around_router(ports) as (a, r, b), _switch(r, tso) as env:
        if not tso:  # without it the switch reads no offload headers: checksums must be right when it gets a frame
            for host in (a, b):
                _offload(host, "eth0", "tx", "off")
        words = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail-mode=secure"]
        for n in range(ports):
            words += ["--", "add-port", "br0", f"v{n}", "--", "set", "interface", f"v{n}", f"ofport_request={n + 1}"]
        run("ovs-vsctl", *words, env=env)
        if len(run("ovs-vsctl", "list-ports", "br0", env=env).split()) != ports:
            raise CannotRun("ovs-vsctl: ports are missing")
        macs = (_mac(r, "v0"), _mac(r, "v1"))
        run("ovs-ofctl", "add-flows", "br0", "-", text=_ovs_flows(_mac(a, "eth0"), _mac(b, "eth0"), macs), env=env)
        _batch(a, [f"neigh replace 10.0.1.1 lladdr {macs[0]} dev eth0 nud permanent"])
        _batch(b, [f"neigh replace 198.51.100.1 lladdr {macs[1]} dev eth0 nud permanent"])
        if problems := run("ovs-vsctl", "--bare", "--columns=error", "list", "interface", env=env).strip():
            raise CannotRun(f"ovs-vsctl: {problems}")
        yield _path(a, b, TRANSLATED)


def ovs(ports: int) -> AbstractContextManager[Way]:
    """Open vSwitch's userspace datapath with connection tracking, source NAT and 200 rules, stock."""
    return _open_vswitch(ports, tso=False)


def ovs_tso(ports: int) -> AbstractContextManager[Way]:
    """The same with userspace-tso-enable."""
    return _open_vswitch(ports, tso=True)


VETH = Peer(name="bare veth", bed=veth)
FORWARDING = Peer(name="kernel forwarding", bed=forwarding)
NFTABLES = Peer(name="kernel + nftables", bed=nftables, needs=(("nft", "nftables"),))
_SWITCH = (("ovs-vswitchd", "openvswitch-switch"), ("ovsdb-server", "openvswitch-switch"))
OVS = Peer(name="OVS userspace", bed=ovs, needs=_SWITCH)
OVS_TSO = Peer(name="OVS userspace, TSO", bed=ovs_tso, needs=_SWITCH)
