/* What the wire tools share: threads that live in a network namespace each, on a CPU each, and a clock. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* For the calling thread alone: into this network namespace, onto this CPU (-1: any). */
static inline void enter(const char *netns, int cpu) {
    int fd = open(netns, O_RDONLY | O_CLOEXEC);
    need(fd >= 0, netns);
    need(setns(fd, CLONE_NEWNET) == 0, "setns");
    close(fd);
    if (cpu >= 0 && cpu < (int)sysconf(_SC_NPROCESSORS_ONLN)) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        need(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
    }
}

static inline struct sockaddr_in address_of(const char *text, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    need(inet_pton(AF_INET, text, &a.sin_addr) == 1, text);
    return a;
}

static inline int bound(int kind, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, kind | SOCK_CLOEXEC, 0);
    need(fd >= 0, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    need(bind(fd, (struct sockaddr *)&a, sizeof a) == 0, "bind");
    return fd;
}

static inline void wait_at_most(int fd, int seconds) {
    struct timeval limit = {.tv_sec = seconds};
    need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
}

#endif
