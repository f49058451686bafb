"""Exit with 0 if the service in this container is ready. Runs often, so it imports little."""

import os
import socket
import sys

port = int(os.environ.get("RECSYS_PORT") or 8000)
try:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        line.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = line.makefile("rb").readline()
except OSError as failed:
    sys.exit(f"not ready: {failed}")
sys.exit(0 if status.startswith(b"HTTP/1.1 200 ") else f"not ready: {status!r}")
