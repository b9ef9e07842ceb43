/* Preloaded, counts what the process asks the allocator for; `allocations` tells how often by now. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define API __attribute__((visibility("default")))

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uint64_t count;

static void noted(void) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

API uint64_t allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

API void *malloc(size_t size) {
    noted();
    return __libc_malloc(size);
}

API void *calloc(size_t number, size_t size) {
    noted();
    return __libc_calloc(number, size);
}

API void *realloc(void *old, size_t size) {
    noted();
    return __libc_realloc(old, size);
}

API void *memalign(size_t alignment, size_t size) {
    noted();
    return __libc_memalign(alignment, size);
}

API void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

API int posix_memalign(void **out, size_t alignment, size_t size) {
    *out = memalign(alignment, size);
    return *out ? 0 : 12;
}
