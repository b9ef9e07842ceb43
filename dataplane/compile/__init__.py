"""Pack a Program into a Snapshot: labels become indexes, prefixes become intervals, rules become rows.

This is the only author of a Snapshot's rows (their layout is written in `fastpath/snapshot.pyx`). What it
refuses is a mistake in a construct's `lower`, never a user's, and raises `CompileError`.
"""

from __future__ import annotations

from dataplane.compile.compiler import Compiler, Packed, compile_program, rows_of
from dataplane.compile.intervals import CompileError, intervals

__all__ = ["CompileError", "Compiler", "Packed", "compile_program", "intervals", "rows_of"]
