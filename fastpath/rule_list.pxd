# Lists of rules, each shared by the Snapshots that have it.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.classifier cimport Classifier, classifier, rule

# A bit for each (family, protocol): the rules admit all ports from anywhere, 1 and 2 IPv4 TCP and UDP, 4 and 8 IPv6.
# A flow admitted by such a pair of directions is not tracked (EC2 User Guide, "Untracked connections").
cdef struct rule_list:
    const rule *rules
    const classifier *classes   # NULL: a short list
    uint32_t count
    uint8_t open


cdef class RuleList:
    cdef rule_list l
    cdef rule *_rows
    cdef Classifier _classes
    cdef readonly uint64_t bytes
