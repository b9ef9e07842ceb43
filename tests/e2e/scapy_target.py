"""A target of a gateway load balancer on scapy's GENEVE layer: scapy alone decodes and encodes what it gives back.

    python3 scapy_target.py HEALTH_PORT [SECONDS]

It knows nothing of vpclab. It is slow, takes SECONDS more for each packet, and sends each packet back in a new outer
packet: addresses swapped, ports not.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
import time

from scapy.config import conf
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP

GENEVE_PORT = 6081


def turned(outer: IP) -> IP:
    """The packet that gives back what is inside another."""
    tunnel = outer[GENEVE]
    fields = {name: tunnel.getfieldval(name) for name in ("version", "oam", "critical", "proto", "vni", "options")}
    head = IP(src=outer.dst, dst=outer.src) / UDP(sport=outer[UDP].sport, dport=GENEVE_PORT)
    return head / GENEVE(**fields) / tunnel.payload


def main() -> None:
    """Answer health checks, and give packets back, for ever."""
    server = http.server.HTTPServer(("", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    sender = conf.L3socket()
    slowness_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        outer = IP(receiver.recv(65535))
        if UDP in outer and outer[UDP].dport == GENEVE_PORT and GENEVE in outer:
            time.sleep(slowness_s)
            sender.send(turned(outer))


if __name__ == "__main__":
    main()
