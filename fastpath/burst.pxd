# Frames that are received together.

from libc.stdint cimport uint32_t

from fastpath.core cimport core
from fastpath.flow cimport arrival

# Receive up to BURST frames, as if one after the other. Returns how many: with `limited`, no more once what has been
# emitted takes half of the room for it.
cdef uint32_t receive_burst(core *c, arrival *rows, uint32_t count, bint limited) noexcept nogil
