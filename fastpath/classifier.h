/* The first rule of many packets, once for each instruction set: bit vectors of rules, two for each packet, are met.

   Neither which word of a vector has the first rule nor whether there is one can be foretold, so that up to 16 words no
   branch depends on it. */

#ifndef FASTPATH_CLASSIFIER_H
#define FASTPATH_CLASSIFIER_H

#include <stddef.h>
#include <stdint.h>

/* `address` and `service` hold `words` words for each class; `a` and `s` are the classes of `n` packets. Rules of `not`
   count as not matching. Into `out`: number of the first rule + 1, or 0. */
typedef void (*classify_meet)(const uint64_t *address, const uint64_t *service, const uint64_t *not, uint32_t words,
                              const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n);

/* `word` is word `w` of what is left of both vectors, and has the first rule, if there is one. */
static inline uint32_t classify_first(uint32_t w, uint64_t word)
{
    return (64 * w + (uint32_t)__builtin_ctzll(word | (uint64_t)1 << 63) + 1) & -(uint32_t)(word != 0);
}

/* Of 1 word or 2; where there is 1, it is read twice. */
static inline void classify_meet_2(const uint64_t *address, const uint64_t *service, const uint64_t *not, uint32_t words,
                                   const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    const uint32_t last = words - 1;
    const uint64_t of = ~not[0], of_last = ~not[last];
    size_t i;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        const uint64_t first = x[0] & y[0] & of, second = x[last] & y[last] & of_last;
        const uint32_t w = last & (first == 0);
        out[i] = classify_first(w, first | (second & -(uint64_t)w));
    }
}

static void classify_meet_scalar(const uint64_t *address, const uint64_t *service, const uint64_t *not, uint32_t words,
                                 const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    size_t i;
    if (words <= 2) {
        classify_meet_2(address, service, not, words, a, s, out, n);
        return;
    }
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        uint32_t w;
        out[i] = 0;
        for (w = 0; w < words; w++) {
            const uint64_t both = x[w] & y[w] & ~not[w];
            if (both) {
                out[i] = classify_first(w, both);
                break;
            }
        }
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define CLASSIFY_256 __attribute__((target("avx2,popcnt")))

/* Which of 4 words both vectors have a bit in; `mask`: of the words there are, all bits of each. */
CLASSIFY_256 static inline uint32_t classify_which4(const uint64_t *x, const uint64_t *y, const uint64_t *not, __m256i mask)
{
    const __m256i both = _mm256_and_si256(_mm256_maskload_epi64((const long long *)x, mask),
                                          _mm256_maskload_epi64((const long long *)y, mask));
    const __m256i left = _mm256_andnot_si256(_mm256_maskload_epi64((const long long *)not, mask), both);
    return 15 ^ (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(left, _mm256_setzero_si256())));
}

CLASSIFY_256 static inline __m256i classify_mask4(uint32_t words)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(words), _mm256_set_epi64x(3, 2, 1, 0));
}

/* Up to 4 * `fours` words, a number that the compiler knows. */
CLASSIFY_256 static inline void classify_meet_fours(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                                    uint32_t words, uint32_t fours, const uint32_t *a, const uint32_t *s,
                                                    uint32_t *out, size_t n)
{
    const __m256i all = _mm256_set1_epi64x(-1), rest = classify_mask4(words - 4 * (fours - 1));
    size_t i;
    uint32_t k, w;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        uint32_t which = 1u << (words - 1);
        for (k = 0; k < fours; k++)
            which |= classify_which4(x + 4 * k, y + 4 * k, not + 4 * k, k == fours - 1 ? rest : all) << 4 * k;
        w = (uint32_t)__builtin_ctz(which);
        out[i] = classify_first(w, x[w] & y[w] & ~not[w]);
    }
}

CLASSIFY_256 static void classify_meet_avx2(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                            uint32_t words, const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    if (words <= 2 || words > 16)
        classify_meet_scalar(address, service, not, words, a, s, out, n);
    else if (words <= 4)
        classify_meet_fours(address, service, not, words, 1, a, s, out, n);
    else if (words <= 8)
        classify_meet_fours(address, service, not, words, 2, a, s, out, n);
    else if (words <= 12)
        classify_meet_fours(address, service, not, words, 3, a, s, out, n);
    else
        classify_meet_fours(address, service, not, words, 4, a, s, out, n);
}

#define CLASSIFY_512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,popcnt")))

/* Up to 8 words of both vectors. */
CLASSIFY_512 static inline __m512i classify_both(const uint64_t *x, const uint64_t *y, __m512i of, __mmask8 words)
{
    return _mm512_and_si512(_mm512_and_si512(_mm512_maskz_loadu_epi64(words, x), of), _mm512_maskz_loadu_epi64(words, y));
}

/* The first of 8 words that is not 0. */
CLASSIFY_512 static inline uint64_t classify_lowest(__m512i left, __mmask8 *which)
{
    *which = _mm512_test_epi64_mask(left, left);
    return (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(_mm512_maskz_compress_epi64(*which, left)));
}

CLASSIFY_512 static inline __mmask8 classify_mask(uint32_t words)
{
    return words >= 8 ? 0xFF : (__mmask8)((1u << words) - 1);
}

/* What rules of `not` leave, of up to 8 words. */
CLASSIFY_512 static inline __m512i classify_of(const uint64_t *not, __mmask8 words)
{
    return _mm512_andnot_si512(_mm512_maskz_loadu_epi64(words, not), _mm512_set1_epi64(-1));
}

CLASSIFY_512 static inline void classify_meet_8(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                                uint32_t words, const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    const __mmask8 mask = classify_mask(words);
    const __m512i of = classify_of(not, mask);
    __mmask8 which;
    size_t i;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        const uint64_t word = classify_lowest(classify_both(x, y, of, mask), &which);
        out[i] = classify_first(_tzcnt_u32(which), word);
    }
}

CLASSIFY_512 static inline void classify_meet_16(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                                 uint32_t words, const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    const __mmask8 mask = classify_mask(words - 8);
    const __m512i of = classify_of(not, 0xFF), of_second = classify_of(not + 8, mask);
    __mmask8 which, which_second;
    size_t i;
    for (i = 0; i < n; i++) {
        const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
        const uint64_t first = classify_lowest(classify_both(x, y, of, 0xFF), &which);
        const uint64_t second = classify_lowest(classify_both(x + 8, y + 8, of_second, mask), &which_second);
        const uint64_t word = first | (second & -(uint64_t)(first == 0));
        out[i] = classify_first(_tzcnt_u32(which | (uint32_t)which_second << 8), word);
    }
}

CLASSIFY_512 static void classify_meet_avx512(const uint64_t *address, const uint64_t *service, const uint64_t *not,
                                              uint32_t words, const uint32_t *a, const uint32_t *s, uint32_t *out, size_t n)
{
    size_t i;
    uint32_t w;
    if (words <= 2) {
        classify_meet_scalar(address, service, not, words, a, s, out, n);
    } else if (words <= 8) {
        classify_meet_8(address, service, not, words, a, s, out, n);
    } else if (words <= 16) {
        classify_meet_16(address, service, not, words, a, s, out, n);
    } else {
        for (i = 0; i < n; i++) {
            const uint64_t *x = address + (size_t)words * a[i], *y = service + (size_t)words * s[i];
            __m512i left = _mm512_setzero_si512();
            __mmask8 which = 0;
            for (w = 0; w < words; w += 8) {
                const __mmask8 mask = classify_mask(words - w);
                left = classify_both(x + w, y + w, classify_of(not + w, mask), mask);
                which = _mm512_test_epi64_mask(left, left);
                if (which)
                    break;
            }
            w += _tzcnt_u32(which);
            out[i] = classify_first(w, classify_lowest(left, &which));
        }
    }
}
#endif

static const classify_meet classify_meets[] = {
    classify_meet_scalar,
#if defined(__x86_64__) && defined(__GNUC__)
    classify_meet_avx2,
    classify_meet_avx512,
#endif
};

#endif
