/* Faults that a sanitizer has to report before its silence about us counts (tools/sanitized.py). */

#include <pthread.h>
#include <stdlib.h>

int read_at(const char *bytes, int at) { return bytes[at]; }

int shift(int value, int by) { return value << by; }

void lose(size_t size) {
    volatile char *lost = malloc(size);
    lost[0] = 1;
}

static int shared;

static void *add(void *unused) {
    for (int i = 0; i < 1000; i++) shared++;
    return unused;
}

int race(void) {
    pthread_t one, other;
    pthread_create(&one, NULL, add, NULL);
    pthread_create(&other, NULL, add, NULL);
    pthread_join(one, NULL);
    pthread_join(other, NULL);
    return shared;
}
