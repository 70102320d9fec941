"""Stands for systemd: binds a datagram socket, says so, and shows the first message that comes (sd_notify(3))."""

import socket
import sys

receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print("bound", flush=True)
print(receiver.recv(4096).decode(), flush=True)
