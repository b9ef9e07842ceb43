# What leaves: frames, edited and cut to size, until their ports take them.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.packet cimport edit, packet
from fastpath.wire cimport VNET_HEADER

cdef enum:
    MAX_EMISSIONS = 4096    # per burst
    SLOT_HEADROOM = 96      # free bytes in front of every frame: the offload header is written there, and outer headers
    SCRATCH = 6 << 20       # bytes for frames the router makes in one burst
    NO_PARENT = 0xFFFFFFFFU

cdef struct emission:
    uint8_t *frame          # a VNET_HEADER in front of it is ours too
    uint32_t length
    uint32_t port
    uint32_t parent         # index of the received packet in its burst; NO_PARENT: from advance
    uint32_t segments
    uint8_t cause
    uint8_t vnet[VNET_HEADER]

cdef struct outbox:
    emission *rows
    uint32_t count
    uint8_t *scratch
    uint32_t used           # bytes of it

cdef bint outbox_open(outbox *o) noexcept nogil
cdef void outbox_close(outbox *o) noexcept nogil
cdef void outbox_clear(outbox *o) noexcept nogil
cdef uint8_t *scratch_frame(outbox *o, uint32_t size) noexcept nogil
cdef bint put(outbox *o, packet *p, uint8_t *frame, uint32_t length, uint32_t port, uint8_t cause, uint32_t parent) noexcept nogil
cdef void finish(packet *p) noexcept nogil
cdef uint16_t send(outbox *o, packet *p, const edit *e, uint8_t cause, uint32_t parent) noexcept nogil
cdef uint8_t *apply_edit(packet *p, const edit *e, uint32_t *length) noexcept nogil
