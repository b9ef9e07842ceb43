"""Worker: one native thread that moves frames between TAP ports and the engine.

    wait (epoll) -> read a round from every ready port into one arena -> receive each -> write what it emits

It never takes the GIL: a Python thread that holds it delays no packet. Between two rounds it lets control
calls that wait for the engine's lock go first. Each port has its own descriptor and at most ROUND frames a
round, so no port starves another. Ports are opened and closed by whoever attaches them.
"""

import fcntl
import os
import threading

from libc.errno cimport EAGAIN, EINTR, EINVAL, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.core cimport *
from fastpath.emission cimport *
from fastpath.engine cimport Engine, read_waiting
from fastpath.reason cimport REASON_OFFLOAD_MALFORMED, REASON_PORT_DOWN, REASON_PORT_QUEUE_FULL
from fastpath.wire cimport VNET_HEADER

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    int close(int)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(clockid_t, timespec *)

cdef extern from "<sys/epoll.h>" nogil:
    cdef union epoll_data:
        uint32_t u32
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data data
    int EPOLLIN
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int EPOLL_CLOEXEC
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_gettid
    long syscall(long)

cdef enum:
    ROUND = 32              # frames read from one port before the next one's turn
    EVENTS = 64
    SLOTS = 64              # frames in the arena
    FRAME_MAX = 65536 + 14 + 2
    SLOT = 65984            # headroom and FRAME_MAX; deliberately no power of two: those alias in the cache
    WAKE = 0xFFFFFFFFU      # event of the control descriptor


cdef struct counts:
    uint64_t rounds
    uint64_t frames
    uint64_t reads
    uint64_t writes


cdef uint64_t monotonic_ms() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000 + <uint64_t>t.tv_nsec // 1000000


cdef class Worker:
    """Runs an engine behind TAP ports.

    `attach` wants a non-blocking TAP descriptor opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR and a
    12-byte header (TUNSETVNETHDRSZ). The number of the port is also the number of its context.
    """

    cdef readonly Engine engine
    cdef int epoll
    cdef int wake
    cdef int *descriptors       # by port number; -1: none
    cdef uint32_t descriptor_count
    cdef uint8_t *arena
    cdef uint64_t offset
    cdef bint stopping
    cdef long thread
    cdef counts n
    cdef object runner
    cdef object control         # one attach or detach at a time

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.epoll = -1
        self.wake = -1
        self.control = threading.Lock()
        self.arena = <uint8_t *>malloc(<size_t>SLOTS * SLOT)
        if self.arena == NULL:
            raise MemoryError

    def __init__(self, engine):
        cdef epoll_event event
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        event.events = EPOLLIN
        event.data.u64 = WAKE
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.wake, &event) < 0:
            raise OSError(errno, "epoll_ctl")

    def __dealloc__(self):
        cdef uint32_t port
        for port in range(self.descriptor_count):
            if self.descriptors[port] >= 0:
                close(self.descriptors[port])
        free(self.arena)
        free(self.descriptors)
        if self.epoll >= 0:
            os.close(self.epoll)
        if self.wake >= 0:
            os.close(self.wake)

    def attach(self, unsigned int port, int descriptor):
        """Take frames from, and write frames of `port` to, this descriptor.

        The worker works on a duplicate of its own; the one given stays the caller's to close.

        Raises:
            ValueError: the port is attached already, is 0, or the descriptor blocks.
            OSError: the kernel refuses it.
        """
        cdef epoll_event event
        cdef int own
        if os.get_blocking(descriptor):
            raise ValueError("the descriptor of a port must be non-blocking")
        if port == 0:
            raise ValueError("port 0 means none")
        with self.control:
            self._grow(port + 1)
            if self.descriptors[port] >= 0:
                raise ValueError(f"port {port} is attached already")
            own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
            event.events = EPOLLIN
            event.data.u64 = port
            self.descriptors[port] = own
            if epoll_ctl(self.epoll, EPOLL_CTL_ADD, own, &event) < 0:
                self.descriptors[port] = -1
                os.close(own)
                raise OSError(errno, "epoll_ctl")

    def detach(self, unsigned int port):
        """Forget the port; when this returns the worker no longer uses it, nor holds it open."""
        with self.control:
            if port < self.descriptor_count:
                with nogil:
                    self.engine.acquire()
                    self._let_go(port)
                    self.engine.release()

    cdef int _grow(self, uint32_t wanted) except -1:
        cdef int *grown
        cdef int *unused
        cdef uint32_t i, count = wanted + 64
        if wanted <= self.descriptor_count:
            return 0
        grown = <int *>malloc(count * sizeof(int))
        if grown == NULL:
            raise MemoryError
        with nogil:
            self.engine.acquire()
            for i in range(count):
                grown[i] = self.descriptors[i] if i < self.descriptor_count else -1
            unused = self.descriptors
            self.descriptors = grown
            self.descriptor_count = count
            self.engine.release()
        free(unused)
        return 0

    # With the engine's lock held.
    cdef void _let_go(self, uint32_t port) noexcept nogil:
        cdef epoll_event event
        cdef int descriptor = self.descriptors[port]
        if descriptor < 0:
            return
        self.descriptors[port] = -1
        memset(&event, 0, sizeof(event))
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, descriptor, &event)
        close(descriptor)

    def start(self):
        """Start the thread. Raises RuntimeError when it runs already."""
        if self.runner is not None:
            raise RuntimeError("the worker runs already")
        self.stopping = False
        self.runner = threading.Thread(target=self._run, name="vpclab-worker", daemon=True)
        self.runner.start()

    def stop(self):
        """End the thread and wait for it. Ports stay attached."""
        if self.runner is None:
            return
        self.stopping = True
        os.eventfd_write(self.wake, 1)
        self.runner.join()
        self.runner = None

    def set_clock_offset(self, unsigned long long ms):
        """Put the engine's clock this much ahead of CLOCK_MONOTONIC; it can only grow."""
        if ms < self.offset or ms >= 1 << 62:
            raise ValueError("lab time never goes back, nor further ahead than 2**62 ms")
        with nogil:
            self.engine.acquire()
            self.offset = ms
            set_time(&self.engine.c, monotonic_ms() + ms)   # whoever asks next sees it, not only the next packet
            self.engine.release()
        os.eventfd_write(self.wake, 1)

    @property
    def clock_offset_ms(self):
        """How far lab time is ahead of CLOCK_MONOTONIC."""
        return self.offset

    def now_ms(self):
        """Lab time, in milliseconds."""
        return monotonic_ms() + self.offset

    @property
    def running(self):
        """Whether the thread lives."""
        return self.runner is not None and self.runner.is_alive()

    @property
    def thread_id(self):
        """The kernel's number of the thread; 0 before it ran."""
        return self.thread

    def statistics(self):
        """Rounds, frames, reads and writes (system calls) since the start."""
        return {"rounds": self.n.rounds, "frames": self.n.frames, "reads": self.n.reads, "writes": self.n.writes}

    def _run(self):
        with nogil:
            self.thread = syscall(SYS_gettid)
            self._loop()

    cdef void _loop(self) noexcept nogil:
        cdef epoll_event events[EVENTS]
        cdef int count, i
        cdef uint64_t now, value
        while not self.stopping:
            count = epoll_wait(self.epoll, events, EVENTS, SWEEP_MS)
            self.engine.acquire()
            now = monotonic_ms() + self.offset
            set_time(&self.engine.c, now)
            self.n.rounds += 1
            self._flush()           # what left because time has passed
            for i in range(count):
                if events[i].data.u64 == WAKE:
                    read(self.wake, &value, sizeof(value))
                else:
                    self._read_port(<uint32_t>events[i].data.u64)
            self.engine.release()
            while read_waiting(&self.engine.waiting):
                sched_yield()

    cdef void _read_port(self, uint32_t port) noexcept nogil:
        cdef int descriptor
        cdef int _
        cdef ssize_t size
        cdef uint8_t *slot
        cdef outcome result
        cdef uint32_t used = 0
        if port >= self.descriptor_count:
            return
        descriptor = self.descriptors[port]
        if descriptor < 0:
            return
        for _ in range(ROUND):
            slot = self.arena + <size_t>used * SLOT + SLOT_HEADROOM
            size = read(descriptor, slot - VNET_HEADER, VNET_HEADER + FRAME_MAX)
            self.n.reads += 1
            if size < 0 and (errno == EAGAIN or errno == EINTR):
                break
            if size <= 0:
                # the device is gone
                self._let_go(port)
                count_reason(&self.engine.c, port, REASON_PORT_DOWN)
                break
            if size < VNET_HEADER:
                continue
            self.n.frames += 1
            receive(&self.engine.c, slot, <uint32_t>(size - VNET_HEADER), slot - VNET_HEADER, port, used, &result)
            used += 1
            if self.engine.c.out.count > MAX_EMISSIONS // 2 or self.engine.c.out.used > SCRATCH // 2:
                self._flush()
                used = 0
        self._flush()

    cdef void _flush(self) noexcept nogil:
        cdef core *c = &self.engine.c
        cdef emission *e
        cdef uint32_t i
        cdef int descriptor, failure
        cdef ssize_t size
        for i in range(c.out.count):
            e = &c.out.rows[i]
            descriptor = self.descriptors[e.port] if e.port < self.descriptor_count else -1
            if descriptor < 0:
                count_reason(c, e.port, REASON_PORT_DOWN)
                continue
            memcpy(e.frame - VNET_HEADER, e.vnet, VNET_HEADER)
            size = write(descriptor, e.frame - VNET_HEADER, VNET_HEADER + e.length)
            self.n.writes += 1
            if size >= 0:
                count_sent(c, e)
                continue
            failure = errno
            if failure == EAGAIN:
                count_reason(c, e.port, REASON_PORT_QUEUE_FULL)
            elif failure == EINVAL:
                count_reason(c, e.port, REASON_OFFLOAD_MALFORMED)
            else:
                count_reason(c, e.port, REASON_PORT_DOWN)
        outbox_clear(&c.out)
