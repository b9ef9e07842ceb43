# Port translation: many inside, few addresses outside.

from fastpath.plan cimport walker
from fastpath.snapshot cimport node

cdef enum:
    FROM_INSIDE = 0
    FROM_OUTSIDE = 1

cdef bint nat_session(walker *w, const node *n) noexcept nogil
# The walker's own hop refused what had just been translated: it has not left.
cdef void not_passed(walker *w) noexcept nogil
