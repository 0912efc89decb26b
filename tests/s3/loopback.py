"""What the servers of this folder have in common: a port of 127.0.0.1 that the system chooses, and an end with the program that started them."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """A connection that is kept, and neither logged nor delayed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = BLOCK

    def log_message(self, *_):
        pass

    def handle_expect_100(self):
        super().handle_expect_100()
        # The client waits for it.
        self.wfile.flush()
        return True

    def answer(self, status, body=b"", headers=()):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request, client_address):
        # A client that went away is what half of the tests are about.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(server, *lines):
    """Prints the lines and `ready PORT`, then serves until standard input is closed: whoever holds its other end has gone."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(*lines, f"ready {server.server_address[1]}", sep="\n", flush=True)
    sys.stdin.buffer.read()
    os._exit(0)
