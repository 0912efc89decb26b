"""The two places on 127.0.0.1 that a program in the cloud gets its keys from, which expire.

    python credentials.py SECONDS [PORT]

Each answer has keys of its own that are good for so many seconds: those of a session of the `server.py --iam` at PORT, or made-up ones
(`TEST0001`, ...). Prints `ready PORT`; ends when its standard input is closed.

    GET /ecs      AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:PORT/ecs
    /latest/...   AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:PORT (IMDSv2: a token first)
    GET /count    {"ecs": n, "imds": n}: how many keys were given
"""

import http.client
import json
import sys
import threading
import time

import loopback

ROLES = "/latest/meta-data/iam/security-credentials/"
ROLE, TOKEN = "cskpi", "a-token-of-imdsv2"


def instant(seconds_from_now):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))


class Keys:
    def __init__(self, seconds, issuer):
        self.seconds, self.issuer = seconds, issuer
        self.count = {"ecs": 0, "imds": 0}
        self.lock = threading.Lock()

    def next(self, place):
        with self.lock:
            self.count[place] += 1
            number = sum(self.count.values())
        expires = instant(self.seconds)
        return {**self.issued(number), "Expiration": expires}

    def issued(self, number):
        if self.issuer is None:
            return {"AccessKeyId": f"TEST{number:04}", "SecretAccessKey": "secret", "Token": "token"}
        issuer = http.client.HTTPConnection("127.0.0.1", self.issuer)
        issuer.request("POST", f"/__session__?seconds={self.seconds}")
        return json.loads(issuer.getresponse().read())


class Handler(loopback.Handler):
    def do_PUT(self):
        if self.path != "/latest/api/token":
            self.answer(404)
        elif seconds := self.headers.get("x-aws-ec2-metadata-token-ttl-seconds"):
            self.answer(200, TOKEN.encode(), [("x-aws-ec2-metadata-token-ttl-seconds", seconds)])
        else:
            self.answer(400)

    def do_GET(self):
        if self.path == "/count":
            self.json(KEYS.count)
        elif self.path == "/ecs":
            self.json(KEYS.next("ecs"))
        elif not self.path.startswith(ROLES):
            self.answer(404)
        elif self.headers.get("x-aws-ec2-metadata-token") != TOKEN:
            self.answer(401)
        elif self.path == ROLES:
            self.answer(200, ROLE.encode())
        elif self.path == ROLES + ROLE:
            self.json({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": instant(0), **KEYS.next("imds")})
        else:
            self.answer(404)

    def json(self, value):
        self.answer(200, json.dumps(value).encode(), [("Content-Type", "application/json")])


if __name__ == "__main__":
    KEYS = Keys(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
    loopback.serve(loopback.Server(Handler))
