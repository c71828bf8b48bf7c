"""How many connections the process has file descriptors for.

Each connection takes one, and so does each file of the log. Without a limit a peer that
only connects takes them all; then the log can open no file, and a broker that was well
fails stop. So a part is kept for the log, and grpc closes connections beyond the rest.
"""

from __future__ import annotations

import resource

from hermes import limits


def raise_descriptors_limit() -> None:
    """Ask for what all connections need, as far as this user may. For the process's owner."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = limits.CONNECTIONS_MAX + limits.DESCRIPTORS_RESERVED
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_max() -> int:
    """Connections that leave the log its part of the descriptors; at least a few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    left = soft - limits.DESCRIPTORS_RESERVED
    return max(limits.CONNECTIONS_MIN, min(limits.CONNECTIONS_MAX, left))
