/* What builders of tables and lookups have in common: memory on huge pages, and what keys and values look like. */

#ifndef FASTPATH_LPM_KEYS_H
#define FASTPATH_LPM_KEYS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LPM_LINE 64
#define LPM_HUGE ((size_t)2 << 20)
#define LPM_LINK 0x80000000U /* bit of a value of a tree of upper halves: the rest says where the lower halves are */

/* Zeroed, on a cache line; large ones on huge pages where the system has them. To be freed with free(). */
static inline void *lpm_room(size_t size)
{
    const size_t unit = size >= LPM_HUGE ? LPM_HUGE : LPM_LINE;
    void *room = NULL;
    size = (size + unit - 1) & ~(unit - 1);
    if (posix_memalign(&room, unit, size ? size : unit) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (unit == LPM_HUGE)
        (void)madvise(room, size, MADV_HUGEPAGE);
#endif
    return memset(room, 0, size ? size : unit);
}

/* Keys are kept so that a signed comparison orders them: SSE2 and AVX2 have no unsigned one. */
static inline int32_t lpm_signed32(uint32_t x)
{
    return (int32_t)(x ^ 0x80000000U);
}

static inline int64_t lpm_signed64(uint64_t x)
{
    return (int64_t)(x ^ 0x8000000000000000U);
}

#endif
