"""Peers for the network tests, on a free port of 127.0.0.1, printed first.

dns     answers every query by UDP and TCP with 192.0.2.7
silent  takes queries and never answers
count   reads to the end of the input, then says how much it was
zeros N sends N bytes
"""

import socket
import struct
import sys
import threading

HOST = "127.0.0.1"


def answer(query):
    end = query.index(b"\0", 12) + 5
    is_a = query[end - 4 : end - 2] == b"\0\1"
    head = query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, int(is_a), 0, 0)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7" if is_a else b""
    return head + query[12:end] + record


def serve_udp(sock, reply):
    while True:
        query, peer = sock.recvfrom(65535)
        if reply:
            sock.sendto(answer(query), peer)


def serve_dns(conn):
    with conn:
        (n,) = struct.unpack(">H", conn.recv(2, socket.MSG_WAITALL))
        reply = answer(conn.recv(n, socket.MSG_WAITALL))
        conn.sendall(struct.pack(">H", len(reply)) + reply)


def serve_count(conn):
    with conn:
        n = 0
        while data := conn.recv(65536):
            n += len(data)
        conn.sendall(b"%d bytes\n" % n)


def serve_zeros(conn):
    with conn:
        left, block = int(sys.argv[2]), bytes(1 << 20)
        while left > 0:
            conn.sendall(block[: min(left, len(block))])
            left -= len(block)


def accept(sock, serve):
    while True:
        conn, _ = sock.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


def main():
    mode = sys.argv[1]
    tcp = socket.create_server((HOST, 0), backlog=512)
    port = tcp.getsockname()[1]
    if mode in ("dns", "silent"):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((HOST, port))
        args = (udp, mode == "dns")
        threading.Thread(target=serve_udp, args=args, daemon=True).start()
    print(port, flush=True)
    if mode == "silent":
        threading.Event().wait()
    serve = {"dns": serve_dns, "count": serve_count, "zeros": serve_zeros}
    accept(tcp, serve[mode])


main()
