"""Sends frames over and over, until it is killed; they come as one line of JSON, a list of hexadecimal texts.

Run inside a node, as `python3 flood.py DEVICE`. Says ``up`` once it has sent each of them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys


def main() -> None:
    """Flood."""
    frames = [bytes.fromhex(each) for each in json.loads(sys.stdin.readline())]
    line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    line.bind((sys.argv[1], 0))
    begun = False
    while True:
        for frame in frames:
            with contextlib.suppress(OSError):  # no room: the next one
                line.send(frame)
        if not begun:
            print("up", flush=True)
            begun = True


if __name__ == "__main__":
    main()
