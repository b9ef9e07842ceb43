"""What root in a node may never do: things that concern the machine and no network (capabilities(7)).

Everything that starts in a node loses them from its bounding set, so that no set-user-id program gives them back. The
rest stays: daemons of routing protocols, VPNs and firewalls want much of it, and files are this machine's anyway.
"""

from __future__ import annotations

from lab.syscalls import drop_capability, inherit_no_capabilities

# AUDIT_CONTROL stays: who opens a session (sshd, cron, login) writes /proc/self/loginuid and ends where that is refused
# (pam_loginuid(8)).
DROPPED = {
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_PACCT": 20,
    "SYS_BOOT": 22,  # reboot(2) in a PID namespace ends all of it: the lab
    "SYS_TIME": 25,  # time servers would set this machine's clock
    "SYS_TTY_CONFIG": 26,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    "SYSLOG": 34,
    "WAKE_ALARM": 35,
    "BLOCK_SUSPEND": 36,
    "AUDIT_READ": 37,
}
"""Name without ``CAP_`` -> number, of `linux/capability.h`."""


def limit() -> None:
    """Of what this process executes from now on, take `DROPPED` away; what it may do itself stays. Raises OSError."""
    for number in DROPPED.values():
        drop_capability(number)
    inherit_no_capabilities()
