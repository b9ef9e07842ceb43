/* The first rule of many packets, once for each instruction set: bit vectors of rules, two for each packet, are met. */

#ifndef FASTPATH_CLASSIFIER_H
#define FASTPATH_CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

/* `address` and `service` hold `words` words for each class; `a` and `s` are the classes of `n` packets. Rules of `not`
   count as not matching. Into `out`: number of the first rule + 1, or 0. */
typedef void (*classify_meet)(const uint64_t *address, const uint64_t *service, const uint64_t *not, uint32_t words,
                              const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n);

static void classify_meet_scalar(const uint64_t *address, const uint64_t *service, const uint64_t *not, uint32_t words,
                                 const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        uint32_t w;
        out[i] = 0;
        for (w = 0; w < words; w++) {
            const uint64_t both = x[w] & y[w] & ~not[w];
            if (both) {
                out[i] = 64 * w + (uint32_t)__builtin_ctzll(both) + 1;
                break;
            }
        }
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define CLASSIFY_512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,popcnt")))

/* Words where both vectors have a bit, of up to 8 words. */
CLASSIFY_512 static inline uint32_t classify_words(const uint64_t *x, const uint64_t *y, const uint64_t *not, __mmask8 of)
{
    const __m512i both = _mm512_and_si512(_mm512_maskz_loadu_epi64(of, x), _mm512_maskz_loadu_epi64(of, y));
    const __m512i left = _mm512_andnot_si512(_mm512_maskz_loadu_epi64(of, not), both);
    return _mm512_test_epi64_mask(left, left);
}

/* Up to 8 words are one step without a branch, up to 16 are two; more are a loop. */
CLASSIFY_512 static void classify_meet_avx512(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                              uint32_t words, const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    const __mmask8 first = words >= 8 ? 0xFF : (__mmask8)((1u << words) - 1);
    const __mmask8 second = words >= 16 ? 0xFF : words > 8 ? (__mmask8)((1u << (words - 8)) - 1) : 0;
    size_t i;
    uint32_t w;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        uint32_t found = classify_words(x, y, not, first), base = 0;
        if (second)
            found |= classify_words(x + 8, y + 8, not + 8, second) << 8;
        for (w = 16; !found && w < words; w += 8) {
            found = classify_words(x + w, y + w, not + w, words - w >= 8 ? 0xFF : (__mmask8)((1u << (words - w)) - 1));
            base = w;
        }
        /* a packet that no rule matches reads word 0 in vain */
        w = found ? base + (uint32_t)__builtin_ctz(found) : 0;
        w = 64 * w + (uint32_t)_tzcnt_u64(x[w] & y[w] & ~not[w]) + 1;
        out[i] = w & -(uint32_t)(found != 0);
    }
}
#endif

static const classify_meet classify_meets[] = {
    classify_meet_scalar,
#if defined(__x86_64__) && defined(__GNUC__)
    classify_meet_scalar,
    classify_meet_avx512,
#endif
};

#endif
