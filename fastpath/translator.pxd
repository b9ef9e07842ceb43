# Port translation: many inside, few addresses outside.

from fastpath.plan cimport walker
from fastpath.snapshot cimport node

cdef enum:
    FROM_INSIDE = 0
    FROM_OUTSIDE = 1

cdef bint nat_session(walker *w, const node *n) noexcept nogil
# The packet goes on as one that an interface of ours sends: if it has just been translated, it has left the gateway.
cdef void leave_gateway(walker *w) noexcept nogil
