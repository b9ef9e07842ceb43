/* The peers of DPDK behind plain functions: tables built from arrays, looked up in bursts of 64.
 *
 * Every run function walks a trace, adds the answers up (so that nothing is left out), and stores them when it is given
 * room for them. Memory is anonymous, in huge pages where the kernel gives them, as ours is.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_acl.h>
#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_vect.h>

#define BURST 64
#define API __attribute__((visibility("default")))

/* DPDK without hugetlbfs takes shared memory if it can, which gets no huge pages here; without this it takes private. */
int memfd_create(const char *name, unsigned int flags);
int memfd_create(const char *name, unsigned int flags) {
    (void)name;
    (void)flags;
    errno = ENOSYS;
    return -1;
}

static int advise(const struct rte_memseg_list *list, void *unused) {
    (void)unused;
    madvise(list->base_va, list->len, MADV_HUGEPAGE);
    return 0;
}

/* The widest vector DPDK will use, in bits; below 0: it does not start. */
API int peers_start(const char *megabytes) {
    char *arguments[] = {"bench", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "--no-hpet",
                         "-m", (char *)megabytes, "-l", "0", "--log-level=3", "--force-max-simd-bitwidth=512", NULL};
    if (rte_eal_init(sizeof(arguments) / sizeof(*arguments) - 1, arguments) < 0) return -rte_errno;
    rte_memseg_list_walk(advise, NULL);
    return rte_vect_get_max_simd_bitwidth();
}

API uint64_t peers_memory(void) {
    struct rte_malloc_socket_stats stats;
    uint64_t all = 0;
    for (int socket = 0; socket < RTE_MAX_NUMA_NODES; socket++)
        if (rte_malloc_get_socket_stats(socket, &stats) == 0) all += stats.heap_allocsz_bytes;
    return all;
}

static char *fresh_name(void) {
    static char name[32];
    static int number;
    snprintf(name, sizeof(name), "t%d", number++);
    return name;
}

/* --- longest prefix match: a table is (address, length, next hop) in three arrays ---------------------------------- */

API struct rte_fib *fib_new(const uint32_t *addresses, const uint8_t *lengths, const uint32_t *hops, uint32_t count,
                            uint32_t groups, int *vector) {
    struct rte_fib_conf conf = {.type = RTE_FIB_DIR24_8, .default_nh = 0, .max_routes = count + 16};
    conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
    conf.dir24_8.num_tbl8 = groups;
    struct rte_fib *fib = rte_fib_create(fresh_name(), SOCKET_ID_ANY, &conf);
    if (fib == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (rte_fib_add(fib, addresses[i], lengths[i], hops[i]) < 0) return NULL;
    *vector = rte_fib_select_lookup(fib, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512) == 0;
    return fib;
}

API void fib_free(struct rte_fib *fib) { rte_fib_free(fib); }

API uint64_t fib_run(struct rte_fib *fib, const uint32_t *keys, uint32_t count, uint32_t *answers) {
    uint64_t hops[BURST], sum = 0;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        rte_fib_lookup_bulk(fib, (uint32_t *)(uintptr_t)keys + at, hops, n);
        for (uint32_t i = 0; i < n; i++) sum += hops[i];
        if (answers)
            for (uint32_t i = 0; i < n; i++) answers[at + i] = hops[i];
    }
    return sum;
}

API struct rte_lpm *lpm_new(const uint32_t *addresses, const uint8_t *lengths, const uint32_t *hops, uint32_t count,
                            uint32_t groups) {
    struct rte_lpm_config conf = {.max_rules = count + 16, .number_tbl8s = groups};
    struct rte_lpm *lpm = rte_lpm_create(fresh_name(), SOCKET_ID_ANY, &conf);
    if (lpm == NULL) return NULL;
    /* a route of length 0 is none of its: what misses goes there */
    for (uint32_t i = 0; i < count; i++)
        if (lengths[i] && rte_lpm_add(lpm, addresses[i], lengths[i], hops[i]) < 0) return NULL;
    return lpm;
}

API void lpm_free(struct rte_lpm *lpm) { rte_lpm_free(lpm); }

API uint64_t lpm_run(struct rte_lpm *lpm, const uint32_t *keys, uint32_t count, uint32_t missed, uint32_t *answers) {
    uint32_t hops[BURST];
    uint64_t sum = 0;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        rte_lpm_lookup_bulk(lpm, keys + at, hops, n);
        for (uint32_t i = 0; i < n; i++) {
            hops[i] = hops[i] & RTE_LPM_LOOKUP_SUCCESS ? hops[i] & 0xFFFFFF : missed;
            sum += hops[i];
        }
        if (answers) memcpy(answers + at, hops, n * sizeof(*hops));
    }
    return sum;
}

API struct rte_fib6 *fib6_new(const uint8_t *addresses, const uint8_t *lengths, const uint32_t *hops, uint32_t count,
                              uint32_t groups, int *vector) {
    struct rte_fib6_conf conf = {.type = RTE_FIB6_TRIE, .default_nh = 0, .max_routes = count + 16};
    conf.trie.nh_sz = RTE_FIB6_TRIE_4B;
    conf.trie.num_tbl8 = groups;
    struct rte_fib6 *fib = rte_fib6_create(fresh_name(), SOCKET_ID_ANY, &conf);
    if (fib == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (rte_fib6_add(fib, addresses + 16 * (size_t)i, lengths[i], hops[i]) < 0) return NULL;
    *vector = rte_fib6_select_lookup(fib, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512) == 0;
    return fib;
}

API void fib6_free(struct rte_fib6 *fib) { rte_fib6_free(fib); }

API uint64_t fib6_run(struct rte_fib6 *fib, const uint8_t *keys, uint32_t count, uint32_t *answers) {
    uint64_t hops[BURST], sum = 0;
    uint8_t (*rows)[16] = (uint8_t (*)[16])(uintptr_t)keys;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        rte_fib6_lookup_bulk(fib, rows + at, hops, n);
        for (uint32_t i = 0; i < n; i++) sum += hops[i];
        if (answers)
            for (uint32_t i = 0; i < n; i++) answers[at + i] = hops[i];
    }
    return sum;
}

API struct rte_lpm6 *lpm6_new(const uint8_t *addresses, const uint8_t *lengths, const uint32_t *hops, uint32_t count,
                              uint32_t groups) {
    struct rte_lpm6_config conf = {.max_rules = count + 16, .number_tbl8s = groups};
    struct rte_lpm6 *lpm = rte_lpm6_create(fresh_name(), SOCKET_ID_ANY, &conf);
    if (lpm == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (lengths[i] && rte_lpm6_add(lpm, addresses + 16 * (size_t)i, lengths[i], hops[i]) < 0) return NULL;
    return lpm;
}

API void lpm6_free(struct rte_lpm6 *lpm) { rte_lpm6_free(lpm); }

API uint64_t lpm6_run(struct rte_lpm6 *lpm, const uint8_t *keys, uint32_t count, uint32_t missed, uint32_t *answers) {
    int32_t hops[BURST];
    uint64_t sum = 0;
    uint8_t (*rows)[16] = (uint8_t (*)[16])(uintptr_t)keys;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        rte_lpm6_lookup_bulk_func(lpm, rows + at, hops, n);
        for (uint32_t i = 0; i < n; i++) {
            if (hops[i] < 0) hops[i] = missed;
            sum += hops[i];
        }
        if (answers) memcpy(answers + at, hops, n * sizeof(*hops));
    }
    return sum;
}

/* --- rules: what a packet shows of itself is one row of 12 bytes, in network order ---------------------------------- */

enum { PROTOCOL, ADDRESS, SOURCE_PORT, PORT, FIELDS };

struct acl_key {
    uint8_t protocol, zero[3];
    uint32_t address;
    uint16_t source_port, port;
};

struct acl_line { /* as it comes from outside; protocol -1: any */
    int32_t protocol;
    uint32_t address, length, port_first, port_last, number;
};

RTE_ACL_RULE_DEF(acl_rule, FIELDS);

static struct rte_acl_field_def acl_fields[FIELDS] = {
    {.type = RTE_ACL_FIELD_TYPE_BITMASK, .size = 1, .field_index = PROTOCOL, .input_index = 0, .offset = 0},
    {.type = RTE_ACL_FIELD_TYPE_MASK, .size = 4, .field_index = ADDRESS, .input_index = 1, .offset = 4},
    {.type = RTE_ACL_FIELD_TYPE_RANGE, .size = 2, .field_index = SOURCE_PORT, .input_index = 2, .offset = 8},
    {.type = RTE_ACL_FIELD_TYPE_RANGE, .size = 2, .field_index = PORT, .input_index = 2, .offset = 10},
};

/* `number` of the first line that matches is the answer: an earlier line has a higher priority. */
API struct rte_acl_ctx *acl_new(const struct acl_line *lines, uint32_t count, int *vector) {
    struct rte_acl_param param = {.name = fresh_name(), .socket_id = SOCKET_ID_ANY,
                                  .rule_size = RTE_ACL_RULE_SZ(FIELDS), .max_rule_num = count};
    struct rte_acl_config config = {.num_categories = 1, .num_fields = FIELDS};
    struct rte_acl_ctx *acl = rte_acl_create(&param);
    struct acl_rule *rules = calloc(count, sizeof(*rules));
    if (acl == NULL || rules == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct acl_rule *r = &rules[i];
        r->data.category_mask = 1;
        r->data.priority = RTE_ACL_MAX_PRIORITY - (int32_t)lines[i].number;
        r->data.userdata = lines[i].number;
        r->field[PROTOCOL].value.u8 = lines[i].protocol < 0 ? 0 : lines[i].protocol;
        r->field[PROTOCOL].mask_range.u8 = lines[i].protocol < 0 ? 0 : 0xFF;
        r->field[ADDRESS].value.u32 = lines[i].address;
        r->field[ADDRESS].mask_range.u32 = lines[i].length;
        r->field[SOURCE_PORT].mask_range.u16 = 0xFFFF;
        r->field[PORT].value.u16 = lines[i].port_first;
        r->field[PORT].mask_range.u16 = lines[i].port_last;
    }
    memcpy(config.defs, acl_fields, sizeof(acl_fields));
    int failed = rte_acl_add_rules(acl, (struct rte_acl_rule *)rules, count) || rte_acl_build(acl, &config);
    free(rules);
    if (failed) {
        rte_acl_free(acl);
        return NULL;
    }
    *vector = rte_acl_set_ctx_classify(acl, RTE_ACL_CLASSIFY_AVX512X32) == 0;
    return acl;
}

API void acl_free(struct rte_acl_ctx *acl) { rte_acl_free(acl); }

API uint64_t acl_run(struct rte_acl_ctx *acl, const struct acl_key *keys, uint32_t count, uint32_t *answers) {
    const uint8_t *rows[BURST];
    uint32_t found[BURST];
    uint64_t sum = 0;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        for (uint32_t i = 0; i < n; i++) rows[i] = (const uint8_t *)(keys + at + i);
        rte_acl_classify(acl, rows, found, n, 1);
        for (uint32_t i = 0; i < n; i++) sum += found[i];
        if (answers) memcpy(answers + at, found, n * sizeof(*found));
    }
    return sum;
}

/* --- flows: 16-byte keys, each with a record of 64 bytes that a lookup reads ------------------------------------------ */

struct flow_key {
    uint32_t source, destination;
    uint16_t source_port, destination_port;
    uint32_t rest;
};

struct flow_record {
    uint64_t words[8];
};

struct flows {
    struct rte_hash *hash;
    struct flow_record *records;
    size_t size;
};

API struct flows *flows_new(uint32_t capacity) {
    struct rte_hash_parameters parameters = {.name = fresh_name(), .entries = capacity, .socket_id = SOCKET_ID_ANY,
                                             .key_len = sizeof(struct flow_key), .hash_func = rte_hash_crc};
    struct flows *t = calloc(1, sizeof(*t));
    t->hash = rte_hash_create(&parameters);
    t->size = (((size_t)capacity + 64) * sizeof(struct flow_record) + (2 << 20)) & ~(size_t)((2 << 20) - 1);
    t->records = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->hash == NULL || t->records == MAP_FAILED) return NULL;
    madvise(t->records, t->size, MADV_HUGEPAGE);
    return t;
}

API void flows_free(struct flows *t) {
    rte_hash_free(t->hash);
    munmap(t->records, t->size);
    free(t);
}

/* How many went in. */
API uint32_t flows_add(struct flows *t, const struct flow_key *keys, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        int32_t at = rte_hash_add_key(t->hash, keys + i);
        if (at < 0) return i;
        t->records[at].words[0] = keys[i].rest;
    }
    return count;
}

API void flows_clear(struct flows *t) { rte_hash_reset(t->hash); }

API uint64_t flows_run(struct flows *t, const struct flow_key *keys, uint32_t count, uint32_t *answers) {
    const void *rows[BURST];
    int32_t found[BURST];
    uint64_t sum = 0;
    for (uint32_t at = 0; at < count; at += BURST) {
        uint32_t n = count - at < BURST ? count - at : BURST;
        for (uint32_t i = 0; i < n; i++) rows[i] = keys + at + i;
        rte_hash_lookup_bulk(t->hash, rows, n, found);
        for (uint32_t i = 0; i < n; i++)
            if (found[i] >= 0) __builtin_prefetch(&t->records[found[i]]);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t value = found[i] >= 0 ? (uint32_t)t->records[found[i]].words[0] : 0;
            sum += value;
            if (answers) answers[at + i] = value;
        }
    }
    return sum;
}
