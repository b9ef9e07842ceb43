# The parsed packet and what travels with it: the one vocabulary every compiled module shares.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

# Addresses are numbers in host order, so that tables compare them directly; IPv4 is in `lo`, `hi` is 0.
cdef struct addr:
    uint64_t hi
    uint64_t lo

cdef enum fragment_class:
    FRAGMENT_NONE = 0
    FRAGMENT_FIRST = 1
    FRAGMENT_LATER = 2

cdef enum l4_kind:
    L4_OTHER = 0        # addresses and protocol only
    L4_PORTS = 1        # TCP, UDP
    L4_QUERY = 2        # ICMP echo and its like: a request's identifier is its source port, a reply's its destination port
    L4_ERROR = 3        # an ICMP error; `inner_*` describe the packet it is about
    L4_ICMP = 4         # any other ICMP

# Which ICMP query a packet is; the lowest bit is set in replies, and is all that tells them from requests.
cdef enum icmp_query:
    QUERY_NONE = 0
    QUERY_ECHO = 2
    QUERY_ECHO_REPLY = 3
    QUERY_TIMESTAMP = 4
    QUERY_TIMESTAMP_REPLY = 5
    QUERY_NOTHING = 6       # of the tuple of a message that asks nothing: nobody answers it

cdef enum:
    MAX_CUTS = 4            # sizes one packet is cut to on its way, one after the other

# What the sessions of a flow are found by. For an ICMP error it is the tuple of a packet going the error's way.
cdef struct tuple5:
    addr src
    addr dst
    uint16_t sport
    uint16_t dport
    uint8_t proto
    uint8_t family
    uint8_t query           # icmp_query

# A frame and where its parts are; offsets count from `frame`. Valid until the bytes are edited.
cdef struct packet:
    uint8_t *frame
    uint32_t length
    uint32_t l3
    uint32_t l4
    uint32_t end            # one past the last byte of the IP packet (a frame may be padded)
    uint32_t context
    uint32_t neighbour      # node of the neighbour whose MAC it is for; 0: for the router's
    uint8_t family          # 4 or 6
    uint8_t proto
    uint8_t ttl
    uint8_t fragment        # fragment_class
    uint8_t kind            # l4_kind
    uint8_t tcp_flags
    uint8_t icmp_type
    uint8_t icmp_code
    uint8_t query           # icmp_query
    uint8_t dont_fragment   # always 1 for IPv6
    uint8_t generated       # made by the router: no errors about it
    uint8_t unsummed        # a first fragment of UDP without a checksum, or one that follows it
    addr src
    addr dst
    uint16_t sport
    uint16_t dport
    uint32_t fragment_id
    uint32_t fragment_offset
    # the packet an ICMP error is about, as far as it is quoted; inner_l4 0: no ports quoted. A later fragment
    # of an error knows it from the first one, and has none of its bytes (inner_l3 0).
    uint8_t inner_known     # its addresses are there
    uint8_t inner_identified    # and enough to say of which flow it is
    uint32_t inner_l3
    uint32_t inner_l4
    uint8_t inner_proto
    uint8_t inner_kind
    uint8_t inner_query
    addr inner_src
    addr inner_dst
    uint16_t inner_sport
    uint16_t inner_dport
    # offloads asked for by the sender's kernel (struct virtio_net_hdr_v1)
    uint8_t partial_checksum
    uint8_t gso_type
    uint16_t gso_size
    uint16_t header_length
    uint16_t csum_start
    uint16_t csum_offset
    uint32_t segments       # packets this frame stands for

# Metadata that travels with a packet through the graph; names of numbers are the lab's.
cdef struct metadata:
    uint32_t realm
    uint32_t subnet
    uint32_t zone
    uint32_t origin         # index + 1 of the interface it came from; 0: from none of ours
    uint32_t groups         # index + 1 of the sender's group set; 0: identity lost
    uint32_t via

# Header values that edits may change, as they are at one point of the walk.
cdef struct header:
    addr src
    addr dst
    uint16_t sport
    uint16_t dport
    addr inner_src
    addr inner_dst
    uint16_t inner_sport
    uint16_t inner_dport
    uint16_t mss            # largest that a SYN may ask for; 0: whatever it asks for
    uint8_t ttl_spent

# The headers that a packet travels behind while it is inside another one: IPv4, UDP and GENEVE (fastpath.geneve).
cdef struct outer:
    uint64_t endpoint
    uint32_t src
    uint32_t dst
    uint32_t cookie
    uint16_t sport
    uint16_t dport
    uint8_t ttl
    uint8_t used            # 0: it is not inside any
    uint8_t cuts_inside     # how many of the edit's cuts come before it is put inside

# The whole edit of one leg, applied at the end in one go and memoised in flow entries.
cdef struct edit:
    header to
    outer around
    uint32_t port
    uint32_t interface      # index + 1 of the one it leaves by
    uint32_t cut_count
    uint32_t cuts[MAX_CUTS]     # bytes of IP packet, descending: it is cut to the first size, the pieces to the next
    uint8_t dst_mac[6]
    uint8_t src_mac[6]


# ICMP: is this type a query, a query's reply, an error, or neither?
cdef inline uint8_t icmp_kind(uint8_t family, uint8_t icmp_type) noexcept nogil:
    if family == 4:
        if icmp_type == 8 or icmp_type == 0 or icmp_type == 13 or icmp_type == 14:
            return L4_QUERY
        if icmp_type == 3 or icmp_type == 11 or icmp_type == 12 or icmp_type == 4:
            return L4_ERROR
    else:
        if icmp_type == 128 or icmp_type == 129:
            return L4_QUERY
        if icmp_type < 128:
            return L4_ERROR
    return L4_ICMP


# The header values of a packet as it is.
cdef inline void start_header(header *h, const packet *p) noexcept nogil:
    h.src = p.src
    h.dst = p.dst
    h.sport = p.sport
    h.dport = p.dport
    h.inner_src = p.inner_src
    h.inner_dst = p.inner_dst
    h.inner_sport = p.inner_sport
    h.inner_dport = p.inner_dport
    h.mss = 0
    h.ttl_spent = 0


cdef inline bint addr_eq(addr a, addr b) noexcept nogil:
    return a.hi == b.hi and a.lo == b.lo


cdef inline bint addr_lt(addr a, addr b) noexcept nogil:
    return a.hi < b.hi or (a.hi == b.hi and a.lo < b.lo)


# Bytes of the IP packets that a frame stands for: each segment has headers of its own.
cdef inline uint32_t ip_bytes(packet *p) noexcept nogil:
    if p.segments > 1:
        return p.end - p.l3 + (p.segments - 1) * (<uint32_t>p.header_length - p.l3)
    return p.end - p.l3


# Length that counts against an MTU: an offloaded segment leaves as pieces of gso_size bytes of payload.
cdef inline uint32_t wire_length(packet *p) noexcept nogil:
    if p.gso_size:
        return <uint32_t>p.header_length - p.l3 + p.gso_size
    return p.end - p.l3


cdef int parse_offload(packet *p, const uint8_t *vnet) noexcept nogil
cdef int parse_ip(packet *p) noexcept nogil
cdef void write_offload(packet *p, uint8_t *vnet) noexcept nogil
cdef bint destination_is_martian(uint8_t family, addr a) noexcept nogil
cdef int check_addresses(packet *p) noexcept nogil
