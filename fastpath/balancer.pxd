# Flows through tunnels to spread members.

from libc.stdint cimport uint32_t

from fastpath.plan cimport walker
from fastpath.snapshot cimport node

cdef bint encapsulate(walker *w, const node *n) noexcept nogil
# Where the walk goes on; 0: nowhere, the packet was dropped.
cdef uint32_t decapsulate(walker *w, const node *n) noexcept nogil
