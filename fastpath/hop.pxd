# MTU and TTL of a gateway; the error about a packet that does not get over them.

from libc.stdint cimport uint32_t

from fastpath.plan cimport walker
from fastpath.snapshot cimport node

cdef bint fits(walker *w, const node *n) noexcept nogil     # False: dropped. `n.mtu` is not 0
cdef void clamp(walker *w, uint32_t mtu) noexcept nogil
cdef bint pass_hop(walker *w, const node *n) noexcept nogil
