/* libFuzzer as a library that Python loads (tools/fuzz.py): what it is linked with, and counters of our own, which it
 * looks at as at those of compiled code. */

#include <stddef.h>
#include <stdint.h>

#define COUNTERS 65536

__attribute__((section("__libfuzzer_extra_counters"))) uint8_t fuzz_counters[COUNTERS];

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));

int fuzz_run(int argc, char **argv, int (*callback)(const uint8_t *data, size_t size)) {
    return LLVMFuzzerRunDriver(&argc, &argv, callback);
}
