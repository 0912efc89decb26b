"""Receives OpenLineage events over HTTP and appends them to a file, one per line, each with the authorization it came with.

receiver.py FILE STATUS: prints `ready <port>`, answers every POST with STATUS (0: never answers), ends when stdin closes.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def main():
    file, status = sys.argv[1], int(sys.argv[2])

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            with open(file, "a", encoding="utf-8") as events:
                events.write(json.dumps({"authorization": self.headers.get("authorization"), "event": json.loads(body)}) + "\n")
            if status == 0:
                time.sleep(3600)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
