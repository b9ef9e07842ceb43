# Changing bytes: edits, fragments, and the packets the router makes itself.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport addr, header, packet

cdef enum:
    ERROR_HEADROOM = 14 + 40 + 8    # Ethernet, the larger IP header, ICMP
    ERROR_MAX = 14 + 1280

cdef uint64_t change16(uint8_t *at, uint32_t old, uint32_t new) noexcept nogil
cdef void adjust_udp(uint8_t *at, uint64_t delta) noexcept nogil
cdef void adjust(uint8_t *at, uint64_t delta) noexcept nogil
cdef void apply_header(packet *p, const header *to) noexcept nogil
cdef void complete_checksum(packet *p) noexcept nogil
cdef uint32_t next_fragment(packet *p, uint8_t *to, uint32_t mtu, uint32_t *at) noexcept nogil
cdef uint32_t build_error(packet *p, const header *view, uint8_t *to, addr source, bint too_big, uint32_t mtu) noexcept nogil
cdef uint32_t build_reset(packet *p, const header *view, uint8_t *to) noexcept nogil
cdef void turn_echo(packet *p) noexcept nogil
cdef uint32_t build_arp_reply(const uint8_t *request, uint8_t *to, const uint8_t *mac) noexcept nogil
cdef uint32_t build_advertisement(packet *p, uint8_t *to, const uint8_t *mac, const uint8_t *own_mac, bint router) noexcept nogil
