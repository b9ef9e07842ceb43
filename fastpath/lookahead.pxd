# What is known of a burst before its packets are received: who may have a flow entry, and where that would be.

from libc.stdint cimport uint32_t

from fastpath.core cimport core
from fastpath.flow cimport arrival

# Read `count` frames, at most BURST; those that may have an entry are `keyed`. Their tables are in use.
cdef void look_ahead(core *c, arrival *rows, uint32_t count) noexcept nogil
