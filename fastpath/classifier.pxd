# Which rules of a long list match, without looking at each. How: classifier.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.lpm cimport Store, lpm_table
from fastpath.packet cimport addr

cdef enum:
    CLASSIFY_FROM = 8       # rules; shorter lists are looked through
    CLASSIFY_MOST = 16384

# Sets of rules are bit vectors of `words` words; a class is the number of one.
cdef struct classifier:
    lpm_table addresses         # address -> class
    lpm_table services          # service_key -> class
    const uint64_t *by_address  # classes of addresses, one after the other
    const uint64_t *by_service
    const uint64_t *grouped     # the rules that ask for a group besides
    const uint64_t *anywhere    # the rules for any address
    const uint32_t *open_ports  # first << 16 | last of what those admit, ascending, apart from each other
    uint32_t open_from[5]       # where they begin for IPv4 TCP, IPv4 UDP, IPv6 TCP, IPv6 UDP; where the last ones end
    uint32_t words

# What of a packet, besides addresses and groups, rules look at.
cdef uint32_t service_key(uint8_t protocol, uint16_t port, uint8_t icmp_type, uint8_t icmp_code) noexcept nogil
# The rules whose clauses about address and service both hold; those `grouped` ask for more.
cdef struct candidates:
    const uint64_t *address
    const uint64_t *service
cdef candidates classify(const classifier *c, uint8_t family, addr remote, uint32_t service) noexcept nogil
# Does a rule for any address admit this port? The protocol is TCP or UDP.
cdef bint open_to_all(const classifier *c, uint8_t family, uint8_t protocol, uint16_t port) noexcept nogil


cdef class Classifier:
    """One list's, built once and shared by the Snapshots that have that list."""
    cdef classifier c
    cdef Store _store
    cdef int put_open_ports(self, list rules) except -1
