# Which rules of a long list match, without looking at each. How: classifier.pyx.

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.lpm cimport lpm_table
from fastpath.lpm_build cimport Store
from fastpath.packet cimport addr
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

cdef enum:
    CLASSIFY_FROM = 8       # rules; shorter lists are looked through
    CLASSIFY_MOST = 16384

cdef struct rule:
    uint32_t number         # what a trace shows
    int16_t protocol        # -1: any
    uint8_t allow
    uint8_t family          # of the prefix; 0 with a table or a group
    uint16_t port_first
    uint16_t port_last
    int16_t icmp_type       # -1: any
    int16_t icmp_code
    uint8_t any_port
    uint8_t any_address     # a prefix of length 0
    uint32_t table          # index + 1 of an interval table; 0: none
    uint32_t group          # number of a group; 0: none
    addr first              # the prefix as a range
    addr last

# Sets of rules are bit vectors of `words` words; a class is the number of one.
cdef struct classifier:
    lpm_table addresses         # address -> class
    lpm_table services          # service_key -> class
    const uint64_t *by_address  # classes of addresses, one after the other
    const uint64_t *by_service
    const uint64_t *grouped     # the rules that ask for a group besides
    const uint64_t *anywhere    # the rules for any address
    const uint32_t *open_ports  # first << 16 | last of the UDP ports those admit, ascending, apart from each other
    uint32_t open_from[3]       # where they begin for IPv4 and for IPv6; where the last ones end
    uint32_t words

# What of a packet, besides addresses and groups, rules look at.
cdef inline uint32_t service_key(uint8_t protocol, uint16_t port, uint8_t icmp_type, uint8_t icmp_code) noexcept nogil:
    # without a branch: which protocol comes next is anybody's guess
    cdef uint32_t has_ports = (protocol == PROTO_TCP) | (protocol == PROTO_UDP)
    cdef uint32_t has_type = (protocol == PROTO_ICMP) | (protocol == PROTO_ICMPV6)
    cdef uint32_t kind = <uint32_t>icmp_type << 8 | icmp_code
    return <uint32_t>protocol << 16 | (port & (0 - has_ports)) | (kind & (0 - has_type))

# The rules whose clauses about address and service both hold; those `grouped` ask for more.
cdef struct candidates:
    const uint64_t *address
    const uint64_t *service
cdef candidates classify(const classifier *c, uint8_t family, addr remote, uint32_t service) noexcept nogil
# For `n` packets, IPv4 remote addresses and services: number of the first rule + 1, or 0. Their senders are in no group.
cdef void classify_many4(const classifier *c, const uint32_t *remotes, const uint32_t *services, uint32_t *out, size_t n,
                         int level=*) noexcept nogil
# Does a rule for any address admit this UDP port?
cdef bint open_to_all(const classifier *c, uint8_t family, uint16_t port) noexcept nogil

# Rules `at` to `at + removed` of an old list give way to `added` new ones, which stand from `first` on in the new list.
# Several splices of one list ascend and do not touch what others take out.
cdef struct splice:
    uint32_t at
    uint32_t removed
    uint32_t first
    uint32_t added


cdef class Classifier:
    """One list's, shared by the Snapshots that have that list."""
    cdef classifier c
    cdef Store _store
    cdef uint32_t _address_classes
    cdef uint32_t _service_classes
    cdef int put_open_ports(self, const rule *rules, uint32_t count) except -1

# Of a list of `count` rules, made of that of `before` (None: an empty one) by `n` splices, at least one. `tables`: the
# intervals of tables by index, as dataplane.compile makes them.
cdef Classifier classified(Classifier before, const rule *rules, uint32_t count, const splice *s, uint32_t n, object tables)
