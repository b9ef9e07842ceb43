# Bytes on the wire: loads, stores and the Internet checksum, all inline.
#
# Header bytes are read and written through these, never through struct overlays: the C compiler may assume
# alignment and no aliasing for a struct, and a packet guarantees neither. Sums follow RFC 1071; single
# changes follow RFC 1624 (HC' = ~(~HC + ~m + m')), kept as unfolded 32-bit deltas until they are applied.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    ETH_HEADER = 14
    ETHERTYPE_IPV4 = 0x0800
    ETHERTYPE_ARP = 0x0806
    ETHERTYPE_IPV6 = 0x86DD
    ETHERTYPE_VLAN = 0x8100
    ETHERTYPE_QINQ = 0x88A8

cdef enum:
    PROTO_HOPOPTS = 0
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_AH = 51
    PROTO_ICMPV6 = 58
    PROTO_NONE = 59
    PROTO_DSTOPTS = 60

cdef enum:
    TCP_FIN = 0x01
    TCP_SYN = 0x02
    TCP_RST = 0x04
    TCP_ACK = 0x10

# Length of struct virtio_net_hdr_v1 in front of every frame of a TAP port (little endian, virtio 1.0).
cdef enum:
    VNET_HEADER = 12
    VNET_NEEDS_CSUM = 1
    VNET_DATA_VALID = 2
    VNET_GSO_NONE = 0
    VNET_GSO_TCPV4 = 1
    VNET_GSO_TCPV6 = 4
    VNET_GSO_ECN = 0x80


cdef inline uint16_t load16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef inline uint32_t load32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    return (<uint64_t>load32(p) << 32) | load32(p + 4)


cdef inline uint64_t load48(const uint8_t *p) noexcept nogil:
    return (<uint64_t>load16(p) << 32) | load32(p + 2)


cdef inline void store16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 8)
    p[1] = <uint8_t>v


cdef inline void store32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v


cdef inline void store64(uint8_t *p, uint64_t v) noexcept nogil:
    store32(p, <uint32_t>(v >> 32))
    store32(p + 4, <uint32_t>v)


cdef inline uint16_t load16_le(const uint8_t *p) noexcept nogil:
    return <uint16_t>(p[0] | (p[1] << 8))


cdef inline void store16_le(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)


# Sum of big-endian 16-bit words, not folded, not complemented; an odd last byte counts as its high half.
cdef inline uint64_t sum_bytes(const uint8_t *p, uint32_t length) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i = 0
    while i + 4 <= length:
        total += load32(p + i)
        i += 4
    total = (total >> 16) + (total & 0xFFFF)
    if i + 2 <= length:
        total += load16(p + i)
        i += 2
    if i < length:
        total += <uint32_t>p[i] << 8
    return total


cdef inline uint32_t fold(uint64_t total) noexcept nogil:
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return <uint32_t>total


# A delta to add to a (not complemented) sum when a 16-bit word changes from `old` to `new`.
cdef inline uint32_t delta16(uint32_t old, uint32_t new) noexcept nogil:
    return (0xFFFFU - (old & 0xFFFFU)) + (new & 0xFFFFU)


cdef inline uint32_t delta32(uint32_t old, uint32_t new) noexcept nogil:
    return delta16(old >> 16, new >> 16) + delta16(old, new)


# Apply a delta to a checksum field as it stands in a header (complemented).
cdef inline uint32_t checksum_adjust(uint32_t field, uint64_t delta) noexcept nogil:
    return 0xFFFFU - fold((0xFFFFU - field) + delta)


# --- in the machine's own byte order, for what is only compared, hashed, copied or summed -----------------------------

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t raw16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
    static inline uint32_t raw32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t raw64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline uint64_t raw48(const void *p) { return raw32(p) | (uint64_t)raw16((const char *)p + 4) << 32; }
    static inline void put16(void *p, uint16_t v) { memcpy(p, &v, 2); }
    static inline void put32(void *p, uint32_t v) { memcpy(p, &v, 4); }
    static inline void put64(void *p, uint64_t v) { memcpy(p, &v, 8); }
    static inline uint16_t ordered16(uint32_t v) { uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v}; return raw16(b); }
    static inline uint32_t ordered32(uint32_t v) {
        uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        return raw32(b);
    }
    static inline uint64_t ordered64(uint64_t v) {
        uint32_t halves[2] = {ordered32((uint32_t)(v >> 32)), ordered32((uint32_t)v)};
        return raw64(halves);
    }
    static inline void fetch(const void *p) { __builtin_prefetch(p); }
    #define likely(x) __builtin_expect(!!(x), 1)
    #define unlikely(x) __builtin_expect(!!(x), 0)
    static inline uint32_t fold64(uint64_t s) {
        s = (s >> 32) + (s & 0xFFFFFFFFu);
        s = (s >> 32) + (s & 0xFFFFFFFFu);
        s = (s >> 16) + (s & 0xFFFFu);
        return (uint32_t)((s >> 16) + (s & 0xFFFFu));
    }
    static inline int is_right_sum(uint64_t s) { /* a multiple of 0xFFFF, whose inverse modulo 2^64 is the factor */
        return s * 0xFFFEFFFEFFFEFFFFu <= 0x0001000100010001u;
    }
    static inline uint64_t raw_sum(const uint8_t *p, uint32_t length) {
        uint64_t total = 0, more = 0;
        for (; length >= 16; p += 16, length -= 16) {
            uint64_t a = raw64(p), b = raw64(p + 8);
            total += (a >> 32) + (a & 0xFFFFFFFFu);
            more += (b >> 32) + (b & 0xFFFFFFFFu);
        }
        total += more;
        for (; length >= 4; p += 4, length -= 4) total += raw32(p);
        if (length) {
            uint8_t last[4] = {0};
            memcpy(last, p, length);
            total += raw32(last);
        }
        return total;
    }
    """
    uint16_t raw16(const void *p) nogil
    uint32_t raw32(const void *p) nogil
    uint64_t raw48(const void *p) nogil
    uint64_t raw64(const void *p) nogil
    void put16(void *p, uint16_t v) nogil
    void put32(void *p, uint32_t v) nogil
    void put64(void *p, uint64_t v) nogil
    # A number as the wire has it.
    uint16_t ordered16(uint32_t v) nogil
    uint32_t ordered32(uint32_t v) nogil
    uint64_t ordered64(uint64_t v) nogil
    void fetch(const void *p) nogil
    bint likely(bint x) nogil
    bint unlikely(bint x) nogil
    # Sums of RFC 1071, which does not ask in which order the bytes of its words lie: in raw words, to be folded.
    uint64_t raw_sum(const uint8_t *p, uint32_t length) nogil
    uint32_t fold64(uint64_t sum) nogil
    # Whether a sum that is not 0 would fold to 0xFFFF.
    bint is_right_sum(uint64_t sum) nogil
