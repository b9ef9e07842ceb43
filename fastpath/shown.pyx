"""What Python is shown of emissions, plans, traces and sessions: tuples and dicts of plain numbers and words."""

from cpython.bytes cimport PyBytes_FromStringAndSize

from fastpath.emission cimport NO_PARENT, apply_edit, emission
from fastpath.packet cimport addr, tuple5
from fastpath.plan cimport hop, plan, trace_buffer
from fastpath.reason cimport VERDICT_FORWARD
from fastpath.session cimport SESSION_BALANCED, session, way_tuple
from fastpath.wire cimport VNET_HEADER

HOP_OPS = ("drop", "guard", "bridge", "filter", "group-session", "nat-session", "lookup", "rewrite", "hop", "enter", "emit", "serve",
           "flow-gate", "encapsulate", "decapsulate", "point")
HOP_DETAILS = ("passed", "dropped", "skipped", "branched", "new", "known", "related", "untracked", "outbound", "inbound", "fragments",
               "encapsulated", "decapsulated")
SESSION_KINDS = ("", "group", "nat", "pool", "flow", "balancer", "sticky")
SESSION_STATES = ("", "opening", "open", "closing", "single", "replied", "stream", "query", "other")


cdef object number_of(addr a):
    return (<object>a.hi << 64) | a.lo


cdef tuple tuple_of(tuple5 *t):
    return (t.family, number_of(t.src), number_of(t.dst), t.proto, t.sport, t.dport)


cdef tuple tuple_of_way(session *s, int way):
    cdef tuple5 t = s.key[way].tuple
    if s.kind == SESSION_BALANCED:
        way_tuple(s, way, &t)
    return tuple_of(&t)


cdef list emissions_of(taken *t):
    cdef uint32_t i
    cdef emission *e
    cdef list rows = []
    if t.failed:
        raise MemoryError
    for i in range(t.count):
        e = &t.rows[i]
        rows.append((e.port, PyBytes_FromStringAndSize(<char *>e.frame, e.length), e.cause,
                     -1 if e.parent == NO_PARENT else <int>e.parent,
                     PyBytes_FromStringAndSize(<char *>e.vnet, VNET_HEADER)))
    return rows


# A packet that would leave, as bytes.
cdef dict planned(plan *x, trace_buffer *hops):
    cdef uint32_t length = 0
    cdef uint8_t *frame
    cdef dict answer = {"verdict": x.verdict, "reason": x.reason, "object": x.object, "rule": x.rule, "hops": hops_of(hops)}
    if x.verdict == VERDICT_FORWARD:
        frame = apply_edit(x.p, &x.edit, &length)
        answer["port"] = x.edit.port
        answer["mtu"] = x.edit.cuts[x.edit.cut_count - 1] if x.edit.cut_count else 0
        answer["frame"] = PyBytes_FromStringAndSize(<char *>frame, length)
    return answer


# What a processed packet went through: (operation, what it did, object, rule), all numbers but for the words.
cdef list story_of(trace_buffer *b):
    cdef uint32_t i
    return [(HOP_OPS[b.hops[i].op], HOP_DETAILS[b.hops[i].detail], b.hops[i].object, b.hops[i].rule) for i in range(b.count)]


cdef list hops_of(trace_buffer *b):
    return hops_at(b.hops, b.count)


cdef list hops_at(const hop *hops, uint32_t count):
    cdef uint32_t i
    cdef const hop *x
    cdef list rows = []
    for i in range(count):
        x = &hops[i]
        rows.append({
            "op": HOP_OPS[x.op], "mode": x.mode, "detail": HOP_DETAILS[x.detail], "family": x.family, "object": x.object, "rule": x.rule,
            "realm": x.realm, "source": number_of(x.to.src), "destination": number_of(x.to.dst),
            "source_port": x.to.sport, "destination_port": x.to.dport, "ttl_spent": x.to.ttl_spent, "cookie": x.cookie,
        })
    return rows


cdef dict session_of(session *s, uint64_t now):
    return {
        "kind": SESSION_KINDS[s.kind], "owner": s.key[0].owner, "rule": s.rule, "state": SESSION_STATES[s.state],
        "forward": tuple_of_way(s, 0), "reply": tuple_of_way(s, 1), "target": s.target, "cookie": s.cookie,
        "age_ms": now - s.opened, "idle_ms": now - s.last_seen, "limit_ms": s.idle,
        "packets": (s.packets[0], s.packets[1]), "bytes": (s.bytes[0], s.bytes[1]),
    }
