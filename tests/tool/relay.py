# SPDX-License-Identifier: Apache-2.0
"""A relay between a source and a destination over plain TCP, which breaks connections where a test wants it to."""

import socket
import struct
import threading

HEAD = struct.Struct("<IHHQQQQQ")
RUNNING = 11  # migrate/wire.hpp: frame_type


class Relay:
    """Passes bytes on both ways. The first connection is cut when `cut_after` bytes came from the source; with
    `lose_running`, none is let through any more once the destination has said that it runs the guest."""

    def __init__(self, address, cut_after=None, lose_running=False):
        self._to = address
        self._cut_after = cut_after
        self._lose_running = lose_running
        self._lock = threading.Lock()
        self._sockets = []
        self.cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp:127.0.0.1:%d" % self._listener.getsockname()[1]
        self._start(self._accept)

    def close(self):
        with self._lock:
            end(self._listener)
            for one in self._sockets:
                end(one)

    def _start(self, work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
            except OSError:
                return
            with self._lock:
                self._sockets += [near, far]
            self._start(self._forward, near, far)
            self._start(self._answer, far, near)

    def _forward(self, near, far):
        """From the source. Who has said all may still listen."""
        passed = 0
        while data := receive(near):
            passed += len(data)
            if self._cut_after is not None and passed > self._cut_after and not self.cut.is_set():
                self.cut.set()
                end(near)
                end(far)
                return
            if not send(far, data):
                break
        end_writing(far)

    def _answer(self, far, near):
        """From the destination: a frame at a time."""
        while head := receive_all(far, HEAD.size):
            _, _, kind, _, body_bytes, payload_bytes, _, _ = HEAD.unpack(head)
            if self._lose_running and kind == RUNNING:
                self.cut.set()
                self.close()
                return
            body = receive_all(far, body_bytes + payload_bytes)
            if body is None or not send(near, head + body):
                break
        end_writing(near)


def receive_all(from_socket, count):
    """None when it ends before."""
    data = b""
    while len(data) < count:
        piece = receive(from_socket, count - len(data))
        if not piece:
            return None
        data += piece
    return data


def receive(from_socket, count=1 << 16):
    try:
        return from_socket.recv(count)
    except OSError:
        return b""


def send(to_socket, data):
    try:
        to_socket.sendall(data)
        return True
    except OSError:
        return False


def end_writing(to_socket):
    try:
        to_socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def end(one):
    """Wakes who waits for it, too."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
