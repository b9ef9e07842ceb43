"""TAP devices: the node's end is a network device, our end a descriptor that the worker reads and writes.

The device is made *inside* the node's namespace. Moving it there would make the kernel wait for an RCU grace
period for every device, and that wait alone would be most of the time a lab takes to start.

It is persistent: closing the descriptor does not take the device away, which the kernel does one by one, waiting
each time. It goes with its namespace instead, and the kernel takes dead namespaces away many at a time. In a namespace
that is not ours it is not persistent: there it must go when the lab does, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from dataplane.errors import LabError

DEVICE = "/dev/net/tun"
VNET_HEADER_BYTES = 12
"""``struct virtio_net_hdr_v1`` in front of every frame, both ways."""

_NAME_BYTES = 15
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 0x01, 0x02, 0x04


def open_tap(device: str, *, persistent: bool = True, existing: bool = False) -> int:
    """Make a TAP device in the current network namespace; returns its descriptor (non-blocking, close-on-exec).

    With `existing`, take one over that is there, and leave it as persistent as it is.

    Offloads are what the worker can carry: partial checksums and TCP segmentation for both families. The kernel
    of the node does everything else in software before frames reach us. Raises OSError when the kernel refuses.
    """
    if len(device.encode()) > _NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), device)
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (0 if existing else _IFF_TUN_EXCL)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
        fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
        if persistent and not existing:
            fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_tun(*, rootless: bool) -> None:
    """Raise LabError, with the command that mends it, when TAP devices cannot be made by this process."""
    sudo = "sudo " if rootless else ""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fixes = {
            errno.ENOENT: f"run: {sudo}modprobe tun (in a container: start it with --device {DEVICE})",
            errno.ENODEV: f"run: {sudo}modprobe tun",
            errno.EACCES: f"run: {sudo}chmod 666 {DEVICE}",
            errno.EPERM: f"start the container with --device {DEVICE}",
        }
        fix = fixes.get(error.errno or 0, f"run: {sudo}modprobe tun")
        raise LabError(f"{DEVICE} cannot be opened ({error.strerror}); {fix}") from error
