"""An S3 server on 127.0.0.1: moto's, with every request done whole before the next one.

    python server.py [BUCKET ...]            takes any request, signed or not
    python server.py --iam BUCKET [BUCKET ...]   only signed ones, of a user who may do all in the first bucket and nothing in others

Prints `key ID SECRET` (with --iam) and `ready PORT`; ends when its standard input is closed.

What moto lacks is added here:

- moto looks at a condition and then writes, without a lock between: of two writers with If-None-Match both may win. Here they cannot.
- Conditions on CompleteMultipartUpload (If-Match) and CopyObject (both), as AWS has them; moto knows those on PUT, DELETE, GET and HEAD.
- An upload that breaks off is refused as IncompleteBody and leaves nothing.
- --iam: a request without a signature is refused (moto fails on it), and path and query are put into the one form that is signed (moto takes
  them as they were sent).
- --iam: `POST /__session__?seconds=N` gives the keys of a session of the same rights, as JSON, which is refused as ExpiredToken N seconds later.
- --iam: a request with the header `x-test-owner` is taken without a signature, so that a test can look at what was written.
"""

import argparse
import io
import json
import os
import threading
import time
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

import loopback

REGION = "us-east-1"
NAME = "cskpi"
S3, IAM, STS = (backends[DEFAULT_ACCOUNT_ID]["aws"] for backends in (s3_backends, iam_backends, sts_backends))


class RequestHandler(MotoRequestHandler):
    disable_nagle_algorithm = True

    def log_request(self, *_):
        pass


class Refused(Exception):
    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


class Store:
    """moto's S3 behind one lock."""

    def __init__(self, guarded):
        self.app = create_backend_app("s3")
        self.guarded = guarded
        self.sessions = {}
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        try:
            # Outside of the lock: a slow upload holds nobody up.
            take_body(environ)
            with self.lock:
                return self.answer(environ, start_response)
        except Refused as refused:
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message></Error>'
            return answer(start_response, refused.status, "application/xml", body)

    def answer(self, environ, start_response):
        if environ["PATH_INFO"] == "/__session__":
            seconds = int(parse_qs(environ["QUERY_STRING"])["seconds"][0])
            return answer(start_response, 200, "application/json", json.dumps(self.session(seconds)))
        check = self.guarded and "HTTP_X_TEST_OWNER" not in environ
        if check:
            self.require_a_signature(environ)
        else:
            # Without any, moto takes the caller for the public, which may not read.
            environ.setdefault("HTTP_AUTHORIZATION", f"AWS4-HMAC-SHA256 Credential=any/20000101/{REGION}/s3/aws4_request")
        # A number of requests that are not checked; the lock makes it this request's own.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if check else float("inf")
        check_other_conditions(environ)
        return self.app(environ, start_response)

    def require_a_signature(self, environ):
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            raise Refused(403, "AccessDenied", "Access Denied")
        key = authorization.partition("Credential=")[2].partition("/")[0]
        if self.sessions.get(key, float("inf")) <= time.time():
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        path, _, query = environ["RAW_URI"].partition("?")
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        query = "&".join(sorted(f"{canonical(name)}={canonical(value)}" for name, _, value in pairs))
        environ["RAW_URI"] = canonical(path, "/") + (f"?{query}" if query else "")
        environ["QUERY_STRING"] = query

    def session(self, seconds):
        role = STS.assume_role(REGION, NAME, f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/{NAME}", None, seconds, None)
        self.sessions[role.access_key_id] = time.time() + seconds
        return {"AccessKeyId": role.access_key_id, "SecretAccessKey": role.secret_access_key, "Token": role.session_token}


def answer(start_response, status, kind, body):
    body = body.encode()
    start_response(f"{status} -", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def canonical(text, safe=""):
    return quote(unquote(text), safe=safe + "-_.~")


def take_body(environ):
    """Reads the body to its end, or refuses what breaks off."""
    body = environ["wsgi.input"]
    if environ.get("HTTP_TRANSFER_ENCODING") == "chunked":
        content = body.read()
        del environ["HTTP_TRANSFER_ENCODING"]
    else:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        content = body.read(length)
        if len(content) < length:
            raise Refused(400, "IncompleteBody", "The request body terminated unexpectedly")
    environ["CONTENT_LENGTH"] = str(len(content))
    environ["wsgi.input"] = io.BytesIO(content)


def check_other_conditions(environ):
    """The conditions of AWS that moto does not look at."""
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    completes = environ["REQUEST_METHOD"] == "POST" and "uploadId" in query
    copies = environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ and "partNumber" not in query
    if not completes and not copies:
        return
    bucket, _, key = unquote(environ["RAW_URI"].partition("?")[0]).lstrip("/").partition("/")
    try:
        found = S3.get_object(bucket, key)
    except MissingBucket:
        return
    if completes and found and found.multipart and found.multipart.id == query["uploadId"][0]:
        # Asked for again, after it was done.
        return
    if environ.get("HTTP_IF_NONE_MATCH") == "*" and found:
        raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    wanted = environ.get("HTTP_IF_MATCH")
    if wanted and not found:
        raise Refused(404, "NoSuchKey", "The specified key does not exist.")
    if wanted and wanted.strip('"') != found.etag.strip('"'):
        raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def make_user(bucket):
    """A user, and a role for sessions, with all rights in one bucket."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    rights = statement(Effect="Allow", Action="s3:*", Resource=resources)
    IAM.create_user(REGION, NAME)
    IAM.put_user_policy(NAME, NAME, rights)
    trust = statement(Effect="Allow", Action="sts:AssumeRole", Principal={"AWS": "*"})
    IAM.create_role(NAME, trust, "/", None, "", [], "3600")
    IAM.put_role_policy(NAME, NAME, rights)
    return IAM.create_access_key(NAME)


def statement(**content):
    return json.dumps({"Version": "2012-10-17", "Statement": [content]})


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--iam", action="store_true", help="check signatures and rights")
    arguments.add_argument("buckets", nargs="*", metavar="BUCKET")
    given = arguments.parse_args()
    for bucket in given.buckets:
        S3.create_bucket(bucket, REGION)
    lines = []
    if given.iam:
        key = make_user(given.buckets[0])
        lines.append(f"key {key.access_key_id} {key.secret_access_key}")
    server = make_server("127.0.0.1", 0, Store(given.iam), threaded=True, request_handler=RequestHandler)
    server.daemon_threads = True
    loopback.serve(server, *lines)


if __name__ == "__main__":
    main()
