/* The bare loop: what a hit costs at least, in plain C. Three passes over a batch of 128: parse, hash and prefetch; find
 * the tag and prefetch the record; compare the key and rewrite (MACs, source address and port, TTL, both checksums).
 * No sessions, counters, stamps, fragments or verification. And the frames that it and ours are given.
 *
 * Frames are IPv4 with UDP or TCP, without options, `stride` bytes apart.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BATCH 128
#define SLOT 192
#define HEADROOM 64
#define API __attribute__((visibility("default")))

enum { ETHERNET = 14, TTL = 22, PROTOCOL = 23, IP_SUM = 24, SOURCE = 26, DESTINATION = 30, L4 = 34 };

/* --- frames ------------------------------------------------------------------------------------------------------- */

static uint32_t load16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static void store16(uint8_t *at, uint32_t value) { at[0] = value >> 8, at[1] = value; }

static uint32_t fold(uint64_t sum) {
    while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
    return sum;
}

static uint32_t sum_of(const uint8_t *at, uint32_t size) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i + 1 < size; i += 2) sum += load16(at + i);
    return fold(sum + (size & 1 ? (uint32_t)at[size - 1] << 8 : 0));
}

static void finish(uint8_t *frame) {
    uint32_t size = load16(frame + 16) - 20, at = L4 + (frame[PROTOCOL] == 17 ? 6 : 16);
    store16(frame + IP_SUM, 0);
    store16(frame + IP_SUM, 0xFFFF & ~sum_of(frame + ETHERNET, 20));
    store16(frame + at, 0);
    uint32_t sum = 0xFFFF & ~fold(sum_of(frame + SOURCE, 8) + frame[PROTOCOL] + size + sum_of(frame + L4, size));
    store16(frame + at, sum ? sum : 0xFFFF);
}

/* Flow number f has source port 10000 + f % 30000 and destination port 1000 + f / 30000. `order`: flows, or NULL. */
API void frames_make(uint8_t *out, uint32_t stride, const uint8_t *pattern, uint32_t length, uint32_t first, uint32_t count,
                     const uint32_t *order) {
    for (uint32_t i = 0; i < count; i++, out += stride) {
        uint32_t flow = order ? order[i] : first + i;
        memcpy(out, pattern, length);
        store16(out + L4, 10000 + flow % 30000);
        store16(out + L4 + 2, 1000 + flow / 30000);
        finish(out);
    }
}

/* What the receiver of each TCP frame answers, with these flags. */
API void frames_answer(uint8_t *out, const uint8_t *in, uint32_t stride, uint32_t length, uint32_t count, uint32_t flags) {
    for (uint32_t i = 0; i < count; i++, out += stride, in += stride) {
        uint8_t seen[SLOT];
        memcpy(seen, in, length);
        memcpy(out, seen, length);
        memcpy(out, seen + 6, 6), memcpy(out + 6, seen, 6);
        memcpy(out + SOURCE, seen + DESTINATION, 4), memcpy(out + DESTINATION, seen + SOURCE, 4);
        memcpy(out + L4, seen + L4 + 2, 2), memcpy(out + L4 + 2, seen + L4, 2);
        out[TTL] = 64;
        out[L4 + 13] = flags;
        finish(out);
    }
}

static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

/* `count` numbers below `below`, uniform. */
API void order_random(uint32_t *out, uint32_t count, uint32_t below, uint64_t seed) {
    for (uint32_t i = 0; i < count; i++) out[i] = (uint32_t)((unsigned __int128)next(&seed) * below >> 64);
}

/* --- the loop ------------------------------------------------------------------------------------------------------ */

struct key { /* addresses; ports and protocol: as they are in the frame */
    uint64_t addresses, rest;
};

struct record {
    struct key key;
    uint32_t new_source;
    uint16_t new_port, ip_delta, l4_delta;
    uint8_t spent, macs[12], rest[25];
};
_Static_assert(sizeof(struct record) == 64, "a record is a cache line");

struct bucket {
    uint32_t tags[8], rows[8];
};

struct loop {
    struct bucket *buckets;
    struct record *records;
    uint32_t mask, used, capacity;
    uint64_t secret;
};

static void *large(size_t size) {
    size = (size + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

API struct loop *loop_new(uint32_t capacity) {
    struct loop *t = calloc(1, sizeof(*t));
    uint32_t buckets = 16;
    while (buckets * 8 * 0.6 < capacity) buckets *= 2;
    t->mask = buckets - 1;
    t->capacity = capacity;
    t->secret = 0x5851F42D4C957F2Dull;
    t->buckets = large((size_t)buckets * sizeof(struct bucket));
    t->records = large((size_t)capacity * sizeof(struct record));
    return t->buckets && t->records ? t : NULL;
}

API void loop_free(struct loop *t) {
    munmap(t->buckets, ((size_t)(t->mask + 1) * sizeof(struct bucket) + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1));
    munmap(t->records, ((size_t)t->capacity * sizeof(struct record) + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1));
    free(t);
}

static inline uint64_t hash(struct key key, uint64_t secret) {
    unsigned __int128 m = (unsigned __int128)(key.addresses ^ secret) * (key.rest ^ 0x9E3779B97F4A7C15ull);
    uint64_t h = (uint64_t)m ^ (uint64_t)(m >> 64);
    h *= 0xD6E8FEB86659FD93ull;
    return h ^ h >> 32;
}

static inline struct key parse(const uint8_t *frame) {
    struct key key;
    uint32_t ports;
    memcpy(&key.addresses, frame + SOURCE, 8);
    memcpy(&ports, frame + L4, 4);
    key.rest = ports | (uint64_t)frame[PROTOCOL] << 32;
    return key;
}

static inline int same(const struct key *a, const struct key *b) {
    return a->addresses == b->addresses && a->rest == b->rest;
}

static inline uint32_t tag_of(uint64_t h) { return (uint32_t)(h >> 32) | 1; }

/* What the first frame became in the second is what the loop will do with its like. Buckets that are full spill into the
 * next one. How many went in. */
API uint32_t loop_add(struct loop *t, const uint8_t *before, const uint8_t *after, uint32_t stride, uint32_t count) {
    for (uint32_t i = 0; i < count; i++, before += stride, after += stride) {
        if (t->used == t->capacity) return i;
        struct record *r = &t->records[t->used];
        r->key = parse(before);
        memcpy(&r->new_source, after + SOURCE, 4);
        memcpy(&r->new_port, after + L4, 2);
        memcpy(r->macs, after, 12);
        r->spent = before[TTL] - after[TTL];
        uint16_t old[3], new[3];
        memcpy(old, before + SOURCE, 4), memcpy(new, after + SOURCE, 4);
        memcpy(old + 2, before + L4, 2), memcpy(new + 2, after + L4, 2);
        uint32_t addresses = (uint16_t)~old[0] + new[0] + (uint16_t)~old[1] + new[1];
        uint16_t spent;
        uint8_t words[2] = {r->spent, 0};
        memcpy(&spent, words, 2);
        r->ip_delta = fold(addresses + (uint16_t)~spent);
        r->l4_delta = fold(addresses + (uint16_t)~old[2] + new[2]);
        uint64_t h = hash(r->key, t->secret);
        for (uint32_t at = h & t->mask;; at = (at + 1) & t->mask) {
            struct bucket *b = &t->buckets[at];
            uint32_t way = 0;
            while (way < 8 && b->tags[way]) way++;
            if (way == 8) continue;
            b->tags[way] = tag_of(h);
            b->rows[way] = t->used++;
            break;
        }
    }
    return count;
}

static inline uint16_t adjusted(uint16_t sum, uint16_t delta) {
    uint32_t s = (uint32_t)(uint16_t)~sum + delta;
    return ~(uint16_t)(s + (s >> 16));
}

static inline void rewrite(uint8_t *frame, const struct record *r) {
    uint16_t sum;
    memcpy(frame, r->macs, 12);
    frame[TTL] -= r->spent;
    memcpy(frame + SOURCE, &r->new_source, 4);
    memcpy(frame + L4, &r->new_port, 2);
    memcpy(&sum, frame + IP_SUM, 2);
    sum = adjusted(sum, r->ip_delta);
    memcpy(frame + IP_SUM, &sum, 2);
    uint8_t *at = frame + L4 + (frame[PROTOCOL] == 17 ? 6 : 16);
    memcpy(&sum, at, 2);
    sum = adjusted(sum, r->l4_delta);
    if (sum == 0) sum = 0xFFFF;
    memcpy(at, &sum, 2);
}

/* Copy the frames in as if they had been received, and nothing else: what both sides have to do to be measured. */
API uint64_t loop_copy(uint8_t *slots, const uint8_t *frames, uint32_t stride, uint32_t length, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t at = 0; at < count; at += BATCH) {
        uint32_t n = count - at < BATCH ? count - at : BATCH;
        for (uint32_t i = 0; i < n; i++)
            memcpy(slots + (size_t)i * SLOT + HEADROOM, frames + (size_t)(at + i) * stride, length);
        for (uint32_t i = 0; i < n; i++) sum += slots[(size_t)i * SLOT + HEADROOM + TTL];
    }
    return sum;
}

/* How many found their record; `out`, if given, gets what they became. `slots` has room for a batch. */
API uint32_t loop_run(struct loop *t, uint8_t *slots, const uint8_t *frames, uint32_t stride, uint32_t length,
                      uint32_t count, uint8_t *out) {
    struct key keys[BATCH];
    uint64_t hashes[BATCH];
    uint32_t rows[BATCH], hits = 0;
    for (uint32_t at = 0; at < count; at += BATCH) {
        uint32_t n = count - at < BATCH ? count - at : BATCH;
        for (uint32_t i = 0; i < n; i++)
            memcpy(slots + (size_t)i * SLOT + HEADROOM, frames + (size_t)(at + i) * stride, length);
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *frame = slots + (size_t)i * SLOT + HEADROOM;
            if (load16(frame + 12) != 0x0800 || frame[ETHERNET] != 0x45 || (frame[PROTOCOL] != 17 && frame[PROTOCOL] != 6)
                || (load16(frame + 20) & 0x3FFF) || frame[TTL] < 2 || load16(frame + 16) + ETHERNET > length) {
                hashes[i] = 0;
                continue;
            }
            keys[i] = parse(frame);
            hashes[i] = hash(keys[i], t->secret);
            __builtin_prefetch(&t->buckets[hashes[i] & t->mask]);
        }
        for (uint32_t i = 0; i < n; i++) {
            const struct bucket *b = &t->buckets[hashes[i] & t->mask];
            uint32_t tag = tag_of(hashes[i]), match = 0;
            for (uint32_t way = 0; way < 8; way++) match |= (uint32_t)(b->tags[way] == tag) << way;
            rows[i] = match ? b->rows[__builtin_ctz(match)] : t->capacity;
            if (match) __builtin_prefetch(&t->records[rows[i]]);
        }
        for (uint32_t i = 0; i < n; i++) {
            uint8_t *frame = slots + (size_t)i * SLOT + HEADROOM;
            const struct record *r = &t->records[rows[i]];
            if (rows[i] == t->capacity || !same(&r->key, &keys[i])) {
                /* rare: a tag twice in a bucket, or a bucket that spilled */
                r = NULL;
                for (uint32_t at_b = hashes[i] & t->mask; r == NULL; at_b = (at_b + 1) & t->mask) {
                    const struct bucket *b = &t->buckets[at_b];
                    for (uint32_t way = 0; way < 8; way++)
                        if (b->tags[way] == tag_of(hashes[i]) && same(&t->records[b->rows[way]].key, &keys[i]))
                            r = &t->records[b->rows[way]];
                    if (!b->tags[7]) break; /* nothing spilled from here */
                }
                if (r == NULL) continue;
            }
            rewrite(frame, r);
            hits++;
        }
        if (out)
            for (uint32_t i = 0; i < n; i++)
                memcpy(out + (size_t)(at + i) * stride, slots + (size_t)i * SLOT + HEADROOM, length);
    }
    return hits;
}
