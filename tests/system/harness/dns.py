# SPDX-License-Identifier: Apache-2.0
"""A tiny DNS server that answers every A query with one address, over UDP and TCP; and a client."""
import contextlib
import select
import socket
import struct
import threading


def query(name, ident):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def answer(request, address):
    head = request[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
    return head + request[12:] + struct.pack("!3HIH", 0xc00c, 1, 1, 60, 4) + \
        socket.inet_aton(address)


def recv_exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class Server:
    """Serves on ADDRESS:53 of a world until it is closed; with CAP_NET_BIND_SERVICE there."""

    def __init__(self, world, listen_address, says):
        self.says = says
        family = socket.AF_INET6 if ":" in listen_address else socket.AF_INET
        self.udp = world.socket(family, socket.SOCK_DGRAM)
        self.tcp = world.socket(family)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (self.udp, self.tcp):
            sock.bind((listen_address, 53))
        self.tcp.listen()
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            ready, _, _ = select.select([self.udp, self.tcp, self.woken], [], [])
            if self.woken in ready:
                return
            if self.udp in ready:
                request, peer = self.udp.recvfrom(4096)
                self.udp.sendto(answer(request, self.says), peer)
            if self.tcp in ready:
                client, _ = self.tcp.accept()
                with client, contextlib.suppress(OSError, EOFError):
                    client.settimeout(60)
                    size = struct.unpack("!H", recv_exactly(client, 2))[0]
                    reply = answer(recv_exactly(client, size), self.says)
                    client.sendall(struct.pack("!H", len(reply)) + reply)

    def close(self):
        self.wake.close()
        self.thread.join()
        for sock in (self.udp, self.tcp, self.woken):
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


def ask(world, server, ident=1, tcp=False, timeout=20):
    """The address that a DNS server gives for a name, or None when it is silent."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    request = query("some.example", ident)
    with world.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect((server, 53))
            if tcp:
                sock.sendall(struct.pack("!H", len(request)) + request)
                reply = recv_exactly(sock, struct.unpack("!H", recv_exactly(sock, 2))[0])
            else:
                sock.send(request)
                reply = sock.recv(4096)
        except (OSError, EOFError):
            return None
    assert reply[:2] == struct.pack("!H", ident)
    return socket.inet_ntoa(reply[-4:])
