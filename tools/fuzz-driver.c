/* libFuzzer as a library that Python loads (tools/fuzz.py): what it is linked with, counters of our own, which it looks at
 * as at those of compiled code, and what it does to an input. */

#include <stddef.h>
#include <stdint.h>

#define COUNTERS 65536
#define ELSEWHERE 8 /* one input in so many goes to another lab */

__attribute__((section("__libfuzzer_extra_counters"))) uint8_t fuzz_counters[COUNTERS];

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* What libFuzzer does by itself changes the first octet, which of most targets says in what lab all else happens, as seldom
 * as any other. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size > 0 && seed % ELSEWHERE == 0)
        data[0] = (uint8_t)(seed / ELSEWHERE);
    return size;
}

int fuzz_run(int argc, char **argv, int (*callback)(const uint8_t *data, size_t size)) {
    return LLVMFuzzerRunDriver(&argc, &argv, callback);
}
