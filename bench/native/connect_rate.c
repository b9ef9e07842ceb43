/* TCP connections per second between two network namespaces: connect, one byte, one byte back, close.
 *
 *     connect_rate CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS CLIENT_CPU SERVER_CPU
 *
 * Four at a time, by one thread on each side: each on this CPU, or, with -1, where the scheduler puts it. The server
 * listens on eight ports, so that the client does not run out of ports of its own; the client closes first. One line of
 * JSON: connections per second, how many did not come about, and the address that the server saw.
 */
#include "wire.h"
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#define PORT 5100
#define PORTS 8
#define AT_ONCE 4
#define EVENTS 64

static const char *server_netns;
static int server_cpu;
static atomic_int ready, stop;
static _Atomic uint32_t seen;

static void watch(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void *serve(void *unused) {
    (void)unused;
    enter(server_netns, server_cpu);
    int epoll = epoll_create1(EPOLL_CLOEXEC), listeners[PORTS];
    for (int i = 0; i < PORTS; i++) {
        listeners[i] = bound(SOCK_STREAM | SOCK_NONBLOCK, PORT + i);
        need(listen(listeners[i], 1024) == 0, "listen");
        watch(epoll, listeners[i], EPOLLIN);
    }
    atomic_store(&ready, 1);
    struct epoll_event events[EVENTS];
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        int count = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd, is_listener = 0;
            for (int k = 0; k < PORTS; k++)
                is_listener |= fd == listeners[k];
            if (is_listener) {
                struct sockaddr_in from;
                socklen_t size = sizeof from;
                int made = accept4(fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (made >= 0) {
                    atomic_store(&seen, from.sin_addr.s_addr);
                    watch(epoll, made, EPOLLIN);
                }
                continue;
            }
            char byte;
            ssize_t got = recv(fd, &byte, 1, 0);
            if (got == 1)
                send(fd, &byte, 1, MSG_NOSIGNAL);
            else if (got == 0 || errno != EAGAIN)
                close(fd);
        }
    }
    return NULL;
}

struct client {
    int epoll;
    struct sockaddr_in to;
    unsigned number;
    unsigned long failed;
};

static void begin(struct client *c) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    need(fd >= 0, "socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->to.sin_port = htons((uint16_t)(PORT + c->number++ % PORTS));
    need(connect(fd, (struct sockaddr *)&c->to, sizeof c->to) == 0 || errno == EINPROGRESS, "connect");
    watch(c->epoll, fd, EPOLLOUT);
}

/* Connections a second over so many seconds; those under way at the end go on in the next run. */
static double run(struct client *c, double seconds) {
    struct epoll_event events[EVENTS];
    uint64_t began = now_ns(), end = began + (uint64_t)(seconds * 1e9);
    unsigned long done = 0;
    while (now_ns() < end) {
        int count = epoll_wait(c->epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char byte = 'x';
            if (!(events[i].events & (EPOLLERR | EPOLLHUP)) && events[i].events & EPOLLOUT) {
                struct epoll_event answer = {.events = EPOLLIN, .data.fd = fd};
                send(fd, &byte, 1, MSG_NOSIGNAL);
                epoll_ctl(c->epoll, EPOLL_CTL_MOD, fd, &answer);
                continue;
            }
            if (recv(fd, &byte, 1, 0) == 1)
                done++;
            else
                c->failed++;
            close(fd);
            begin(c);
        }
    }
    return (double)done / ((double)(now_ns() - began) / 1e9);
}

int main(int count, char **words) {
    if (count != 7) {
        fprintf(stderr, "usage: connect_rate CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS CLIENT_CPU SERVER_CPU\n");
        return 2;
    }
    server_netns = words[2];
    server_cpu = atoi(words[6]);
    double seconds = atof(words[4]);
    pthread_t thread;
    need(pthread_create(&thread, NULL, serve, NULL) == 0, "pthread_create");
    while (!atomic_load(&ready))
        usleep(1000);
    enter(words[1], atoi(words[5]));
    struct client c = {.epoll = epoll_create1(EPOLL_CLOEXEC), .to = address_of(words[3], PORT)};
    for (int i = 0; i < AT_ONCE; i++)
        begin(&c);
    run(&c, seconds / 4);
    c.failed = 0;
    double rate = run(&c, seconds);
    char text[INET_ADDRSTRLEN] = "";
    uint32_t from = atomic_load(&seen);
    inet_ntop(AF_INET, &from, text, sizeof text);
    printf("{\"rate\": %.1f, \"failed\": %lu, \"seen\": \"%s\"}\n", rate, c.failed, text);
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    return rate > 0 ? 0 : 1;
}
