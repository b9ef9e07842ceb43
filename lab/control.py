"""The control socket of a running lab: JSON lines over a unix socket, one request per line.

Request and answer (each one line, UTF-8)::

    {"version": 1, "folder": "2049:1311", "verb": "trace", "arguments": {"source": "app", "destination": "web"}}
    {"version": 1, "result": ...}
    {"version": 1, "error": {"kind": "lab", "message": "...", "problems": []}}

Some verbs (`capture`, `follow`) answer with a stream: what follows the line is theirs until they, or the client, end
it.

The socket is mode 0600 in the lab's state folder, and the server asks the kernel (SO_PEERCRED) who is at the
other end: only the user who runs the lab is answered. Programs in instances are this user as well, so it also asks
where the other end is (SO_NETNS_COOKIE): in the network namespace that the daemon is in, or it is refused. Whatever
arrives, the server answers with an error or hangs up; nothing that comes in through this socket can end the daemon
except the verbs meant to.

Programs in instances may put a socket of their own in its place, or the way to that of another lab. So a client does
not say a word to who listens in another PID namespace, and says for which state folder it asks; the server refuses what
is for another.

A unix socket's path may have 107 bytes at most, and state folders can be deeper than that, so both ends reach
it through a descriptor of its folder (``/proc/self/fd/N/control.sock``).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dataplane.errors import ConfigurationError, LabError, LimitError, Problem, VpclabError
from lab.processes import is_beside_us
from lab.scarcity import is_scarce, remedy, said
from lab.socket_path import network_of, peer_pid, peer_uid, reachable
from lab.state import folder_id

PROTOCOL_VERSION = 1
SOCKET_NAME = "control.sock"
REQUEST_LIMIT_BYTES = 16 << 20
"""Longest request line: `apply` and `validate` carry a whole lab file."""
ANSWER_LIMIT_BYTES = 256 << 20
CONNECTION_LIMIT = 32
"""Clients served at the same time; one more is told to come back."""
IDLE_LIMIT_S = 60.0
"""A client that says nothing for this long is hung up on."""
_PAUSE_S = 0.1
"""Before the next try, when nobody can be let in."""
STREAM_GRACE_S = 2.0
"""For how long a server that closes waits for streams to come to their end."""

Verb = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a verb answers that has more to send than one line: afterwards the connection is the stream's."""

    first: Any
    """The answer."""
    run: Callable[[socket.socket], object]
    """Sends until there is no more, or the client has shut its side down; OSError ends it."""
    close: Callable[[], None]
    """Called in any case, also when the answer could not be sent."""


log = logging.getLogger(__name__)


class RequestError(VpclabError):
    """The request itself is wrong: unknown verb, node or argument."""

    exit_code = 2


class NotRunningError(LabError):
    """Nobody answers at the lab's control socket."""


class ImpostorError(LabError):
    """Who listens at the lab's control socket is not its daemon; whether that runs, nobody knows from there."""


class ControlServer:
    """Serves one lab's verbs until closed; each client has its own thread."""

    def __init__(self, folder: Path, verbs: Mapping[str, Verb]) -> None:
        """Create the socket in `folder`; a stale one is replaced, so the caller must hold the lab's lock."""
        self._verbs = dict(verbs)
        self._slots = threading.BoundedSemaphore(CONNECTION_LIMIT)
        self._clients: set[socket.socket] = set()
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._streams_end = threading.Condition(self._lock)
        self._closed = False
        self._path = folder / SOCKET_NAME
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._folder = folder_id(folder)
            with reachable(folder, SOCKET_NAME) as address:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
                # The mode comes from the umask at bind time: there is no moment at which others could connect.
                mask = os.umask(0o177)
                try:
                    self._listener.bind(address)
                finally:
                    os.umask(mask)
            self._listener.listen(CONNECTION_LIMIT)
            try:
                self._network = network_of(self._listener)
            except OSError as error:
                why = "this kernel does not tell where a client is, as Linux does from 5.15 on"
                raise OSError(error.errno, why) from error
        except OSError as error:
            self._listener.close()
            os.close(self._spare)
            why = f"{error.strerror}{remedy(error, self._path)}"
            raise LabError(f"cannot create the control socket {self._path}: {why}") from error
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening, hang up on everybody and remove the socket; streams get a while to come to their end."""
        # shutdown, unlike close, wakes the thread that sits in accept() or recv().
        with self._lock:
            self._closed = True
            _shut(socket.SHUT_RDWR, self._listener, *self._clients - self._streams)
            _shut(socket.SHUT_RD, *self._streams)  # as if their clients had asked for the end
            self._streams_end.wait_for(lambda: not self._streams, STREAM_GRACE_S)
            _shut(socket.SHUT_RDWR, *self._clients)
        self._listener.close()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        if self._spare is not None and not self._thread.is_alive():
            os.close(self._spare)
            self._spare = None
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        while True:
            # Before accept(2), which takes a descriptor before it waits, and without one does not wait at all.
            waiting.poll()
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                if not is_scarce(error) or not self._turn_away(said(error)):
                    threading.Event().wait(_PAUSE_S)
                continue
            if not self._slots.acquire(blocking=False):
                _refuse(client, "lab", f"busy: {CONNECTION_LIMIT} clients at once; try again")
                continue
            with self._lock:
                if self._closed:
                    client.close()
                    self._slots.release()
                    return
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()

    def _turn_away(self, why: str) -> bool:
        """Tell the client that waits that there are no descriptors left, with the one that is kept for this.

        False: somebody else has taken that one, or there is no memory.
        """
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        try:
            _refuse(self._listener.accept()[0], "lab", why)
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        return True

    def _serve(self, client: socket.socket) -> None:
        try:
            if peer_uid(client) != os.geteuid():
                _refuse(client, "lab", "this lab belongs to another user")
                return
            if network_of(client) != self._network:
                _refuse(client, "lab", "a lab is controlled from the network namespace that it was started in only")
                return
            client.settimeout(IDLE_LIMIT_S)
            with client.makefile("rb") as requests:
                while line := requests.readline(REQUEST_LIMIT_BYTES + 1):
                    if len(line) > REQUEST_LIMIT_BYTES:
                        _refuse(client, "request", f"request longer than {REQUEST_LIMIT_BYTES} bytes")
                        return
                    answer, stream = self._answer(line)
                    if stream is None:
                        client.sendall(answer)
                        continue
                    with self._lock:
                        self._streams.add(client)
                    try:
                        client.sendall(answer)
                        client.settimeout(None)  # a slow reader is its own trouble
                        stream.run(client)
                    except OSError:
                        raise
                    except Exception:  # a bug of ours: the client sees that its end is missing
                        log.exception("a stream ended early")
                    finally:
                        stream.close()
                    return
        except OSError:
            pass  # the client went away or went silent
        finally:
            with self._lock:
                self._clients.discard(client)
                self._streams.discard(client)
                self._streams_end.notify_all()
            client.close()
            self._slots.release()

    def _answer(self, line: bytes) -> tuple[bytes, Stream | None]:
        try:
            verb, arguments = _parse_request(line, self._folder)
            call = self._verbs.get(verb)
            if call is None:
                raise RequestError(f"unknown verb {verb!r}")
            result = call(arguments)
            if isinstance(result, Stream):
                return _encode({"version": PROTOCOL_VERSION, "result": result.first}), result
            return _encode({"version": PROTOCOL_VERSION, "result": result}), None
        except VpclabError as error:
            return _encode({"version": PROTOCOL_VERSION, "error": error_to_json(error)}), None
        except Exception as error:  # a bug of ours must be reported, and must not end the lab
            if is_scarce(error):
                return _encode({"version": PROTOCOL_VERSION, "error": error_to_json(LabError(said(error)))}), None
            log.exception("control request failed")
            message = f"internal error: {type(error).__name__}: {error} (details in daemon.log)"
            answer = {"version": PROTOCOL_VERSION, "error": {"kind": "lab", "message": message, "problems": []}}
            return _encode(answer), None


class ControlClient:
    """One connection to a running lab; use it as a context manager."""

    def __init__(self, folder: Path, *, timeout_s: float = 30.0) -> None:
        """Connect to the lab whose state folder is `folder`.

        Raises:
            NotRunningError: nobody listens there.
            ImpostorError: who does is not its daemon.
            LabError: the lab is another user's.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._folder = folder
        try:
            with reachable(folder, SOCKET_NAME) as address:
                self._asked_for = folder_id(folder)
                self._socket.connect(address)
            is_another_users = peer_uid(self._socket) != os.geteuid()
            is_beside = is_beside_us(peer_pid(self._socket))
        except OSError as error:
            self._socket.close()
            raise NotRunningError(f"lab {folder.name} is not running ({error.strerror or error})") from None
        if is_another_users:
            self._socket.close()
            raise LabError(f"lab {folder.name} belongs to another user")
        if not is_beside:
            self._socket.close()
            where = f"{folder / SOCKET_NAME}, from another PID namespace"
            raise ImpostorError(f"lab {folder.name} does not answer: somebody else listens at {where}")
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def stream(self, verb: str, **arguments: Any) -> tuple[Any, BinaryIO]:
        """Ask a verb that answers with a stream: the answer, and what follows it, to read until its end.

        Errors are those of `call`. Reading waits as long as it takes.
        """
        answer = self.call(verb, **arguments)
        self._socket.settimeout(None)
        return answer, self._answers

    def stop(self) -> None:
        """Ask for the end of a stream; what is still under way comes. From any thread, and any number of times."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def call(self, verb: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            VpclabError: what the daemon raised: ConfigurationError, LimitError, LabError or RequestError.
            NotRunningError: the daemon went away meanwhile.
            LabError: no answer within `timeout_s` seconds.
        """
        self._socket.settimeout(timeout_s)
        request = _encode(
            {"version": PROTOCOL_VERSION, "folder": self._asked_for, "verb": verb, "arguments": arguments}
        )
        if len(request) > REQUEST_LIMIT_BYTES:
            raise LimitError(f"request of {len(request)} bytes, at most {REQUEST_LIMIT_BYTES}")
        try:
            # Who is refused (busy, another user) is told so at once, perhaps before the request is out: read anyway.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(request)
            line = self._answers.readline(ANSWER_LIMIT_BYTES)
        except TimeoutError:
            raise LabError(f"lab {self._folder.name} did not answer {verb!r} within {timeout_s:g} s") from None
        except OSError as error:
            raise NotRunningError(f"lab {self._folder.name} went away: {error.strerror}") from None
        if not line.endswith(b"\n"):
            raise NotRunningError(f"lab {self._folder.name} went away before it answered {verb!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise error_from_json(answer["error"])
        return answer["result"]


def _parse_request(line: bytes, folder: str) -> tuple[str, Mapping[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("not a line of JSON") from None
    if not isinstance(request, dict):
        raise RequestError("a request is a JSON object")
    if request.get("version") != PROTOCOL_VERSION:
        raise RequestError(
            f"this lab speaks control protocol {PROTOCOL_VERSION}, the request says {request.get('version')!r}: "
            "restart the lab with the vpclab you are using"
        )
    if request.get("folder", folder) != folder:
        raise ImpostorError("this is another lab: the control socket of the one that is asked for leads here")
    verb, arguments = request.get("verb"), request.get("arguments", {})
    if not isinstance(verb, str) or not isinstance(arguments, dict):
        raise RequestError("a request has a verb (text) and arguments (an object)")
    return verb, arguments


def error_to_json(error: VpclabError) -> dict[str, Any]:
    """An error as it travels in an answer."""
    problems: list[dict[str, Any]] = []
    kind = "lab"
    if isinstance(error, ConfigurationError):
        kind = "configuration"
        problems = [{name: getattr(problem, name) for name in _PROBLEM_FIELDS} for problem in error.problems]
    elif isinstance(error, RequestError):
        kind = "request"
    elif isinstance(error, LimitError):
        kind = "limit"
    elif isinstance(error, ImpostorError):
        kind = "impostor"
    unjudged = list(error.unjudged) if isinstance(error, ConfigurationError) else []
    return {"kind": kind, "message": str(error), "problems": problems, "unjudged": unjudged}


def error_from_json(value: Mapping[str, Any]) -> VpclabError:
    """The error that `error_to_json` packed."""
    kind, message = value["kind"], value["message"]
    if kind == "configuration":
        problems = (Problem(**problem) for problem in value["problems"])
        return ConfigurationError(problems, unjudged=value.get("unjudged", ()))
    if kind == "request":
        return RequestError(message)
    return _ERROR_KINDS.get(kind, LabError)(message)


_PROBLEM_FIELDS = ("path", "message", "code", "hint", "file", "line", "column")


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


_ERROR_KINDS: dict[str, type[VpclabError]] = {"limit": LimitError, "lab": LabError, "impostor": ImpostorError}


def _shut(how: int, *ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(how)


def _refuse(client: socket.socket, kind: str, message: str) -> None:
    """Say why, and hang up; a client that does not read must not hold the thread up."""
    client.settimeout(1.0)
    with contextlib.suppress(OSError), client:
        answer = {"version": PROTOCOL_VERSION, "error": {"kind": kind, "message": message, "problems": []}}
        client.sendall(_encode(answer))
