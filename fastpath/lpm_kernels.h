/* Lookups of a burst, once for each instruction set: fastpath/lpm.h includes this file with

       LPM(name)           the name of this set's function
       LPM_TARGET          its function attributes
       COUNT32(keys, x)    how many of 16 signed 32-bit keys are less than x
       COUNT64(keys, x)    how many of 8 signed 64-bit keys are less than x
       LPM_ROOTS           defined where ROOTS(keys, addresses, x, under) writes 16 addresses as signed numbers, and how
                           many of 16 keys are less than each

   No branch depends on an address: a mix of addresses that end at different depths would mispredict. */

LPM_TARGET static void LPM(tree4)(const int32_t *keys, const uint32_t *shape, const uint32_t *values,
                                  const uint32_t *addresses, uint32_t *out, size_t n)
{
    const uint32_t depth = shape[0];
    size_t i;
    uint32_t l, at;
    if (depth == 0) {
        for (i = 0; i < n; i++)
            out[i] = values[0];
    } else if (depth == 1) {
        for (i = 0; i < n; i++)
            out[i] = values[COUNT32(keys, lpm_signed32(addresses[i]))];
#ifdef LPM_ROOTS
    } else if (n == 1) {
        const int32_t one = lpm_signed32(addresses[0]);
        at = 0;
        for (l = 0; l + 1 < depth; l++)
            at = 17 * at + COUNT32(keys + 16 * (size_t)(shape[2 + l] + at), one);
        out[0] = values[16 * at + COUNT32(keys + 16 * (size_t)(shape[2 + l] + at), one)];
    } else {
        const int32_t *last = keys + 16 * (size_t)shape[1 + depth], *above = keys + 16 * (size_t)shape[depth];
        uint32_t under[LPM_BURST];
        int32_t x[LPM_BURST];
        size_t m;
        for (; n; n -= m, addresses += m, out += m) {
            m = n < LPM_BURST ? n : LPM_BURST;
            for (i = 0; i + 16 <= m; i += 16)
                ROOTS(keys, addresses + i, x + i, under + i);
            for (; i < m; i++) {
                x[i] = lpm_signed32(addresses[i]);
                under[i] = COUNT32(keys, x[i]);
            }
            if (depth == 2) {
                for (i = 0; i < m; i++)
                    out[i] = values[16 * under[i] + COUNT32(last + 16 * (size_t)under[i], x[i])];
                continue;
            }
            for (l = 1; l + 2 < depth; l++) {
                const int32_t *level = keys + 16 * (size_t)shape[2 + l];
                for (i = 0; i < m; i++)
                    under[i] = 17 * under[i] + COUNT32(level + 16 * (size_t)under[i], x[i]);
            }
            for (i = 0; i < m; i++) {
                at = 17 * under[i] + COUNT32(above + 16 * (size_t)under[i], x[i]);
                out[i] = values[16 * at + COUNT32(last + 16 * (size_t)at, x[i])];
            }
        }
    }
#else
    } else if (depth == 2) {
        for (i = 0; i < n; i++) {
            const int32_t x = lpm_signed32(addresses[i]);
            at = COUNT32(keys, x);
            out[i] = values[16 * at + COUNT32(keys + 16 * (size_t)(1 + at), x)];
        }
    } else if (depth == 3) {
        const int32_t *second = keys + 16 * (size_t)shape[3], *third = keys + 16 * (size_t)shape[4];
        for (i = 0; i < n; i++) {
            const int32_t x = lpm_signed32(addresses[i]);
            at = COUNT32(keys, x);
            at = 17 * at + COUNT32(second + 16 * (size_t)at, x);
            out[i] = values[16 * at + COUNT32(third + 16 * (size_t)at, x)];
        }
    } else {
        for (i = 0; i < n; i++) {
            const int32_t x = lpm_signed32(addresses[i]);
            at = 0;
            for (l = 0; l + 1 < depth; l++)
                at = 17 * at + COUNT32(keys + 16 * (size_t)(shape[2 + l] + at), x);
            out[i] = values[16 * at + COUNT32(keys + 16 * (size_t)(shape[2 + l] + at), x)];
        }
    }
#endif
}

/* Addresses are pairs (upper, lower); only the upper halves are looked at. Level by level over the burst, so that the
   nodes of the next level are on their way while others are compared. */
LPM_TARGET static void LPM(tree6)(const int64_t *keys, const uint32_t *shape, const uint32_t *values,
                                  const uint64_t *addresses, uint32_t *out, size_t n)
{
    const uint32_t depth = shape[0];
    int64_t x[LPM_BURST];
    uint32_t at[LPM_BURST];
    size_t i, m;
    uint32_t l;
    if (n == 1) {
        const int64_t one = lpm_signed64(addresses[0]);
        uint32_t node = 0;
        for (l = 0; l + 1 < depth; l++)
            node = 9 * node + COUNT64(keys + 8 * (size_t)(shape[2 + l] + node), one);
        out[0] = values[depth ? 8 * node + COUNT64(keys + 8 * (size_t)(shape[2 + l] + node), one) : 0];
        return;
    }
    for (; n; n -= m, addresses += 2 * m, out += m) {
        m = n < LPM_BURST ? n : LPM_BURST;
        for (i = 0; i < m; i++) {
            x[i] = lpm_signed64(addresses[2 * i]);
            at[i] = 0;
        }
        for (l = 0; l + 1 < depth; l++) {
            const int64_t *level = keys + 8 * (size_t)shape[2 + l], *below = keys + 8 * (size_t)shape[3 + l];
            for (i = 0; i < m; i++) {
                at[i] = 9 * at[i] + COUNT64(level + 8 * (size_t)at[i], x[i]);
                __builtin_prefetch(below + 8 * (size_t)at[i]);
            }
        }
        if (depth) {
            const int64_t *level = keys + 8 * (size_t)shape[2 + l];
            for (i = 0; i < m; i++) {
                at[i] = 8 * at[i] + COUNT64(level + 8 * (size_t)at[i], x[i]);
                __builtin_prefetch(values + at[i]);
            }
        }
        for (i = 0; i < m; i++)
            out[i] = values[at[i]];
    }
}
