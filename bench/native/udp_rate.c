/* Packets per second of small UDP packets between two network namespaces.
 *
 *     udp_rate CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS STEPS socket
 *     udp_rate CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS STEPS device
 *
 * socket: ordinary datagrams, sendmmsg to recvmmsg; what the receiving socket got is counted.
 * device: the cheap generator (UDP_SEGMENT, 32 packets a call); what eth0 of the server got is counted. The caller
 *     has eth0 drop them there: UDP to port 5009 with a UDP length of 26. Nothing is counted of what is sent as
 *     super-packets: the caller has switched tx-udp-segmentation off.
 *
 * First an exchange in both directions, so that connection tracking takes the flow for established, then as fast as
 * it goes for SECONDS, then STEPS of bisection for the highest rate at which at most 1 % is lost. The receiver polls:
 * one that sleeps would put a wake-up on the sender for each packet. With `device` nothing waits for it, and to read the
 * device's count takes 60 us: it polls rarely, or it would take a quarter of a processor from routers that are programs.
 * One line of JSON: packets per second sent and delivered at full speed, and delivered at no more than 1 % loss.
 */
#include "wire.h"
#include <netinet/udp.h>
#include <pthread.h>
#include <stdatomic.h>

#define PAYLOAD 18 /* a frame of 64 bytes with its check sequence */
#define WARM 10    /* another length: not dropped at the device */
#define BURST 32
#define POLL_SOCKET_US 100
#define POLL_DEVICE_US 5000 /* a quarter of what settled() waits */
#define PORT_SOCKET 5008
#define PORT_DEVICE 5009

static const char *server_netns;
static int at_device;
static atomic_ulong delivered; /* by the sink's count */
static atomic_int stop, ready;

/* Packets that eth0 of this thread's namespace has received. */
static uint64_t device_packets(void) {
    char line[512];
    unsigned long long bytes, packets = 0;
    FILE *f = fopen("/proc/thread-self/net/dev", "r");
    need(f != NULL, "net/dev");
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (colon && strstr(line, "eth0"))
            need(sscanf(colon + 1, "%llu %llu", &bytes, &packets) == 2, "net/dev");
    }
    fclose(f);
    return packets;
}

static void *sink(void *unused) {
    (void)unused;
    enter(server_netns, 1);
    int fd = bound(SOCK_DGRAM, at_device ? PORT_DEVICE : PORT_SOCKET), size = 4 << 20;
    need(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == 0, "SO_RCVBUFFORCE");
    static char room[BURST][64];
    struct sockaddr_in from[BURST];
    struct iovec parts[BURST];
    struct mmsghdr messages[BURST];
    uint64_t base = device_packets();
    atomic_store(&ready, 1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        for (int i = 0; i < BURST; i++) {
            parts[i] = (struct iovec){room[i], sizeof room[i]};
            messages[i].msg_hdr =
                (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_name = &from[i], .msg_namelen = sizeof from[i]};
        }
        int got = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++)
            if (messages[i].msg_len == WARM) /* answer, so that the flow has two directions */
                sendto(fd, room[i], WARM, 0, (struct sockaddr *)&from[i], sizeof from[i]);
        if (at_device)
            atomic_store(&delivered, device_packets() - base);
        else if (got > 0)
            atomic_fetch_add(&delivered, (unsigned long)got);
        if (got < BURST)
            usleep(at_device ? POLL_DEVICE_US : POLL_SOCKET_US);
    }
    return NULL;
}

static int warm_up(int fd) {
    char byte[WARM] = {0};
    int answers = 0;
    for (int i = 0; i < 20 && answers < 3; i++) {
        send(fd, byte, WARM, 0);
        answers += recv(fd, byte, sizeof byte, 0) > 0;
    }
    return answers == 3;
}

/* Packets sent in `seconds` at `rate` a second (0: as fast as it goes). */
static uint64_t blast(int fd, double seconds, double rate) {
    static char data[BURST * PAYLOAD];
    struct iovec parts[BURST];
    struct mmsghdr messages[BURST];
    for (int i = 0; i < BURST; i++) {
        parts[i] = (struct iovec){data + i * PAYLOAD, PAYLOAD};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    uint64_t sent = 0, began = now_ns(), end = began + (uint64_t)(seconds * 1e9), now;
    while ((now = now_ns()) < end) {
        if (rate > 0 && (double)sent > (double)(now - began) * rate / 1e9)
            continue;
        if (at_device) {
            if (send(fd, data, sizeof data, 0) == (ssize_t)sizeof data)
                sent += BURST;
            else
                need(errno != EIO, "UDP_SEGMENT"); /* before Linux 6.11 it needs a device that does checksums */
        } else {
            int done = sendmmsg(fd, messages, BURST, 0);
            sent += done > 0 ? (uint64_t)done : 0;
        }
    }
    return sent;
}

/* What has arrived once nothing arrives any more. */
static uint64_t settled(void) {
    uint64_t before, after = atomic_load(&delivered);
    do {
        before = after;
        usleep(20000);
        after = atomic_load(&delivered);
    } while (after != before);
    return after;
}

struct outcome {
    double sent, delivered;
};

static struct outcome one(int fd, double seconds, double rate) {
    uint64_t before = settled(), began = now_ns();
    uint64_t sent = blast(fd, seconds, rate);
    double took = (double)(now_ns() - began) / 1e9;
    /* What is still under way belongs to the window only as far as queues are long: count it, they are short. */
    return (struct outcome){(double)sent / took, (double)(settled() - before) / took};
}

int main(int count, char **words) {
    if (count != 7) {
        fprintf(stderr, "usage: udp_rate CLIENT_NETNS SERVER_NETNS ADDRESS SECONDS STEPS socket|device\n");
        return 2;
    }
    server_netns = words[2];
    double seconds = atof(words[4]);
    int steps = atoi(words[5]);
    at_device = strcmp(words[6], "device") == 0;
    pthread_t thread;
    need(pthread_create(&thread, NULL, sink, NULL) == 0, "pthread_create");
    while (!atomic_load(&ready))
        usleep(1000);
    enter(words[1], 0);
    int fd = bound(SOCK_DGRAM, 0);
    struct sockaddr_in to = address_of(words[3], at_device ? PORT_DEVICE : PORT_SOCKET);
    need(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    wait_at_most(fd, 1);
    if (!warm_up(fd)) {
        fprintf(stderr, "udp_rate: no answer from %s\n", words[3]);
        return 1;
    }
    if (at_device) {
        int segment = PAYLOAD;
        need(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0, "UDP_SEGMENT");
    }
    one(fd, seconds / 4, 0);
    struct outcome flood = one(fd, seconds, 0);
    double best = flood.delivered >= flood.sent * 0.99 ? flood.delivered : 0, low = 0, high = flood.sent;
    for (int i = 0; best < flood.sent * 0.99 && i < steps; i++) {
        struct outcome at = one(fd, seconds, (low + high) / 2);
        if (at.delivered >= at.sent * 0.99) {
            best = at.delivered > best ? at.delivered : best;
            low = (low + high) / 2;
        } else
            high = (low + high) / 2;
    }
    printf("{\"sent\": %.0f, \"delivered\": %.0f, \"lossless\": %.0f}\n", flood.sent, flood.delivered, best);
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    return 0;
}
