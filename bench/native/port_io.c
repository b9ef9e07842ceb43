/* What a frame costs to write to and to read from a TAP device: by calls of its own, or by io_uring, many with one call.
 *
 *     cc -O3 -o port_io port_io.c && unshare --user --map-root-user --net ./port_io
 *
 * Echo requests are written to the device; the kernel's answers to them are read. All of it is done by this thread: time
 * in nanoseconds for each frame written and answer read, best of many short rounds, in batches of 1 to 64. For decision
 * 16; needs Linux 6.0.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
#define ROUNDS 400
#define VNET 12
#define FRAME (VNET + 14 + 20 + 8 + 22)
#define NOWAIT 8 /* RWF_NOWAIT */

static void need(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "port_io: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* -- io_uring ----------------------------------------------------------------------------------------------------- */

struct transfer {
    uint8_t bytes[2048];
    int result;
};

static int ring_fd;
static struct io_uring_params parameters;
static struct io_uring_sqe *submissions;
static uint8_t *shared;

static void ring_open(void) {
    parameters.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER;
    ring_fd = (int)syscall(SYS_io_uring_setup, MOST, &parameters);
    need(ring_fd >= 0, "io_uring_setup");
    size_t size = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
    size_t other = parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t);
    int how = MAP_SHARED | MAP_POPULATE;
    shared = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, how, ring_fd, IORING_OFF_SQ_RING);
    submissions =
        mmap(NULL, parameters.sq_entries * sizeof *submissions, PROT_READ | PROT_WRITE, how, ring_fd, IORING_OFF_SQES);
    need(shared != MAP_FAILED && (void *)submissions != MAP_FAILED, "mmap");
}

static void by_ring(int fd, struct transfer *rows, unsigned count, int writes) {
    uint32_t *tail = (uint32_t *)(shared + parameters.sq_off.tail), *array = (uint32_t *)(shared + parameters.sq_off.array);
    uint32_t *head = (uint32_t *)(shared + parameters.cq_off.head), first = *tail, at = *head;
    struct io_uring_cqe *done = (struct io_uring_cqe *)(shared + parameters.cq_off.cqes);
    for (unsigned i = 0; i < count; i++) {
        uint32_t slot = (first + i) & (parameters.sq_entries - 1);
        struct io_uring_sqe *s = &submissions[slot];
        memset(s, 0, sizeof *s);
        s->opcode = writes ? IORING_OP_WRITE : IORING_OP_READ;
        s->fd = fd;
        s->off = ~0ULL;
        s->addr = (uint64_t)(uintptr_t)rows[i].bytes;
        s->len = writes ? FRAME : sizeof rows[i].bytes;
        s->rw_flags = NOWAIT;
        s->user_data = i;
        array[slot] = slot;
    }
    __atomic_store_n(tail, first + count, __ATOMIC_RELEASE);
    long took = syscall(SYS_io_uring_enter, ring_fd, count, count, IORING_ENTER_GETEVENTS, NULL, 0);
    need(took == (long)count, "io_uring_enter");
    need(__atomic_load_n((uint32_t *)(shared + parameters.cq_off.tail), __ATOMIC_ACQUIRE) - at == count, "completions");
    for (unsigned i = 0; i < count; i++, at++) {
        struct io_uring_cqe *c = &done[at & (parameters.cq_entries - 1)];
        rows[c->user_data].result = c->res;
    }
    __atomic_store_n(head, at, __ATOMIC_RELEASE);
}

static void by_calls(int fd, struct transfer *rows, unsigned count, int writes) {
    for (unsigned i = 0; i < count; i++)
        rows[i].result = (int)(writes ? write(fd, rows[i].bytes, FRAME) : read(fd, rows[i].bytes, sizeof rows[i].bytes));
}

/* -- the device --------------------------------------------------------------------------------------------------- */

static int tap(void) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header = VNET, fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), control = socket(AF_INET, SOCK_DGRAM, 0);
    need(fd >= 0 && control >= 0, "/dev/net/tun");
    strcpy(request.ifr_name, "t0");
    need(ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &header) == 0, "TUNSETIFF");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.0.0.1")};
    memcpy(&request.ifr_addr, &address, sizeof address);
    need(ioctl(control, SIOCSIFADDR, &request) == 0, "address");
    request.ifr_flags = IFF_UP | IFF_NOARP; /* it need not ask who 10.0.0.2 is */
    need(ioctl(control, SIOCSIFFLAGS, &request) == 0, "up");
    close(control);
    return fd;
}

static uint16_t sum(const uint8_t *bytes, int size) {
    uint32_t total = 0;
    for (int i = 0; i < size; i += 2)
        total += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return htons((uint16_t)~total);
}

static void echo_request(uint8_t *frame) {
    uint8_t *ip = frame + VNET + 14, *icmp = ip + 20;
    uint16_t check;
    memset(frame, 0, FRAME);
    memset(frame + VNET, 0xff, 6); /* to everybody: whatever address the device has */
    frame[VNET + 12] = 8;
    memcpy(ip, (uint8_t[]){0x45, 0, 0, 50, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1}, 20);
    memcpy(ip + 10, (check = sum(ip, 20), &check), 2);
    icmp[0] = 8;
    memcpy(icmp + 2, (check = sum(icmp, 30), &check), 2);
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void) {
    static struct transfer out[MOST], in[MOST];
    int fd = tap();
    ring_open();
    printf("%6s %10s %10s\n", "batch", "calls", "io_uring");
    for (unsigned count = 1; count <= MOST; count *= 2) {
        double best[2] = {1e18, 1e18};
        for (int round = 0; round < 2 * ROUNDS; round++) {
            void (*way)(int, struct transfer *, unsigned, int) = round % 2 ? by_ring : by_calls;
            for (unsigned i = 0; i < count; i++)
                echo_request(out[i].bytes);
            for (int rest = 0; rest < 1000 && read(fd, in[0].bytes, sizeof in[0].bytes) > 0; rest++)
                ; /* what the kernel says of its own accord */
            double began = now_ns();
            way(fd, out, count, 1);
            way(fd, in, count, 0);
            double took = (now_ns() - began) / count;
            for (unsigned i = 0; i < count; i++)
                need(out[i].result == FRAME && in[i].result >= FRAME, "a frame or its answer");
            if (took < best[round % 2])
                best[round % 2] = took;
        }
        printf("%6u %10.0f %10.0f\n", count, best[0], best[1]);
    }
    return 0;
}
