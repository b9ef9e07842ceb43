"""Loops over our own tables, for benchmarks only: what Python and a call from it would add is not in them.

Each `run` walks a whole trace, adds the answers up and stores them if it is given room. Arrays come as addresses.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from fastpath.packet cimport addr, header, packet
from fastpath.plan cimport plan, walker
from fastpath.snapshot cimport Snapshot, interval_find, interval_table, rule, rule_list
from fastpath.tracking cimport rule_matches


def lookup4(Snapshot snapshot not None, uint32_t table, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """IPv4 addresses of 32 bits."""
    cdef interval_table *t = &snapshot.t.intervals[table]
    cdef uint32_t *k = <uint32_t *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t i, value
    cdef uint64_t total = 0
    cdef addr at
    at.hi = 0
    with nogil:
        for i in range(count):
            at.lo = k[i]
            value = interval_find(t, 4, at)
            total += value
            if a != NULL:
                a[i] = value
    return total


def lookup6(Snapshot snapshot not None, uint32_t table, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """IPv6 addresses, each as two numbers of 64 bits."""
    cdef interval_table *t = &snapshot.t.intervals[table]
    cdef addr *k = <addr *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t i, value
    cdef uint64_t total = 0
    with nogil:
        for i in range(count):
            value = interval_find(t, 6, k[i])
            total += value
            if a != NULL:
                a[i] = value
    return total
