/* Round trips of a small UDP packet between two network namespaces, in microseconds.
 *
 *     ping_pong CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS CLIENT_CPU SERVER_CPU
 *
 * Both ends block. After a tenth of the time as warm-up, each round trip is timed, until the time is over and there
 * are 200, or ten seconds have passed. A lost packet is sent again after 200 ms and counted. One line of JSON: p50,
 * p99, how many, how many lost.
 */
#include "wire.h"
#include <pthread.h>
#include <stdatomic.h>

#define PORT 5010
#define MOST 1000000
#define LEAST 200
#define LIMIT_NS 10000000000u

static const char *server_netns;
static int server_cpu;
static atomic_int ready;

static void *echo(void *unused) {
    (void)unused;
    enter(server_netns, server_cpu);
    int fd = bound(SOCK_DGRAM, PORT);
    char data[64];
    struct sockaddr_in from;
    atomic_store(&ready, 1);
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &size);
        if (got > 0)
            sendto(fd, data, (size_t)got, 0, (struct sockaddr *)&from, size);
    }
    return NULL;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words) {
    if (count != 7) {
        fprintf(stderr, "usage: ping_pong CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS CLIENT_CPU SERVER_CPU\n");
        return 2;
    }
    server_netns = words[2];
    server_cpu = atoi(words[6]);
    pthread_t thread;
    need(pthread_create(&thread, NULL, echo, NULL) == 0, "pthread_create");
    while (!atomic_load(&ready))
        usleep(1000);
    enter(words[1], atoi(words[5]));
    uint32_t *times = malloc(MOST * sizeof *times);
    need(times != NULL, "malloc");
    int fd = bound(SOCK_DGRAM, 0);
    struct sockaddr_in to = address_of(words[3], PORT);
    need(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    struct timeval limit = {.tv_usec = 200000};
    need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
    uint64_t began = now_ns(), span = (uint64_t)(atof(words[4]) * 1e9), sent;
    uint32_t number = 0, done = 0, lost = 0, back;
    while (done < MOST) {
        sent = now_ns();
        if (sent - began > span + span / 10 && (done >= LEAST || sent - began > LIMIT_NS))
            break;
        number++;
        need(send(fd, &number, sizeof number, 0) == sizeof number, "send");
        for (;;) { /* an answer that comes after all is not this one's */
            ssize_t got = recv(fd, &back, sizeof back, 0);
            if (got < 0 || back == number) {
                lost += got < 0;
                if (got >= 0 && sent - began >= span / 10)
                    times[done++] = (uint32_t)(now_ns() - sent);
                break;
            }
        }
    }
    if (done == 0) {
        fprintf(stderr, "ping_pong: no answer from %s, %u lost\n", words[3], lost);
        return 1;
    }
    qsort(times, done, sizeof *times, by_size);
    printf("{\"p50\": %.2f, \"p99\": %.2f, \"count\": %u, \"lost\": %u}\n", times[done / 2] / 1e3,
           times[(uint64_t)done * 99 / 100] / 1e3, done, lost);
    return 0;
}
