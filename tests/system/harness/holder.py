# SPDX-License-Identifier: Apache-2.0
"""A process that makes namespaces, holds them, and makes sockets in them on request.

Run as a program: holder.py FD FLAG[,FLAG...] [UID]. FLAGs are of user, net, mount. UID is what the
caller is called in the new user namespace. It answers on the socket FD and ends with it.
"""
import ctypes
import json
import os
import signal
import socket
import sys

CLONE = {"mount": 0x00020000, "user": 0x10000000, "net": 0x40000000}
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(flags, uid):
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    check(libc.unshare(sum(CLONE[flag] for flag in flags)))
    if "user" in flags:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {outer_uid} 1"),
                           ("gid_map", f"{uid} {outer_gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    if "mount" in flags:
        check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))


def serve(control):
    """Each request is a list of [family, type, protocol]; the reply carries the sockets."""
    while True:
        request = control.recv(4096)
        if not request:
            return
        sockets = []
        try:
            sockets = [socket.socket(*what) for what in json.loads(request)]
            socket.send_fds(control, [b"ok"], [made.fileno() for made in sockets])
        except OSError as error:
            control.send(json.dumps([error.errno, error.strerror]).encode())
        for made in sockets:
            made.close()
        control.send(b"closed")


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    flags = [flag for flag in sys.argv[2].split(",") if flag]
    try:
        enter(flags, int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    except OSError as error:
        control.send(json.dumps([error.errno, error.strerror]).encode())
        return
    control.send(b"ok")
    serve(control)


if __name__ == "__main__":
    main()
