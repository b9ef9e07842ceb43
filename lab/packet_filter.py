"""Filters of captures in tcpdump's syntax (pcap-filter(7)), compiled and run by libpcap."""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from collections.abc import Mapping, Sequence

from dataplane.errors import LabError
from lab.control import RequestError
from lab.filter_names import with_addresses
from lab.preflight import PCAP_PACKAGE, apt_line

_NAMES = ("libpcap.so.0.8", "libpcap.so.1")
_ETHERNET, _RAW_IP = 1, 12
"""DLT_EN10MB and DLT_RAW, as libpcap numbers them on Linux."""
_SNAPLEN = 262144
_NETMASK_UNKNOWN = 0xFFFFFFFF
_compiling = threading.Lock()


class _Program(ctypes.Structure):
    """``struct bpf_program``."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class _Instruction(ctypes.Structure):
    """``struct bpf_insn``."""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


_NOTHING = _Instruction(0x06, 0, 0, 0)
"""``ret #0``: no packet passes."""
_CLASS, _MODE, _LOADS, _ABSOLUTE = 0x07, 0xE0, (0, 1), 0x20
_ANCILLARY = 0xFFFFF000
"""Loads from here on ask Linux's socket for what stands in no packet (``SKF_AD_OFF``)."""
_REJECTS_ALL = "rejects all packets"


class PacketFilter:
    """One filter, for frames and for packets without an Ethernet header.

    The recorder calls libpcap by `keeps` with `programs`; they are valid as long as this object lives.
    """

    def __init__(
        self, text: str, nodes: Mapping[str, Sequence[str]] | None = None, *, frames: bool = True, bare: bool = True
    ) -> None:
        """Compile a filter for points where packets have an Ethernet header (`frames`), and where not (`bare`).

        Where packets have no Ethernet header, one that can never match there (`arp`) keeps nothing, unless that is all.

        `nodes`: what names of hosts may stand in it, and their addresses.

        Raises:
            RequestError: libpcap refuses it, for the reason it gives; or it has a name that is no node's.
            LabError: libpcap is not installed.
        """
        self._text = text
        if not all(each.isprintable() or each.isspace() for each in text):
            raise RequestError(f"filter {text!r} has characters that are no text")
        text, unknown = with_addresses(text, nodes or {})
        self._library = _load()
        self._compiled: list[_Program] = []
        self.keeps: int = ctypes.cast(self._library.bpf_filter, ctypes.c_void_p).value or 0
        wanted = ((frames, _ETHERNET), (bare, _RAW_IP))
        first, second = (self._compile(text, link, other=frames) if wants else 0 for wants, link in wanted)
        self.programs = (first, second)
        if unknown:
            raise RequestError(
                f"filter {self._text!r}: no node is called {unknown!r}; others are named by their addresses"
            )

    def matches(self, data: bytes, *, bare: bool = False) -> bool:
        """Whether a packet passes."""
        found: int = self._library.bpf_filter(self.programs[bare], data, len(data), len(data))
        return found != 0

    def _compile(self, text: str, link: int, *, other: bool) -> int:
        library, program = self._library, _Program()
        with _compiling:
            handle = library.pcap_open_dead(link, _SNAPLEN)
            try:
                if library.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, _NETMASK_UNKNOWN) != 0:
                    why = library.pcap_geterr(handle).decode(errors="replace")
                    if other and link == _RAW_IP and _REJECTS_ALL in why:
                        return ctypes.addressof(_NOTHING)
                    where = "" if link == _ETHERNET else " (packets have no Ethernet header at this point)"
                    raise RequestError(f"filter {self._text!r}: {why}{where}")
            finally:
                library.pcap_close(handle)
        self._compiled.append(program)
        rows = ctypes.cast(program.instructions, ctypes.POINTER(_Instruction))
        for each in rows[: program.length]:
            if each.code & _CLASS in _LOADS and each.code & _MODE == _ABSOLUTE and each.k >= _ANCILLARY:
                why = "directions and interfaces are those of points; leave them out"
                raise RequestError(f"filter {self._text!r}: {why}")
        return int(program.instructions)

    def __del__(self) -> None:
        for program in getattr(self, "_compiled", ()):
            self._library.pcap_freecode(ctypes.byref(program))


def _load() -> ctypes.CDLL:
    for name in (*_NAMES, ctypes.util.find_library("pcap") or ""):
        if not name:
            continue
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        program = ctypes.POINTER(_Program)
        library.pcap_compile.argtypes = (ctypes.c_void_p, program, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32)
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        library.pcap_close.restype = None
        library.pcap_freecode.argtypes = (program,)
        library.pcap_freecode.restype = None
        library.bpf_filter.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint)
        library.bpf_filter.restype = ctypes.c_uint
        return library
    raise LabError(f"filters are compiled by libpcap, which is not installed; run: {apt_line(PCAP_PACKAGE)}")
