# Lists of rules, each shared by the Snapshots that have it.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.classifier cimport Classifier, classifier, rule, splice
from fastpath.lpm cimport lpm_table

# A bit for each (family, protocol): the rules admit all ports from anywhere, 1 and 2 IPv4 TCP and UDP, 4 and 8 IPv6.
# A flow admitted by such a pair of directions is not tracked (EC2 User Guide, "Untracked connections").
cdef struct rule_list:
    const rule *rules
    const uint32_t *numbers     # the rules' numbers from 1 on, after a 0
    const classifier *classes   # NULL: a short list
    uint32_t count
    uint8_t open

# For `n` packets, IPv4 remote addresses and service keys: the number that the first rule shows, or 0. Their senders are in
# no group. `tables`: those that rules name.
cdef void first_rules4(const rule_list *l, const lpm_table *tables, const uint32_t *remotes, const uint32_t *services,
                       uint32_t *out, size_t n, int level=*) noexcept nogil


cdef class RuleList:
    cdef rule_list l
    cdef rule *_rows
    cdef uint32_t *_numbers
    cdef Classifier _classes
    cdef readonly uint64_t bytes
    cdef int read(self, list splices, splice *s, RuleList before) except -1
