"""Reads published tables again and again while they are being published, as dashboards do, and checks what it sees.

    python poll.py BEFORE AFTER

Two roots that nobody changes: every partition that is seen elsewhere must be as in one of them. A root is a folder, or
`http://HOST:PORT/BUCKET/PREFIX` on an S3 server that takes any key. Then commands on standard input, each answered by one line:

    watch ROOT    begins to poll; answered when the first poll is through
    seen          polls once more, ends, and answers with JSON: how many polls, what was seen wrong

In every poll, for every table:
- each partition is there, with exactly one file;
- the file's bytes, read in one go, are those of BEFORE or AFTER;
- pyarrow.dataset reads it, and sees the rows of the one or the other;
- DuckDB reads the table by glob, and sees in every partition the rows of the one or the other, each once (a query that a
  replaced file makes fail is run again: DuckDB opens files twice);
- no reader sees AFTER in a partition and BEFORE later on.

Of `restatements` bytes and two columns are left out: they tell which run found them, and when.

On S3 pyarrow reads over its own S3 client, in several requests for a file; where a file's ETag changed between the first and the last of
them, what it read does not count. DuckDB reads the bytes of one request per file, from a folder in memory: its own S3 client is an
extension that would have to be downloaded.
"""

import hashlib
import http.client
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import duckdb
import pyarrow
import pyarrow.dataset
import pyarrow.fs

NOT_COMPARED = ["run_id", "restated_at"]
FILE = re.compile(r"([a-z_]+)/period=(\d{4}-\d{2}-\d{2})/part-0\.parquet")
ABOUT_RUNS = {"runs", "checks"}
READERS = ("bytes", "pyarrow", "duckdb")


class Folder:
    """A root on the local disk."""

    filesystem = pyarrow.fs.LocalFileSystem()

    def __init__(self, root):
        self.root = Path(root)

    def files(self):
        """Data files by key, each with its version."""
        return {str(file.relative_to(self.root)): None for file in self.root.glob("*/period=*/*")}

    def inodes(self, table):
        """Changes whenever a file of the table is replaced."""
        return {str(file): file.stat().st_ino for file in (self.root / table).glob("period=*/*")}

    def bytes(self, key):
        return (self.root / key).read_bytes()

    def path(self, table):
        return str(self.root / table)

    def for_duckdb(self, contents):
        return self.root

    def close(self):
        pass


class Bucket:
    """A root on S3."""

    def __init__(self, url):
        parts = urlsplit(url)
        _, self.bucket, self.prefix = parts.path.split("/", 2)
        self.connection = http.client.HTTPConnection(parts.netloc)
        self.filesystem = pyarrow.fs.S3FileSystem(
            access_key="any", secret_key="any", region="us-east-1", scheme="http", endpoint_override=parts.netloc
        )
        self.copies = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def get(self, target):
        self.connection.request("GET", target)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{target}: {answer.status}")
        return body

    def files(self):
        page = ElementTree.fromstring(self.get(f"/{self.bucket}?list-type=2&max-keys=1000&prefix={quote(self.prefix)}/"))
        space = page.tag.partition("}")[0] + "}"
        assert page.findtext(f"{space}IsTruncated") == "false"
        entries = ((entry.findtext(f"{space}Key"), entry.findtext(f"{space}ETag")) for entry in page.iter(f"{space}Contents"))
        below = ((key.removeprefix(f"{self.prefix}/"), version) for key, version in entries)
        return {key: version for key, version in below if "/period=" in key and not key.startswith("_")}

    def inodes(self, table):
        """What DuckDB reads is a copy, which nobody replaces."""
        return {}

    def bytes(self, key):
        return self.get(f"/{self.bucket}/{self.prefix}/{quote(key)}")

    def path(self, table):
        return f"{self.bucket}/{self.prefix}/{table}"

    def for_duckdb(self, contents):
        for key, content in contents.items():
            copy = self.copies / key
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        return self.copies

    def close(self):
        self.connection.close()
        shutil.rmtree(self.copies, ignore_errors=True)


def opened(root):
    return Bucket(root) if root.startswith("http://") else Folder(root)


def digest_of(table):
    table = table.drop_columns([name for name in NOT_COMPARED if name in table.column_names])
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return table.num_rows, hashlib.sha256(sink.getvalue()).hexdigest()


class Poll:
    """What three readers see of a root: reader → (table, period) → what tells its content."""

    def __init__(self, root):
        self.faults, self.overtaken = [], 0
        self.seen = {reader: {} for reader in READERS}
        before = root.files()
        for key in before:
            if not FILE.fullmatch(key):
                self.faults.append(f"{key} is no partition's one file")
        units = {FILE.fullmatch(key).groups(): key for key in before if FILE.fullmatch(key)}
        units = {unit: key for unit, key in units.items() if unit[0] not in ABOUT_RUNS}
        self.units = set(units)
        contents = {key: root.bytes(key) for key in units.values()}
        for unit, key in units.items():
            compared = "not compared" if unit[0] == "restatements" else hashlib.sha256(contents[key]).hexdigest()
            self.seen["bytes"][unit] = compared
        copies = root.for_duckdb(contents)
        for table in sorted({table for table, _ in units}):
            self.read_by_duckdb(table, copies, root)
            self.read_by_pyarrow(table, root)

    def read_by_duckdb(self, table, folder, root):
        left_out = "EXCLUDE (run_id, restated_at)" if table == "restatements" else ""
        query = f"""
            SELECT period::VARCHAR, count(*), sum(hash(row)::HUGEINT)::VARCHAR
            FROM (SELECT * {left_out} FROM read_parquet('{folder}/{table}/*/*.parquet', hive_partitioning = true)) AS row
            GROUP BY period"""
        while True:
            before = root.inodes(table)
            try:
                rows = DUCKDB.execute(query).fetchall()
                break
            except duckdb.Error as error:
                # It opens a file once for the footer and once for the rows. Where the file was replaced in between, the query
                # fails, and is run again, as its user would; it must never give other rows.
                if root.inodes(table) == before:
                    self.faults.append(f"duckdb cannot read {table}: {error}")
                    return
                self.overtaken += 1
        for unit in self.units:
            # Of a file without rows nothing is seen.
            if unit[0] == table:
                self.seen["duckdb"][unit] = None
        for period, *content in rows:
            self.seen["duckdb"][table, period] = tuple(content)

    def read_by_pyarrow(self, table, root):
        before = root.files()
        try:
            dataset = pyarrow.dataset.dataset(root.path(table), filesystem=root.filesystem, format="parquet", partitioning="hive")
            files = {fragment.path: fragment for fragment in dataset.get_fragments()}
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(root, Folder):
                self.faults.append(f"pyarrow cannot open {table}: {error}")
            else:
                self.overtaken += 1
            return
        found = {}
        for unit in (unit for unit in self.units if unit[0] == table):
            key = f"{table}/period={unit[1]}/part-0.parquet"
            fragment = files.get(f"{root.path(table)}/period={unit[1]}/part-0.parquet")
            if fragment is None:
                self.faults.append(f"pyarrow does not see {key}")
                continue
            try:
                found[unit, key] = digest_of(fragment.to_table(schema=dataset.schema))
            except (OSError, pyarrow.ArrowException) as error:
                found[unit, key] = f"cannot be read: {error}"
        after = root.files()
        for (unit, key), content in found.items():
            if after.get(key) == before.get(key):
                self.seen["pyarrow"][unit] = content
            else:
                self.overtaken += 1


class Watch:
    """Polls until it is told to end."""

    def __init__(self, url, before, after):
        self.url, self.before, self.after = url, before, after
        self.polls, self.overtaken, self.faults = 0, 0, []
        # Partitions that a reader has seen as they are afterwards.
        self.new = set()
        self.first, self.end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)
        self.thread.start()

    def poll(self):
        root = opened(self.url)
        try:
            is_last = False
            while not is_last:
                is_last = self.end.is_set()
                self.judge(Poll(root))
                self.polls += 1
                self.first.set()
                if isinstance(root, Bucket):
                    # The server answers one request at a time, the program's too.
                    time.sleep(0.05)
        except Exception as error:
            self.faults.append(f"the poll failed: {error!r}")
        finally:
            root.close()
            self.first.set()

    def judge(self, poll):
        self.overtaken += poll.overtaken
        self.faults += poll.faults
        for table, period in self.before.units ^ poll.units:
            self.faults.append(f"{table} of {period} is there at one time and not at another")
        for reader in READERS:
            for unit, found in poll.seen[reader].items():
                old, new = self.before.seen[reader].get(unit), self.after.seen[reader].get(unit)
                if found != old and found != new:
                    self.faults.append(f"{reader}: {unit} is neither the old nor the new one: {found}")
                elif found != new and (reader, unit) in self.new:
                    self.faults.append(f"{reader}: {unit} went back to the old one")
                elif found != old:
                    self.new.add((reader, unit))

    def seen(self):
        self.end.set()
        self.thread.join()
        answer = {"polls": self.polls, "overtaken": self.overtaken, "new": len(self.new), "faults": self.faults[:20]}
        return json.dumps(answer)


def main():
    states = []
    for url in sys.argv[1:]:
        root = opened(url)
        states.append(Poll(root))
        root.close()
        assert states[-1].units and not states[-1].faults, states[-1].faults
    changed = sum(states[0].seen["pyarrow"][unit] != states[1].seen["pyarrow"][unit] for unit in states[0].units)
    print(f"ready {changed}", flush=True)
    watch = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "watch":
            watch = Watch(argument, *states)
            watch.first.wait()
            print("watching", flush=True)
        else:
            print(watch.seen(), flush=True)


DUCKDB = duckdb.connect()
DUCKDB.execute("SET threads = 1")

if __name__ == "__main__":
    main()
