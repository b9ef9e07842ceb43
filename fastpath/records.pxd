# Records of flows: what went by at a point of the graph, counted per flow and window of time.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport addr

cdef enum:
    NO_RECORD = 0xFFFFFFFFU
    LOST_POINTS = 1024      # points that may lack records at once, each named

# A structure without a byte that is not set, and of whole words.
cdef struct record_key:
    addr src
    addr dst
    uint32_t point          # number of what the packet went by at
    uint16_t sport          # 0 unless TCP or UDP
    uint16_t dport
    uint8_t proto
    uint8_t family
    uint8_t side            # direction, as the point sees it
    uint8_t refused         # a gate of that side let it not pass
    uint8_t path            # how it went on; 0: nobody knows
    uint8_t unused[3]

cdef struct record:
    record_key key
    uint64_t packets
    uint64_t bytes          # of IP packets
    uint64_t first          # milliseconds; 0: none yet
    uint64_t last
    uint32_t window
    uint32_t next           # of its hash chain; of a free row, the next free one
    uint32_t flows          # first of the links to flow entries that count for it; 0: none
    uint8_t tcp_flags
    uint8_t live

cdef struct lost_at:
    uint32_t point          # 0: free
    uint32_t window
    uint64_t packets

cdef struct record_table:
    record *rows
    uint32_t *buckets
    record *ring            # of windows that are over, until somebody takes them
    uint32_t capacity
    uint32_t mask
    uint32_t used           # rows 0..used-1 have been in use at some time
    uint32_t free
    uint32_t live
    uint32_t hand           # where the search for a row that can be had goes on
    uint32_t lost_flows     # first of the links to flow entries that count for what is lost; 0: none
    uint32_t ring_size
    uint32_t ring_first
    uint32_t ring_count
    uint32_t window         # the present one: (now + phase) // length
    uint32_t told           # all of windows before this one has been taken
    uint32_t since          # when it began: milliseconds, the lower half
    uint64_t until          # and when it ends
    uint64_t length         # milliseconds
    uint64_t phase
    uint64_t secret
    uint64_t lost_unnamed   # packets lost at points that there was no room to name
    lost_at lost[LOST_POINTS]


cdef bint records_open(record_table *t, uint32_t capacity, uint32_t ring_size, uint64_t length, uint64_t phase) noexcept nogil
cdef void records_close(record_table *t) noexcept nogil
# The window that holds `now` is the present one.
cdef void records_turn(record_table *t, uint64_t now) noexcept nogil
cdef uint32_t window_of(const record_table *t, uint64_t now) noexcept nogil
# The row of this flow, for something that goes by now. NO_RECORD: there is no room.
cdef uint32_t record_of(record_table *t, const record_key *key, uint64_t now) noexcept nogil
# Somebody who counts for this row has seen the first packet of the present window.
cdef void record_begin(record_table *t, uint32_t row, uint64_t now) noexcept nogil
# So many packets went by, the last of them at `seen`.
cdef void record_add(record_table *t, uint32_t row, uint64_t packets, uint64_t bytes, uint64_t seen, uint8_t tcp_flags) noexcept nogil
# So many packets went by at this point, that are in no record.
cdef void records_lose(record_table *t, uint32_t point, uint32_t window, uint64_t packets) noexcept nogil
# Put what a row has to tell into the ring. False: that has no room.
cdef bint record_tell(record_table *t, uint32_t row) noexcept nogil
# Free a row that has nothing to tell and nobody counts for.
cdef void record_forget(record_table *t, uint32_t row) noexcept nogil
# Take up to `count` records out of the ring. Returns how many there were.
cdef uint32_t records_take(record_table *t, record *out, uint32_t count) noexcept nogil
# What is wrong with the table (`where`: which row or bucket), or NULL. For tests.
cdef const char *records_broken(const record_table *t, uint32_t *where) noexcept nogil
