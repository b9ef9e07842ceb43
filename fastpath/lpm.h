/* What Cython cannot say of longest prefix match: the lookups of a burst for each instruction set. The tables
   themselves are described in fastpath/lpm_build.pyx. */

#ifndef FASTPATH_LPM_H
#define FASTPATH_LPM_H

#include <stddef.h>
#include <stdint.h>

#include "lpm_keys.h"

#define LPM_BURST 64

/* How many of the keys of a node are less than x; keys ascend, so those come first. */
#if defined(__SSE2__)
#include <emmintrin.h>
static inline uint32_t lpm_count32(const int32_t *keys, int32_t x)
{
    const __m128i *k = (const __m128i *)keys, v = _mm_set1_epi32(x);
    const __m128i low = _mm_packs_epi32(_mm_cmplt_epi32(_mm_load_si128(k), v), _mm_cmplt_epi32(_mm_load_si128(k + 1), v));
    const __m128i high = _mm_packs_epi32(_mm_cmplt_epi32(_mm_load_si128(k + 2), v), _mm_cmplt_epi32(_mm_load_si128(k + 3), v));
    return (uint32_t)__builtin_ctz(~(unsigned)_mm_movemask_epi8(_mm_packs_epi16(low, high)));
}
#else
static inline uint32_t lpm_count32(const int32_t *keys, int32_t x)
{
    uint32_t i, count = 0;
    for (i = 0; i < 16; i++)
        count += keys[i] < x;
    return count;
}
#endif

static inline uint32_t lpm_count64(const int64_t *keys, int64_t x)
{
    uint32_t at = (uint32_t)(keys[3] < x) * 4;
    at += (uint32_t)(keys[at + 1] < x) * 2;
    at += keys[at] < x;
    return at + (keys[at] < x);
}

typedef void (*lpm_tree4)(const int32_t *, const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *, size_t);
typedef void (*lpm_tree6)(const int64_t *, const uint32_t *, const uint32_t *, const uint64_t *, uint32_t *, size_t);
typedef void (*lpm_trie)(const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *, size_t);

typedef struct {
    const char *name;
    lpm_tree4 tree4;
    lpm_tree6 tree6;
    lpm_trie trie;
} lpm_level;

#define LPM(name) lpm_##name##_scalar
#define LPM_TARGET
#define COUNT32(keys, x) lpm_count32(keys, x)
#define COUNT64(keys, x) lpm_count64(keys, x)
#include "lpm_kernels.h"
#undef LPM
#undef LPM_TARGET
#undef COUNT32
#undef COUNT64

/* 16-8-8: a slot with the highest bit set leads to a chunk of 256 slots; chunk 0 is there to be read in vain. */
static inline size_t lpm_trie_at(uint32_t slot, uint32_t byte)
{
    return (size_t)(slot & (uint32_t)-(int32_t)(slot >> 31) & 0x7FFFFFFFU) * 256 + (byte & 255);
}

static inline uint32_t lpm_trie_step(const uint32_t *chunks, uint32_t slot, uint32_t byte)
{
    const uint32_t leads = (uint32_t)-(int32_t)(slot >> 31), next = chunks[lpm_trie_at(slot, byte)];
    return (next & leads) | (slot & ~leads);
}

static inline void lpm_trie_scalar(const uint32_t *root, const uint32_t *chunks, const uint32_t *addresses, uint32_t *out, size_t n)
{
    uint32_t slot[LPM_BURST];
    size_t i, m;
    for (; n; n -= m, addresses += m, out += m) {
        m = n < LPM_BURST ? n : LPM_BURST;
        for (i = 0; i < m; i++) {
            slot[i] = root[addresses[i] >> 16];
            __builtin_prefetch(chunks + lpm_trie_at(slot[i], addresses[i] >> 8));
        }
        for (i = 0; i < m; i++) {
            slot[i] = lpm_trie_step(chunks, slot[i], addresses[i] >> 8);
            __builtin_prefetch(chunks + lpm_trie_at(slot[i], addresses[i]));
        }
        for (i = 0; i < m; i++)
            out[i] = lpm_trie_step(chunks, slot[i], addresses[i]);
    }
}

/* 24-8. Few addresses lead to a chunk, so that a branch is cheaper than reading in vain. The loads do not wait for each
   other, and a processor has more of them under way by itself than with a pass of prefetches before. */
#define LPM_DIRECT(bits)                                                                                              \
    static inline void lpm_direct##bits(const uint##bits##_t *root, const uint##bits##_t *chunks,                     \
                                        const uint32_t *addresses, uint32_t *out, size_t n)                           \
    {                                                                                                                 \
        const uint##bits##_t link = (uint##bits##_t)1 << (bits - 1);                                                  \
        size_t i;                                                                                                     \
        for (i = 0; i < n; i++) {                                                                                     \
            uint##bits##_t slot = root[addresses[i] >> 8];                                                            \
            if (__builtin_expect((slot & link) != 0, 0))                                                              \
                slot = chunks[(size_t)(slot ^ link) * 256 + (addresses[i] & 255)];                                    \
            out[i] = slot;                                                                                            \
        }                                                                                                             \
    }
LPM_DIRECT(16)
LPM_DIRECT(32)

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define LPM(name) lpm_##name##_avx2
#define LPM_TARGET __attribute__((target("avx2,popcnt")))
#define COUNT32(keys, x) lpm_count32_avx2(keys, x)
#define COUNT64(keys, x) lpm_count64_avx2(keys, x)

LPM_TARGET static inline uint32_t lpm_count32_avx2(const int32_t *keys, int32_t x)
{
    const __m256i *k = (const __m256i *)keys, v = _mm256_set1_epi32(x);
    const __m256i low = _mm256_cmpgt_epi32(v, _mm256_load_si256(k)), high = _mm256_cmpgt_epi32(v, _mm256_load_si256(k + 1));
    return (uint32_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_packs_epi32(low, high))) / 2;
}

LPM_TARGET static inline uint32_t lpm_count64_avx2(const int64_t *keys, int64_t x)
{
    const __m256i *k = (const __m256i *)keys, v = _mm256_set1_epi64x(x);
    const __m256i low = _mm256_cmpgt_epi64(v, _mm256_load_si256(k)), high = _mm256_cmpgt_epi64(v, _mm256_load_si256(k + 1));
    return (uint32_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_packs_epi32(low, high))) / 4;
}

#include "lpm_kernels.h"
#undef LPM
#undef LPM_TARGET
#undef COUNT32
#undef COUNT64

#define LPM(name) lpm_##name##_avx512
#define LPM_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt")))
#define COUNT32(keys, x) \
    ((uint32_t)__builtin_popcount(_mm512_cmplt_epi32_mask(_mm512_load_si512(keys), _mm512_set1_epi32(x))))
#define LPM_ROOTS
#define ROOTS(keys, addresses, x, under) lpm_roots_avx512(keys, addresses, x, under)

/* A binary search for 16 addresses at once, the keys in one register. */
LPM_TARGET static inline void lpm_roots_avx512(const int32_t *keys, const uint32_t *addresses, int32_t *signed_, uint32_t *under)
{
    const __m512i k = _mm512_load_si512(keys);
    const __m512i x = _mm512_xor_si512(_mm512_loadu_si512(addresses), _mm512_set1_epi32(INT32_MIN));
    __m512i at = _mm512_setzero_si512();
    int step;
    for (step = 8; step; step /= 2) {
        const __m512i probe = _mm512_permutexvar_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(step - 1)), k);
        at = _mm512_mask_add_epi32(at, _mm512_cmplt_epi32_mask(probe, x), at, _mm512_set1_epi32(step));
    }
    at = _mm512_mask_add_epi32(at, _mm512_cmplt_epi32_mask(_mm512_permutexvar_epi32(at, k), x), at, _mm512_set1_epi32(1));
    _mm512_storeu_si512(signed_, x);
    _mm512_storeu_si512(under, at);
}

#define COUNT64(keys, x) \
    ((uint32_t)__builtin_popcount(_mm512_cmplt_epi64_mask(_mm512_load_si512(keys), _mm512_set1_epi64(x))))
#include "lpm_kernels.h"

LPM_TARGET static void LPM(trie)(const uint32_t *root, const uint32_t *chunks, const uint32_t *addresses, uint32_t *out, size_t n)
{
    const __m512i byte = _mm512_set1_epi32(255), number = _mm512_set1_epi32(0x7FFFFF);
    for (; n >= 16; n -= 16, addresses += 16, out += 16) {
        const __m512i a = _mm512_loadu_si512(addresses);
        __m512i slot = _mm512_i32gather_epi32(_mm512_srli_epi32(a, 16), root, 4);
        __mmask16 leads = _mm512_movepi32_mask(slot);
        __m512i at = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(slot, number), 8),
                                     _mm512_and_si512(_mm512_srli_epi32(a, 8), byte));
        slot = _mm512_mask_i32gather_epi32(slot, leads, at, chunks, 4);
        leads = _mm512_movepi32_mask(slot);
        at = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(slot, number), 8), _mm512_and_si512(a, byte));
        slot = _mm512_mask_i32gather_epi32(slot, leads, at, chunks, 4);
        _mm512_storeu_si512(out, slot);
    }
    lpm_trie_scalar(root, chunks, addresses, out, n);
}
#undef LPM
#undef LPM_TARGET
#undef COUNT32
#undef COUNT64
#undef ROOTS
#undef LPM_ROOTS
#endif

static const lpm_level lpm_levels[] = {
    {"scalar", lpm_tree4_scalar, lpm_tree6_scalar, lpm_trie_scalar},
#if defined(__x86_64__) && defined(__GNUC__)
    {"avx2", lpm_tree4_avx2, lpm_tree6_avx2, lpm_trie_scalar},
    {"avx512", lpm_tree4_avx512, lpm_tree6_avx512, lpm_trie_avx512},
#endif
};

/* How many of `lpm_levels` this CPU and its system can run. */
static inline int lpm_level_count(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("popcnt"))
        return 1;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")
        || !__builtin_cpu_supports("avx512vl"))
        return 2;
    return 3;
#else
    return 1;
#endif
}

#endif
