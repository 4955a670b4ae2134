"""What runs inside an instance for the network tests; see network.lua."""

import os
import socket
import sys
import threading
import urllib.request

HOST = os.environ.get("NET_HOST", "172.31.0.1")


def resolve(name):
    try:
        print(socket.getaddrinfo(name, 1, socket.AF_INET)[0][4][0])
    except OSError as e:
        print("failed:", e)


def half_close(port, size):
    with socket.create_connection((HOST, int(port)), 20) as s:
        s.sendall(bytes(int(size)))
        s.shutdown(socket.SHUT_WR)
        print(s.makefile().read(), end="")


def servers():
    """Binds every address, as servers do, and asks itself."""
    for port in (80, 53, 8080):
        with socket.create_server(("0.0.0.0", port)):
            for ip in ("127.0.0.1", "172.31.7.9"):
                socket.create_connection((ip, port), 5).close()
            print(port, "ok")


def get_many(port, count):
    good = []

    def get():
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=60) as r:
            good.append(r.read() == b"x")

    threads = [threading.Thread(target=get) for _ in range(int(count))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(sum(good), "ok")


def open_many(port, count):
    """All are open before the first ends."""
    socks = []
    for _ in range(int(count)):
        s = socket.create_connection((HOST, int(port)), 60)
        s.sendall(b"hello\n")
        socks.append(s)
    good = 0
    for s in socks:
        s.shutdown(socket.SHUT_WR)
        good += s.makefile().read() == "6 bytes\n"
        s.close()
    print(good, "ok")


def download(port, size):
    """Seconds for so many bytes."""
    import time

    began, left, room = time.monotonic(), int(size), memoryview(bytearray(1 << 20))
    with socket.create_connection((HOST, int(port)), 60) as s:
        while left > 0:
            left -= s.recv_into(room)
    print(time.monotonic() - began)


MODES = {
    "resolve": resolve,
    "half-close": half_close,
    "servers": servers,
    "get-many": get_many,
    "open-many": open_many,
    "download": download,
}
MODES[sys.argv[1]](*sys.argv[2:])
