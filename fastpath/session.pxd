# The one session table: group tracking and NAT are kinds of its rows.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.footing cimport parts
from fastpath.memo cimport flow_table, mixed_words
from fastpath.packet cimport tuple5
from fastpath.snapshot cimport timeouts

cdef enum session_kind:
    SESSION_GROUP = 1       # owner: an interface. Both keys are one tuple and its reverse
    SESSION_NAT = 2         # owner: a NAT gateway. Second key: replies, to the translated address and port
    SESSION_POOL = 3        # owner: a NAT gateway. Counts its flows from one address towards one destination
    SESSION_FLOW = 4        # owner: a gate that remembers flows. Both keys are one tuple and its reverse
    SESSION_BALANCED = 5    # owner: a tunnel. First key: the smaller of its tuple and the reverse; second: its cookie
    SESSION_STICKY = 6      # owner: a tunnel. Counts its flows between two addresses; new ones get its member

cdef enum session_state:
    STATE_OPENING = 1       # TCP: not yet seen both ways
    STATE_OPEN = 2          # TCP: established
    STATE_CLOSING = 3       # TCP: FIN both ways, or RST
    STATE_SINGLE = 4        # UDP: one way, or one request and its reply
    STATE_REPLIED = 5       # UDP: the reply came; the next request makes it a stream
    STATE_STREAM = 6
    STATE_QUERY = 7         # ICMP
    STATE_OTHER = 8

cdef enum tcp_seen:
    SEEN_REPLY = 1          # the far side has sent
    SEEN_FIN_FORWARD = 2
    SEEN_FIN_REPLY = 4
    SEEN_ACK_FORWARD = 8
    SEEN_ACK_REPLY = 16

# `direction` is that of the packet relative to the owner (0: the owner has none), so that a packet which comes back
# in is never taken for the one that went out.
cdef struct session_key:
    tuple5 tuple
    uint32_t owner
    uint8_t direction

# A reference is row * 2 + which key: what hash chains and lookups give. NO_SESSION ends a chain.
cdef enum:
    NO_SESSION = 0xFFFFFFFFU

cdef enum:
    PIECE_UNSUMMED = 128    # of UDP without a checksum

# What the first piece of a datagram said of itself, for those behind it.
cdef struct first_piece:
    uint16_t sport
    uint16_t dport
    uint8_t kind            # + 1, and PIECE_UNSUMMED; 0: there was none
    uint8_t icmp_type
    uint8_t icmp_code
    uint8_t query

cdef struct session:
    session_key key[2]      # [0]: packets of the opener's direction, as its owner sees them; [1]: replies
    uint32_t next[2]        # hash chain of each key; next[0] also links free rows
    uint64_t opened         # milliseconds
    uint64_t last_seen      # this, packets and bytes lack what flow entries have not told yet, see `settle`
    uint64_t idle           # milliseconds of silence it survives, from its state and its owner's limits
    uint64_t packets[2]     # per direction; SESSION_POOL, SESSION_STICKY: packets[0] counts flows
    uint64_t bytes[2]
    uint32_t version        # changes with its state
    uint32_t flows          # first of the links to flow entries that stand or fall with it; 0: none
    uint32_t rule           # what admitted it
    uint32_t pool           # SESSION_NAT, SESSION_BALANCED: its SESSION_POOL or SESSION_STICKY row, or NO_SESSION
    uint32_t gateway        # SESSION_NAT: index + 1 of the gateway that counts it
    uint32_t cookie         # SESSION_BALANCED
    uint32_t target         # SESSION_BALANCED, SESSION_STICKY: number of the member
    uint8_t flipped         # SESSION_BALANCED: its first key is the reverse of the opener's tuple
    first_piece piece[2]    # SESSION_BALANCED, each way: the last one that went to the member
    uint8_t live
    uint8_t kind
    uint8_t state
    uint8_t seen            # tcp_seen
    uint32_t opener         # port whose packet has opened it; 0: none has

# What a translator has counted since it was first seen. Each pair: from inside, from outside.
cdef struct gateway:
    uint32_t owner
    uint64_t packets_in[2]
    uint64_t bytes_in[2]    # of IP packets
    uint64_t packets_out[2]
    uint64_t bytes_out[2]
    uint64_t attempts       # TCP connections opened
    uint64_t established
    uint64_t exhausted      # packets that found no free port
    uint64_t timed_out      # connections that died of silence

cdef struct session_table:
    session *rows
    gateway *gateways       # not owned; NULL in tables that count nothing
    uint32_t *gateway_of    # not owned: by index of a translator in the tables in use, its index in `gateways`
    uint32_t *held          # not owned: by port, how many sessions its packets have opened; NULL in tables that do not count it
    uint32_t ports
    uint32_t *buckets
    flow_table *flows       # not owned; NULL in tables that no flow entries depend on
    uint32_t *absent        # per bucket: first of the links to flow entries that depend on what is not there; 0: none
    uint32_t *opened        # by a hash of their keys: how many balanced flows were opened, which makes cookies differ
    uint32_t capacity
    uint32_t mask
    uint32_t used           # rows 0..used-1 have been in use at some time
    uint32_t free           # first free row below `used`, linked by next[0]
    uint32_t live
    uint32_t swept          # the row where `table_age` goes on
    uint64_t nat_until      # no SESSION_NAT dies before, as far as its flow entries have told
    uint64_t secret         # of the buckets: new at each start
    uint64_t seed           # of what shows: the same lab and packets, the same cookies

# A change of one session, worked out by a plan and carried out by a commit.
cdef struct session_step:
    uint8_t state
    uint8_t seen
    uint64_t idle


cdef bint table_open(session_table *t, uint32_t capacity, uint64_t seed) noexcept nogil
cdef void table_close(session_table *t) noexcept nogil
cdef uint64_t hash_bytes(const void *data, uint32_t size, uint64_t secret) noexcept nogil
# Where it is counted how often a balanced flow with this key, or one with the same hash, was opened.
cdef uint32_t *openings(session_table *t, const session_key *key) noexcept nogil
cdef void reverse_tuple(tuple5 *out, const tuple5 *t) noexcept nogil
cdef void session_key_of(session_key *key, uint32_t owner, uint8_t direction, const tuple5 *t) noexcept nogil
cdef uint32_t table_find(session_table *t, const session_key *key, uint64_t now) noexcept nogil
cdef uint32_t table_insert(session_table *t, const session_key *forward, const session_key *reply, uint64_t now) noexcept nogil
cdef void table_remove(session_table *t, uint32_t row, uint64_t now) noexcept nogil
# The session has another state, or another target: what was remembered of its flows does not hold any more.
cdef void session_changed(session_table *t, session *s) noexcept nogil
# Is it alive, with all that flow entries know of it?
cdef bint alive(session_table *t, session *s, uint64_t now) noexcept nogil
# Entry `row` stands or falls with `target`, see `flow_link`. False: no room for another link.
cdef bint flow_tie(session_table *t, uint32_t row, uint8_t kind, uint32_t target, uint8_t way, uint8_t layer) noexcept nogil
# Tell sessions and gateways what went by since they were told last: an entry, or all of a session.
cdef void flow_settle(session_table *t, uint32_t row) noexcept nogil
cdef void settle(session_table *t, const session *s) noexcept nogil
# The only way that an entry ends.
cdef void flow_retire(session_table *t, uint32_t row) noexcept nogil
# Delete all entries in a list of links.
cdef void retire_tied(session_table *t, const uint32_t *head) noexcept nogil
# Look at so many rows more for entries that no packet will be met by again; the whole table comes by in turn.
cdef void flows_age(session_table *t, uint32_t count) noexcept nogil
cdef bint flow_holds(session_table *t, uint32_t row) noexcept nogil
# From now on there are other tables, which differ in these parts; NULL: perhaps in all. What rests on them is found one by one.
cdef void flows_swap(session_table *t, const parts *changes) noexcept nogil
cdef void flows_settle(session_table *t) noexcept nogil
cdef void flows_retire(session_table *t) noexcept nogil
# The same of so many rows; the whole table comes by in turn.
cdef void table_age(session_table *t, uint32_t count, uint64_t now) noexcept nogil
cdef uint32_t table_expire(session_table *t, uint64_t now) noexcept nogil
# Translated session `s` has another deadline, or has just been opened: see `nat_until`.
cdef void note_deadline(session_table *t, const session *s) noexcept nogil
# What is wrong with the table (`where`: which row or bucket), or NULL. For tests.
cdef const char *table_broken(session_table *t, uint32_t *where) noexcept nogil
cdef void session_begin(session_step *step, uint8_t proto, uint8_t tcp_flags, const timeouts *limits) noexcept nogil
cdef void session_next(session_step *step, uint8_t state, uint8_t seen, uint8_t proto, int way, uint8_t tcp_flags,
                       const timeouts *limits) noexcept nogil
cdef uint64_t state_limit(uint8_t state, const timeouts *limits) noexcept nogil


# Keys are structures without a byte that is not set, and of whole words.
cdef inline bint same_key(const session_key *a, const session_key *b) noexcept nogil:
    cdef const uint64_t *x = <const uint64_t *>a
    cdef const uint64_t *y = <const uint64_t *>b
    cdef uint64_t differ = 0
    cdef uint32_t i
    for i in range(sizeof(session_key) // 8):
        differ |= x[i] ^ y[i]
    return differ == 0


# Which bucket a key belongs to.
cdef inline uint32_t bucket_of(const session_table *t, const session_key *key) noexcept nogil:
    cdef const uint64_t *word = <const uint64_t *>key
    cdef uint64_t h = t.secret ^ <uint64_t>0x9E3779B97F4A7C15U
    cdef uint32_t i
    for i in range(sizeof(session_key) // 16):
        h = mixed_words(h ^ word[2 * i], word[2 * i + 1] ^ <uint64_t>0xD6E8FEB86659FD93U)
    return <uint32_t>(h ^ (h >> 32)) & t.mask


cdef inline void count_gateway(gateway *g, uint8_t way, uint64_t packets, uint64_t size, uint64_t size_out,
                               bint passed) noexcept nogil:
    g.packets_in[way] += packets
    g.bytes_in[way] += size
    if passed:
        g.packets_out[way] += packets
        g.bytes_out[way] += size_out


# Packets of a balanced session that go the opener's way (0) or back (1).
cdef inline void way_tuple(session *s, int way, tuple5 *t) noexcept nogil:
    t[0] = s.key[0].tuple
    if way != s.flipped:
        reverse_tuple(t, &s.key[0].tuple)


# As far as it has been told.
cdef inline bint session_alive(const session *s, uint64_t now) noexcept nogil:
    return s.live and (s.kind == SESSION_POOL or s.kind == SESSION_STICKY or now < s.last_seen + s.idle)
