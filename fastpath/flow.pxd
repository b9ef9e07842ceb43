# What came, what became of it, and what is remembered of that.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.memo cimport bucket, flow_table, wide_key
from fastpath.packet cimport packet
from fastpath.plan cimport plan, trace_buffer
from fastpath.session cimport session_table
from fastpath.snapshot cimport tables

# One packet, as far as a flow entry asks. Valid until its bytes are edited.
cdef struct facts:
    uint8_t *frame
    uint32_t end            # as of `packet`
    uint32_t bytes          # of the IP packets it stands for
    uint32_t wire           # what counts against an MTU
    uint32_t segments
    uint16_t gso_size
    uint16_t header_length
    uint8_t gso_type
    uint8_t partial         # the checksum is left to hardware
    uint8_t family
    uint8_t l4              # offset from the frame
    uint8_t sum_at          # where its checksum is behind `l4`; 0: it has none
    uint8_t ttl
    uint8_t proto

cdef struct outcome:
    uint8_t verdict
    uint16_t reason
    uint32_t object
    uint32_t rule

cdef struct arrival:
    # set by who hands it over
    uint8_t *frame          # may be changed; SLOT_HEADROOM bytes lie in front of it
    const uint8_t *vnet     # struct virtio_net_hdr_v1, or NULL
    trace_buffer *trace     # to be filled, or NULL; what is traced always walks
    uint32_t length
    uint32_t context
    uint32_t parent
    outcome result          # what became of it
    # found out about it; unless `keyed`, it has no flow entry and gets none
    uint8_t keyed
    uint32_t tag
    bucket *home            # of the tag, while nothing else has been received
    uint32_t row            # of the entry that it may have
    uint64_t word[3]        # of its key
    wide_key *wide
    facts came
    facts *inside           # of the packet inside of it, if that is what decides

cdef void flow_remember(flow_table *t, session_table *sessions, tables *b, const arrival *a, const packet *p,
                        const plan *x) noexcept nogil
