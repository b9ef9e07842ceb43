"""Removing what labs left behind whose daemon is gone, and nothing else.

A lab is dead when its state folder is there and nobody holds its lock; or, where the folder is lost or in another
place, when something carries its id (`lab.identity`) but its spawner is gone, now and a little later: that one lives
at least as long as the daemon. So the labs of other users, and those with another ``XDG_STATE_HOME``, are safe while
they start, run, wait for another daemon and end, whatever their names, and whatever a state folder says: each spawner
says which one it is for.

When a daemon dies, the spawner, all processes and all namespaces without a name go by themselves (`lab.runtime`), at
once or, where they linger for another daemon, after some minutes. What can be left: names under /run/netns (as root),
processes that users started in a node by other means than vpclab (``ip netns exec``, ``nsenter``), a spawner that
lingers, or is stopped and so cannot notice, and the state folder.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from dataplane.errors import LabError
from lab import netns_names, processes
from lab.identity import Marker
from lab.marker import read_markers
from lab.processes import Process
from lab.state import DAEMON, DOOR, JOURNAL, NAMES, NODES, RUNTIME, LabState, folder_id, known_labs

_SETTLING_S = 0.2
"""A lab that ends in order loses its spawner first; the kernel then ends the rest."""

_Identity = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was removed of one lab."""

    lab: str
    processes: int
    namespaces: tuple[str, ...]
    """Names that were under /run/netns."""
    folder: str | None
    """State folder."""


class NotRemovedError(LabError):
    """Something of a dead lab cannot be removed; `removed` is what was, of others."""

    def __init__(self, problem: str, removed: list[Removed]) -> None:
        super().__init__(problem)
        self.removed = removed


class _Survey(NamedTuple):
    """Everything on this machine, as far as we may look, that carries a lab's id."""

    processes: dict[Process, str]
    """Process -> lab id."""
    names: dict[str, Marker]
    """Name under /run/netns -> what its namespace says."""
    spawners: set[str]
    """Ids of labs whose spawner lives."""


def collect(lab: str | None = None) -> list[Removed]:
    """Remove everything of dead labs (of one, if `lab` is given); what was removed, per lab.

    Raises NotRemovedError when something of a dead lab cannot be removed; that of others is.
    """
    removed: list[Removed] = []
    problems: dict[str, str] = {}
    for state in [LabState(lab)] if lab else known_labs():
        if not state.path.exists() or state.is_running():
            continue
        try:
            state.acquire()
        except LabError:
            continue  # started just now
        try:
            left = clean(state)
            state.remove()
            removed.append(replace(left, folder=str(state.path)))
        except LabError as error:
            problems[state.name] = str(error)
        finally:
            state.release()
    ids = _without_spawner()
    if ids:
        time.sleep(_SETTLING_S)
        ids &= _without_spawner()
    for lab_id in sorted(ids):
        name = lab_id.rpartition("-")[0]
        if lab in (None, name) and name not in problems:
            try:
                removed.append(_remove(name, {lab_id}, ()))
            except LabError as error:
                problems[name] = str(error)
    if problems:
        raise NotRemovedError("; ".join(problems.values()), removed)
    return removed


def _without_spawner() -> set[str]:
    survey = _look()
    return {*survey.processes.values(), *(marker.lab_id for marker in survey.names.values())} - survey.spawners


def clean(state: LabState) -> Removed:
    """Remove what an earlier run of this lab left, except for the folder itself; the caller holds the lab's lock.

    Raises LabError when something cannot be removed.
    """
    nothing = Removed(lab=state.name, processes=0, namespaces=(), folder=None)
    lab_id, recorded = _recorded(state)
    removed = nothing
    if ids := _ids_of(state, lab_id):
        removed = _remove(state.name, ids, recorded)
    swept = tuple(name for name in _announced(state) if _without(name, netns_names.sweep))
    removed = replace(removed, namespaces=(*removed.namespaces, *swept))
    state.clear(RUNTIME, DAEMON, NAMES, JOURNAL, DOOR)
    state.clear_drafts()
    shutil.rmtree(state.path / NODES, ignore_errors=True)
    return removed


def _recorded(state: LabState) -> tuple[str | None, tuple[Process, ...]]:
    """The id, spawner and process 1 of the last run, as programs in instances have left the record of it."""
    match state.read(RUNTIME):
        case {
            "boot": str(boot),
            "lab_id": str(lab_id),
            "pid": int(pid),
            "start": int(start),
            "init": int(init),
            "init_start": int() | None as init_start,
        } if boot == processes.boot_id() and lab_id.rpartition("-")[0] == state.name:
            return lab_id, (Process(pid, start), Process(init, init_start or -1))
    return None, ()


def _ids_of(state: LabState, recorded: str | None) -> set[str]:
    """Ids of runs of this lab, in this state folder: not of one of its name elsewhere, whatever the record says.

    It lies in the folder, which may be a copy of another, and which programs in instances may write to. So spawners say
    themselves which folder they are for, and one whose record is lost is found as well. The record adds the id of one
    that is gone: what has a spawner of another folder, or in a PID namespace below (a container), is not ours. Programs
    in instances may look like spawners, too, but are in such namespaces.
    """
    here = folder_id(state.path)
    ours: set[str] = set()
    others: set[str] = set()
    for process in processes.all_spawners():
        lab_id = processes.lab_of(process.pid)
        if lab_id is not None:
            is_ours = processes.folder_of(process.pid) == here and processes.is_beside_us(process.pid)
            (ours if is_ours else others).add(lab_id)
    return ours if recorded is None or recorded in others else ours | {recorded}


def _announced(state: LabState) -> list[str]:
    """Names that a lab had, or was about to have; what cannot be one is left out."""
    return sorted(name for name in {*state.text(NAMES).splitlines()} if netns_names.is_name(name))


def _remove(lab: str, lab_ids: set[str], recorded: tuple[Process, ...]) -> Removed:
    seen: set[Process] = set()

    def kept() -> list[Process]:
        found = [each for each in recorded if each.is_alive() and processes.lab_of(each.pid) in lab_ids]
        seen.update(found)
        return found

    def carriers() -> list[Process]:
        found = [process for process, lab_id in _look().processes.items() if lab_id in lab_ids]
        seen.update(found)
        return found

    # First the spawner, which must not restart programs, and process 1, with which all in its PID namespace go.
    if left := processes.kill_all(kept) or processes.kill_all(carriers):
        raise LabError(
            f"processes of lab {lab} cannot be ended: {', '.join(str(process.pid) for process in left)}; "
            "run gc as the user who started the lab, or as root"
        )
    names = tuple(name for name, marker in _look().names.items() if marker.lab_id in lab_ids)
    for name in names:
        _without(name, netns_names.release)
    return Removed(lab=lab, processes=len(seen), namespaces=names, folder=None)


def _without(name: str, remove: Callable[[str], T]) -> T:
    """Remove a name under /run/netns. Raises LabError when it cannot be removed."""
    try:
        return remove(name)
    except OSError as error:
        raise LabError(f"{netns_names.FOLDER / name} cannot be removed: {error.strerror}; run gc as root") from error


def _look() -> _Survey:
    names = tuple(netns_names.names())  # before the processes: a living lab with a name has a spawner among them
    own_network, own_user = processes.namespace("self", "net"), processes.namespace("self", "user")
    marked: dict[Process, str] = {}
    spawners: set[str] = set()
    inside: dict[_Identity, list[Process]] = {}
    paths: dict[str, tuple[str, ...]] = {}
    for process in processes.all_processes():
        lab_id = processes.lab_of(process.pid)
        if lab_id is not None:
            marked[process] = lab_id
            if processes.is_spawner(process.pid):
                spawners.add(lab_id)
        network = processes.namespace(process.pid, "net")
        if network is not None and network != own_network:
            inside.setdefault(network, []).append(process)
            kinds = (
                ("net",)
                if processes.namespace(process.pid, "user") == own_user or os.geteuid() == 0
                else ("user", "net")
            )
            paths.setdefault(_key(network), tuple(f"/proc/{process.pid}/ns/{kind}" for kind in kinds))
    named: dict[str, _Identity] = {}
    for name in names:
        path = netns_names.FOLDER / name
        try:
            found = path.stat()
        except OSError:
            continue
        named[name] = (found.st_dev, found.st_ino)
        paths.setdefault(_key(named[name]), (str(path),))
    markers = read_markers(paths)
    for network, members in inside.items():
        if (marker := markers.get(_key(network))) is not None:
            marked |= dict.fromkeys(members, marker.lab_id)
    said = {name: markers[_key(identity)] for name, identity in named.items() if _key(identity) in markers}
    return _Survey(marked, said, spawners)


def _key(identity: _Identity) -> str:
    return f"{identity[0]}:{identity[1]}"
