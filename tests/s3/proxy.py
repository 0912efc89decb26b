"""A reverse proxy on 127.0.0.1 that does what networks and overloaded stores do.

    python proxy.py UPSTREAM_PORT

Prints `ready PORT`; ends when its standard input is closed. Requests go on as they came (path, Host and all signed headers), bodies are streamed,
connections are kept. Three requests are for the proxy itself:

- `POST /__faults__` with a JSON list of rules, which takes the place of the list before.
- `GET /__log__`: a JSON list of the requests in the order in which they came. `status` is null until the answer was passed on, and stays null
  if there was none. `in` and `out` are bytes of the bodies, `key` is the access key that signed, `faults` names the actions of the rules that were applied.
- `DELETE /__log__` empties it.

A rule applies to requests of its `method` whose path with query matches the regular expression `path` (both: any, if null or not given), after
the first `after` of them (0 if not given), `times` times (-1, always, if not given). What its `action` needs stands beside it:

    strip_conditions                    takes If-Match and If-None-Match away: a store that ignores them
    delay     seconds                   before the request is passed on
    clock     seconds                   added to the Date and Last-Modified of the answer
    status    status, code, message     answers so, as S3 does; nothing is passed on
    hang      seconds                   says nothing for so long, then closes the connection; nothing is passed on
    drop_before                         closes the connection; nothing is passed on
    drop_after                          passes the request on, which takes effect, and closes the connection without an answer
    cut                                 passes half of the answer's body on, then closes the connection

The first three go together with any other. Of the others the first rule that applies is taken, and a rule behind it does not count the request.
"""

import http.client
import json
import re
import sys
import threading
import time
from email.utils import format_datetime, parsedate_to_datetime
from datetime import timedelta
from xml.sax.saxutils import escape

import loopback

OWN = {"/__faults__", "/__log__"}
TOGETHER = {"strip_conditions": set(), "delay": {"seconds"}, "clock": {"seconds"}}
ALONE = {
    "status": {"status", "code", "message"},
    "hang": {"seconds"},
    "drop_before": set(),
    "drop_after": set(),
    "cut": set(),
}
OF_THE_CONNECTION = {"connection", "expect", "keep-alive", "proxy-connection", "transfer-encoding"}


class Rule:
    def __init__(self, given):
        given = dict(given)
        self.method, self.path = given.pop("method", None), re.compile(given.pop("path", None) or "")
        self.skip, self.left = given.pop("after", 0), given.pop("times", -1)
        self.action = given.pop("action")
        needs = (TOGETHER | ALONE)[self.action]
        if given.keys() != needs:
            raise ValueError(f"{self.action} takes {sorted(needs)}, not {sorted(given)}")
        self.given = given

    def applies(self, method, path):
        if self.method not in (None, method) or not self.path.search(path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left == 0:
            return False
        self.left -= self.left > 0
        return True


class State:
    """Rules and log, shared by all connections."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rules, self.log = [], []

    def rules_for(self, method, path):
        """The rules that go together, by action, and the one that stands alone."""
        together, alone = {}, None
        with self.lock:
            for rule in self.rules:
                if (rule.action in TOGETHER or alone is None) and rule.applies(method, path):
                    if rule.action in TOGETHER:
                        together[rule.action] = rule.given
                    else:
                        alone = rule
        return together, alone


STATE = State()


class Dropped(Exception):
    """The connection is to be closed as it stands."""


class Handler(loopback.Handler):
    upstream = None

    def do(self):
        try:
            if self.path in OWN:
                self.own()
            else:
                self.pass_on()
        except Dropped:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_PATCH = do

    def finish(self):
        if self.upstream:
            self.upstream.close()
        super().finish()

    def own(self):
        body = b"".join(self.body())
        with STATE.lock:
            if (self.command, self.path) == ("POST", "/__faults__"):
                try:
                    STATE.rules = [Rule(rule) for rule in json.loads(body)]
                except Exception as error:
                    self.answer(400, f"{error!r} in {body.decode()}".encode())
                    return
            elif (self.command, self.path) == ("DELETE", "/__log__"):
                STATE.log.clear()
            elif (self.command, self.path) == ("GET", "/__log__"):
                self.answer(200, json.dumps(STATE.log).encode(), [("Content-Type", "application/json")])
                return
            else:
                self.answer(405)
                return
        self.answer(204)

    def pass_on(self):
        together, alone = STATE.rules_for(self.command, self.path)
        credential = re.search(r"Credential=([^/,]+)", self.headers.get("Authorization", ""))
        entry = {
            "method": self.command,
            "path": self.path,
            "status": None,
            "in": 0,
            "out": 0,
            "if_match": self.headers.get("If-Match"),
            "if_none_match": self.headers.get("If-None-Match"),
            "key": credential and credential[1],
            "faults": [*together, *([alone.action] if alone else [])],
        }
        with STATE.lock:
            STATE.log.append(entry)
        self.entry = entry
        action = alone and alone.action

        if "delay" in together:
            time.sleep(together["delay"]["seconds"])
        if action in ("status", "hang", "drop_before"):
            # What was sent is taken, so that the client sees the end of the connection and not an error while it writes.
            for _ in self.body():
                pass
            if action == "status":
                self.refuse(**alone.given)
                return
            if action == "hang":
                time.sleep(alone.given["seconds"])
            raise Dropped
        answer = self.ask("strip_conditions" in together)
        if action == "drop_after":
            answer.read()
            raise Dropped
        self.give(answer, together.get("clock", {}).get("seconds", 0), cut=action == "cut")

    def refuse(self, status, code, message):
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>'
        self.entry["status"] = status
        self.answer(status, body.encode(), [("Content-Type", "application/xml")])

    def ask(self, without_conditions):
        """Sends the request upstream; its answer, of which the body is still to be read."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection("127.0.0.1", UPSTREAM)
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        left_out = OF_THE_CONNECTION | ({"if-match", "if-none-match"} if without_conditions else set())
        for name, value in self.headers.items():
            if name.lower() not in left_out:
                self.upstream.putheader(name, value)
        chunked = self.is_chunked()
        if chunked:
            self.upstream.putheader("Transfer-Encoding", "chunked")
        self.upstream.endheaders()
        for block in self.body():
            self.upstream.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            self.upstream.send(b"0\r\n\r\n")
        return self.upstream.getresponse()

    def give(self, answer, shift, cut):
        # Of an answer without a length we must know the end first.
        rest = None if answer.length is not None or self.command == "HEAD" else answer.read()
        length = answer.length if rest is None else len(rest)
        self.entry["status"] = answer.status
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() in ("date", "last-modified") and shift:
                value = format_datetime(parsedate_to_datetime(value) + timedelta(seconds=shift), usegmt=True)
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        if rest is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        left = length // 2 if cut else length
        while left > 0:
            block = answer.read(min(left, loopback.BLOCK)) if rest is None else rest[:left]
            if not block:
                raise Dropped
            self.wfile.write(block)
            self.entry["out"] += len(block)
            left -= len(block)
        if cut:
            self.wfile.flush()
            raise Dropped
        answer.read()

    def is_chunked(self):
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def body(self):
        """The blocks of the request's body."""
        if self.is_chunked():
            while length := int(self.rfile.readline().partition(b";")[0], 16):
                yield from self.blocks(length)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield from self.blocks(int(self.headers.get("Content-Length") or 0))

    def blocks(self, left):
        while left:
            block = self.rfile.read(min(left, loopback.BLOCK))
            if not block:
                raise Dropped
            if self.path not in OWN:
                self.entry["in"] += len(block)
            left -= len(block)
            yield block


if __name__ == "__main__":
    UPSTREAM = int(sys.argv[1])
    loopback.serve(loopback.Server(Handler))
