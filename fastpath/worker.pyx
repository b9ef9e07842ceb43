"""Worker: one native thread that moves frames between TAP ports and the engine.

    wait (spin, then epoll) -> of each ready port: read what it has into one arena -> receive it -> write what is emitted

It never takes the GIL: a Python thread that holds it delays no packet. Between two rounds it lets control
calls that wait for the engine's lock go first. Each port has its own descriptor and at most ROUND frames a
round; of several that have frames, those that have had less time than others go first, so no port starves another: not
by many frames, nor by such as take long. Ports are opened and closed by whoever attaches them.

A frame takes one call to read and one to write. How many frames a port is asked for follows what it had before, so
that hardly a read comes back empty; ports that are silent are never asked. While frames come at short intervals the
worker spins for the next one: then nobody has to wake it up. Decision 16 has the measurements.
"""

import fcntl
import os
import threading

from libc.errno cimport EAGAIN, EINTR, EINVAL, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.burst cimport receive_burst
from fastpath.core cimport *
from fastpath.emission cimport *
from fastpath.engine cimport Engine
from fastpath.lock cimport is_wanted
from fastpath.flow cimport arrival
from fastpath.reason cimport REASON_OFFLOAD_MALFORMED, REASON_PORT_DOWN, REASON_PORT_QUEUE_FULL
from fastpath.watch cimport watch_flushed, watch_lost, watch_waits
from fastpath.wire cimport VNET_HEADER

cdef extern from "<unistd.h>" nogil:
    int close(int)
    long syscall(long, ...)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
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
    long SYS_read
    long SYS_write

cdef extern from *:
    """
    static inline void set_flag(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); }
    static inline int read_flag(int *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
    """
    void set_flag(bint *flag, bint value) nogil
    bint read_flag(bint *flag) nogil

cdef enum:
    ROUND = 32              # frames read from one port before the next one's turn, and room in the arena
    EVENTS = 64
    SETTLING = 64           # rounds: twice what a TAP device queues, 1,000 frames
    FRAME_MAX = 65536 + 14 + 2
    SLOT = 65984            # headroom and FRAME_MAX; deliberately no power of two: those alias in the cache
    SPIN_FIRST_NS = 8000    # how long to spin at first when a frame came soon
    EVEN_NS = 25000         # ports whose times differ by less have had the same
    AHEAD_NS = 1000000      # most that a port has to wait for: times in which others than us had the processor count too
    WAKE = 0xFFFFFFFFU      # event of the control descriptor

SPIN_US = 50
"""Longest time to spin for the next frame, in microseconds; to wake up a processor that sleeps takes half of it."""
SPIN_LIMIT_US = 1000


cdef struct counts:
    uint64_t rounds
    uint64_t frames
    uint64_t reads
    uint64_t writes
    uint64_t waits


cdef struct port:
    int descriptor          # -1: none
    uint32_t ask            # frames to ask for the next time
    bint full               # the last time there were as many as asked for
    uint64_t ahead          # nanoseconds that it has had more than others that had frames at the same time


cdef uint64_t monotonic_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000U + <uint64_t>t.tv_nsec


# What records of packets are dated by: the time that programs in the nodes know.
cdef uint64_t real_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <uint64_t>t.tv_sec * 1000000000U + <uint64_t>t.tv_nsec


cdef uint64_t monotonic_ms() noexcept nogil:
    return monotonic_ns() // 1000000U


def _longest_spin_us(told):
    if told is None:
        told = os.environ.get("VPCLAB_SPIN_US") or (SPIN_US if len(os.sched_getaffinity(0)) > 1 else 0)
    try:
        us = int(told)
    except ValueError:
        us = -1
    if not 0 <= us <= SPIN_LIMIT_US:
        raise ValueError(f"VPCLAB_SPIN_US={told}: it is a number of microseconds from 0 (never spin) to {SPIN_LIMIT_US}")
    return us


# Not through the C library: as there are other threads, its read and write would first look whether one of them cancels this one.
cdef inline long read_frame(int descriptor, void *room, size_t size) noexcept nogil:
    return syscall(SYS_read, descriptor, room, size)


cdef inline long write_frame(int descriptor, const void *frame, size_t size) noexcept nogil:
    return syscall(SYS_write, descriptor, frame, size)


cdef class Worker:
    """Runs an engine behind TAP ports.

    `attach` wants a non-blocking TAP descriptor opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR and a
    12-byte header (TUNSETVNETHDRSZ). The number of the port is also the number of its context.

    Args:
        spin_us: longest time to spin, in microseconds; without it ``VPCLAB_SPIN_US`` says so, or it is 50, and 0 where
            we have only one processor: whoever would send the next frame waits for it.
    """

    cdef readonly Engine engine
    cdef int epoll
    cdef int wake
    cdef port *ports            # by port number
    cdef uint32_t port_count
    cdef uint8_t *arena
    cdef arrival arrivals[ROUND]
    cdef uint32_t arrived
    cdef bint again             # this round comes right behind the one before: there was more than was asked for
    cdef uint64_t spin          # nanoseconds to spin, as things are
    cdef uint64_t spin_most
    cdef uint64_t offset
    cdef bint stopping          # see `read_flag`: the one thing that is read without the engine's lock
    cdef long thread
    cdef counts n
    cdef uint64_t waited        # since the lock was last held: of the thread alone
    cdef object runner
    cdef object control         # one attach, detach, start or stop at a time

    def __cinit__(self, Engine engine not None, *, spin_us=None):
        self.engine = engine
        engine.c.clock = real_ns
        self.epoll = -1
        self.wake = -1
        self.control = threading.Lock()
        self.arena = <uint8_t *>malloc(<size_t>ROUND * SLOT)
        if self.arena == NULL:
            raise MemoryError

    def __init__(self, engine, *, spin_us=None):
        cdef epoll_event event
        self.spin_most = <uint64_t>_longest_spin_us(spin_us) * 1000
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        event.events = EPOLLIN
        event.data.u64 = WAKE
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.wake, &event) < 0:
            raise OSError(errno, "epoll_ctl")

    def __dealloc__(self):
        cdef uint32_t number
        for number in range(self.port_count):
            if self.ports[number].descriptor >= 0:
                close(self.ports[number].descriptor)
        free(self.arena)
        free(self.ports)
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
        cdef int own, error
        cdef bint occupied, failed
        if os.get_blocking(descriptor):
            raise ValueError("the descriptor of a port must be non-blocking")
        if port == 0:
            raise ValueError("port 0 means none")
        with self.control:
            self._grow(port + 1)
            own = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
            event.events = EPOLLIN
            event.data.u64 = port
            with nogil:
                self.engine.acquire()
                occupied = self.ports[port].descriptor >= 0
                failed = occupied or epoll_ctl(self.epoll, EPOLL_CTL_ADD, own, &event) < 0
                error = errno
                if not failed:
                    self.ports[port].ask = 1
                    self.ports[port].full = False
                    self.ports[port].ahead = 0
                    self.ports[port].descriptor = own
                self.engine.release()
            if failed:
                os.close(own)
                if occupied:
                    raise ValueError(f"port {port} is attached already")
                raise OSError(error, "epoll_ctl")

    def detach(self, unsigned int port):
        """Forget the port; when this returns the worker no longer uses it, nor holds it open."""
        with self.control:
            if port < self.port_count:
                with nogil:
                    self.engine.acquire()
                    self._let_go(port)
                    self.engine.release()

    cdef int _grow(self, uint32_t wanted) except -1:
        cdef port *grown
        cdef port *unused
        cdef uint32_t i, count = wanted + 64
        if wanted <= self.port_count:
            return 0
        grown = <port *>malloc(count * sizeof(port))
        if grown == NULL:
            raise MemoryError
        with nogil:
            self.engine.acquire()
            for i in range(count):
                if i < self.port_count:
                    grown[i] = self.ports[i]
                else:
                    grown[i].descriptor = -1
            unused = self.ports
            self.ports = grown
            self.port_count = count
            self.engine.release()
        free(unused)
        return 0

    # With the engine's lock held.
    cdef void _let_go(self, uint32_t number) noexcept nogil:
        cdef epoll_event event
        cdef int descriptor = self.ports[number].descriptor
        if descriptor < 0:
            return
        self.ports[number].descriptor = -1
        memset(&event, 0, sizeof(event))
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, descriptor, &event)
        close(descriptor)

    def start(self):
        """Start the thread. Raises RuntimeError when it runs already."""
        with self.control:
            if self.runner is not None:
                raise RuntimeError("the worker runs already")
            set_flag(&self.stopping, False)
            self.runner = threading.Thread(target=self._run, name="vpclab-worker", daemon=True)
            self.runner.start()

    def stop(self):
        """End the thread and wait for it. Ports stay attached."""
        with self.control:
            if self.runner is None:
                return
            set_flag(&self.stopping, True)
            os.eventfd_write(self.wake, 1)
            self.runner.join()
            self.runner = None

    def set_clock_offset(self, unsigned long long ms):
        """Put the engine's clock this much ahead of CLOCK_MONOTONIC; it can only grow.

        While the worker runs, what was sent before that is decided before it.
        """
        cdef bint runs = self.running
        if ms < self.offset or ms >= 1 << 62:
            raise ValueError("lab time never goes back, nor further ahead than 2**62 ms")
        with nogil:
            self.engine.acquire()
            if runs:
                self._settle()
            self.offset = ms
            set_time(&self.engine.c, monotonic_ms() + ms)   # whoever asks next sees it, not only the next packet
            self.engine.release()
        os.eventfd_write(self.wake, 1)

    @property
    def clock_offset_ms(self):
        """How far lab time is ahead of CLOCK_MONOTONIC."""
        cdef uint64_t offset
        with nogil:
            self.engine.acquire()
            offset = self.offset
            self.engine.release()
        return offset

    def now_ms(self):
        """Lab time, in milliseconds."""
        cdef uint64_t now
        with nogil:
            self.engine.acquire()
            now = monotonic_ms() + self.offset
            self.engine.release()
        return now

    @property
    def running(self):
        """Whether the thread lives."""
        runner = self.runner        # which `stop` may forget meanwhile
        return runner is not None and runner.is_alive()

    @property
    def thread_id(self):
        """The kernel's number of the thread; 0 before it ran."""
        cdef long thread
        with nogil:
            self.engine.acquire()
            thread = self.thread
            self.engine.release()
        return thread

    def statistics(self):
        """Since the start: rounds, frames, and system calls: reads, writes, waits (also those that did not sleep)."""
        cdef counts n
        with nogil:
            self.engine.acquire()
            n = self.n
            self.engine.release()
        return {"rounds": n.rounds, "frames": n.frames, "reads": n.reads, "writes": n.writes, "waits": n.waits}

    def _run(self):
        with nogil:
            self.engine.acquire()
            self.thread = syscall(SYS_gettid)
            self.engine.release()
            self._loop()

    cdef void _loop(self) noexcept nogil:
        cdef epoll_event events[EVENTS]
        cdef int count
        while not read_flag(&self.stopping):
            count = self._wait(events)
            self.engine.acquire()
            self.again = count > 0 and self.waited == 1
            self.n.waits += self.waited
            self.waited = 0
            self._round(events, count)
            self.engine.release()
            while is_wanted(&self.engine.lock):
                sched_yield()

    # With the engine's lock held.
    cdef void _round(self, epoll_event *events, int count) noexcept nogil:
        if self.engine.c.watch != NULL:
            watch_waits(self.engine.c.watch, True)
        set_time(&self.engine.c, monotonic_ms() + self.offset)
        self.n.rounds += 1
        self._flush()           # captures: fragments that died because time has passed
        self._read_ports(events, count)
        if self.engine.c.watch != NULL:
            watch_waits(self.engine.c.watch, False)

    # Rounds until no port has anything: the kernel sends the last packet of a TCP handshake before `connect` returns, and
    # whoever lets time pass then must not find it late. Under a flood there is always more. With the engine's lock held.
    cdef void _settle(self) noexcept nogil:
        cdef epoll_event events[EVENTS]
        cdef int _, count
        for _ in range(SETTLING):
            count = epoll_wait(self.epoll, events, EVENTS, 0)
            self.n.waits += 1
            if count <= 0:
                break
            self.again = True
            self._round(events, count)

    # --- waiting ---------------------------------------------------------------------------------------------------

    # Events, or none when it is time to look after what dies of age.
    #
    # How long to spin follows what waiting was like (as the kernel's haltpoll governor has it): longer while frames
    # come soon, not at all after a longer pause.
    cdef int _wait(self, epoll_event *events) noexcept nogil:
        cdef int count = self._ready(events, 0)
        cdef uint64_t began, now
        if count > 0:
            return count
        now = began = monotonic_ns()
        while now - began < self.spin:
            sched_yield()           # to whom we have just written, if that is on our processor
            count = self._ready(events, 0)
            if count > 0:
                return count
            now = monotonic_ns()
        count = self._ready(events, SWEEP_MS)
        if count <= 0 or monotonic_ns() - began > self.spin_most:
            self.spin = 0
        elif self.spin < SPIN_FIRST_NS:
            self.spin = SPIN_FIRST_NS
        else:
            self.spin *= 2
        if self.spin > self.spin_most:
            self.spin = self.spin_most
        return count

    cdef int _ready(self, epoll_event *events, int timeout_ms) noexcept nogil:
        self.waited += 1
        return epoll_wait(self.epoll, events, EVENTS, timeout_ms)

    # --- reading ---------------------------------------------------------------------------------------------------

    # Those that have had the least time are read first; the others only when these have nothing left, so that the time that
    # somebody does not use is everybody's. The time that reading, deciding and writing takes counts for each by itself.
    cdef void _read_ports(self, epoll_event *events, int count) noexcept nogil:
        cdef port *ready[EVENTS]
        cdef port *p
        cdef uint32_t numbers[EVENTS]
        cdef uint32_t number
        cdef int i, ports = 0, left
        cdef bint done[EVENTS]
        cdef bint more = False
        cdef uint64_t value, least, began, now
        for i in range(count):
            number = <uint32_t>events[i].data.u64
            if number == WAKE:
                read_frame(self.wake, &value, sizeof(value))
            elif number < self.port_count and self.ports[number].descriptor >= 0:
                numbers[ports] = number
                ready[ports] = &self.ports[number]
                done[ports] = False
                ports += 1
        left = ports
        now = monotonic_ns() if ports > 1 else 0
        while left and not more:
            least = AHEAD_NS
            for i in range(ports):
                if not done[i] and ready[i].ahead < least:
                    least = ready[i].ahead
            for i in range(ports):
                p = ready[i]
                p.ahead -= least if least < p.ahead else p.ahead
                if done[i] or p.ahead >= EVEN_NS:
                    continue
                self._read_port(numbers[i])
                self._take()
                done[i] = True
                left -= 1
                more |= p.full
                if ports > 1:
                    began = now
                    now = monotonic_ns()
                    p.ahead = p.ahead + now - began if p.ahead + now - began < AHEAD_NS else AHEAD_NS

    cdef void _read_port(self, uint32_t number) noexcept nogil:
        cdef port *p
        cdef long size
        cdef uint32_t got = 0
        cdef uint8_t *frame
        cdef arrival *a
        p = &self.ports[number]
        if self.again and p.full and p.ask < ROUND:
            p.ask = p.ask * 2 if p.ask <= ROUND // 2 else ROUND     # more has come than one round took
        while got < p.ask:
            frame = self._slot(self.arrived)
            size = read_frame(p.descriptor, frame - VNET_HEADER, VNET_HEADER + FRAME_MAX)
            self.n.reads += 1
            if size < 0 and (errno == EAGAIN or errno == EINTR):
                break
            if size <= 0:
                # the device is gone
                self._let_go(number)
                count_reason(&self.engine.c, number, REASON_PORT_DOWN)
                break
            got += 1
            if size >= VNET_HEADER:
                a = &self.arrivals[self.arrived]
                a.frame = frame
                a.vnet = frame - VNET_HEADER
                a.trace = NULL
                a.length = <uint32_t>size - VNET_HEADER
                a.context = number
                a.parent = self.arrived
                self.arrived += 1
        p.full = got == p.ask
        if not p.full:
            p.ask = got if got else 1

    cdef inline uint8_t *_slot(self, uint32_t number) noexcept nogil:
        return self.arena + <size_t>number * SLOT + SLOT_HEADROOM

    # Let in what was read; what is emitted leaves as soon as it takes half of the room for it.
    cdef void _take(self) noexcept nogil:
        cdef uint32_t done = 0, count
        while done < self.arrived:
            count = self.arrived - done if self.arrived - done < BURST else BURST
            done += receive_burst(&self.engine.c, &self.arrivals[done], count, True)
            if done < self.arrived:
                self._flush()
        self.n.frames += self.arrived
        self.arrived = 0
        self._flush()

    # --- writing ---------------------------------------------------------------------------------------------------

    cdef void _flush(self) noexcept nogil:
        cdef core *c = &self.engine.c
        cdef emission *e
        cdef uint32_t i
        cdef int descriptor
        for i in range(c.out.count):
            e = &c.out.rows[i]
            descriptor = self.ports[e.port].descriptor if e.port < self.port_count else -1
            if descriptor < 0:
                self._lost(i, REASON_PORT_DOWN)
                continue
            memcpy(e.frame - VNET_HEADER, e.vnet, VNET_HEADER)
            self.n.writes += 1
            if write_frame(descriptor, e.frame - VNET_HEADER, VNET_HEADER + e.length) >= 0:
                count_sent(c, e)
            elif errno == EAGAIN:
                self._lost(i, REASON_PORT_QUEUE_FULL)
            elif errno == EINVAL:
                self._lost(i, REASON_OFFLOAD_MALFORMED)
            else:
                self._lost(i, REASON_PORT_DOWN)
        outbox_clear(&c.out)
        if c.watch != NULL:
            watch_flushed(c.watch)

    # The port did not take it.
    cdef void _lost(self, uint32_t number, uint16_t reason) noexcept nogil:
        cdef core *c = &self.engine.c
        count_reason(c, c.out.rows[number].port, reason)
        if c.watch != NULL:
            watch_begins(c)
            watch_lost(c.watch, c.t, &c.out.rows[number], number + 1, reason)
