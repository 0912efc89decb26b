"""What no program can do without: reading the event columns that usage needs, and grouping them by (account, user, day).

    python floor.py duckdb distinct day --data target/bench/M/data

The files are read all at once, month by month or day by day. benches/run.py takes the cheapest as the floor.
"""

import argparse
import os
import sys
from itertools import groupby
from pathlib import Path

import shape

ENGINES, WORKS, PIECES = ("duckdb", "polars"), ("scan", "distinct"), ("all", "month", "day")


def in_duckdb(pieces, work, threads):
    import duckdb

    con = duckdb.connect()
    con.execute(f"SET threads = {threads}; SET preserve_insertion_order = false")
    # A maximum needs every value of a column decoded, and little else.
    scan = "SELECT count(*), max(account_id), max(user_id), max(epoch_us(occurred_at)), max(feature) FROM read_parquet($files)"
    day = f"(epoch_us(occurred_at) + {shape.ZONE_US}) // {shape.DAY_US}"
    distinct = f"SELECT count(*) FROM (SELECT account_id, user_id, {day} AS day, count(*) FROM read_parquet($files) GROUP BY ALL)"
    return sum(con.execute(scan if work == "scan" else distinct, {"files": files}).fetchone()[0] for files in pieces)


def in_polars(pieces, work, threads):
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    day = ((pl.col("occurred_at").to_physical() + shape.ZONE_US) // shape.DAY_US).cast(pl.Int32).alias("day")
    rows = 0
    for files in pieces:
        events = pl.scan_parquet(files)
        if work == "scan":
            plan = events.select(pl.len().alias("rows"), *(pl.col(name).max() for name in ("account_id", "user_id", "occurred_at", "feature")))
        else:
            plan = events.group_by("account_id", "user_id", day).agg(pl.len()).select(pl.len().alias("rows"))
        rows += plan.collect(engine="streaming")["rows"][0]
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("pieces", choices=PIECES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    every = [str(file) for file in sorted((given.data / "usage_events").glob("*.parquet"))]
    length = {"all": 0, "month": len("2023-04"), "day": len("2023-04-01")}[given.pieces]
    split = [list(files) for _, files in groupby(every, key=lambda file: Path(file).stem[:length])]
    print((in_duckdb if given.engine == "duckdb" else in_polars)(split, given.work, given.threads))
    sys.stdout.flush()
