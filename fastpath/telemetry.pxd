# What an engine has counted, and whom it remembers, for Python: see the methods of Engine.

from fastpath.core cimport core
from fastpath.lock cimport engine_lock

cdef list sessions_of(core *c, engine_lock *lock)
# Who calls it is the only one who does meanwhile.
cdef tuple records_of(core *c, engine_lock *lock, bint unfinished)
cdef dict counters_of(core *c, engine_lock *lock)
cdef dict gateways_of(core *c, engine_lock *lock)
cdef dict statistics_of(core *c, engine_lock *lock)
