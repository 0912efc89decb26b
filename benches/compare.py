"""Compares the tables that two programs published, row by row and value by value; exit code 1 on any difference.

    python compare.py target/bench/XS/out/cskpi target/bench/XS/out/duckdb

Keys, counts, money, texts and dates must be equal. Floats may differ by 1e-12 of their size, since sums of floats have no order; how many are equal to
the last bit is told. A period at a time, so that any size can be compared.
"""

import sys
from pathlib import Path

import duckdb

import shape

TOLERANCE = 1e-12
SHOWN = 5


def source(root, table, period):
    return f"read_parquet('{root / table / period}/*.parquet', hive_partitioning = false)"


def columns(con, relation):
    return {name: kind for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def is_off(name, kind):
    a, b = f'a."{name}"', f'b."{name}"'
    if kind != "DOUBLE":
        return f"{a} IS DISTINCT FROM {b}"
    return f"NOT coalesce(abs({a} - {b}) <= {TOLERANCE} * greatest(abs({a}), abs({b})), {a} IS NULL AND {b} IS NULL)"


class Table:
    """What the comparison of a table's periods has come to."""

    def __init__(self):
        self.rows = self.values = self.floats = self.bits = self.differences = 0
        self.examples = []

    def found(self, count, examples):
        self.differences += count
        self.examples += examples[: max(0, SHOWN - len(self.examples))]

    def add_period(self, con, table, left, right, period):
        a, b = source(left, table, period), source(right, table, period)
        kinds = columns(con, a)
        if list(kinds.items()) != list(columns(con, b).items()):
            odd = sorted(set(kinds.items()) ^ set(columns(con, b).items()))
            return self.found(1, [f"{period}: the columns differ: {odd or 'their order'}"])
        keys = ["period_start", *shape.TABLES[table]]
        values = {name: kind for name, kind in kinds.items() if name not in keys}
        floats = [name for name, kind in values.items() if kind == "DOUBLE"]
        on = " AND ".join(f"a.{key} IS NOT DISTINCT FROM b.{key}" for key in keys)
        both = "a.is_there AND b.is_there"
        joined = f"(SELECT *, true AS is_there FROM {a}) a FULL JOIN (SELECT *, true AS is_there FROM {b}) b ON {on}"
        counts = [
            "count(*)", "count(*) FILTER (b.is_there IS NULL)", "count(*) FILTER (a.is_there IS NULL)",
            # two floats that print alike are the same bits
            " + ".join(f'count(*) FILTER ({both} AND a."{name}"::VARCHAR IS NOT DISTINCT FROM b."{name}"::VARCHAR)' for name in floats) or "0",
            *(f"count(*) FILTER ({both} AND {is_off(name, kind)})" for name, kind in values.items())]
        rows, only_left, only_right, bits, *off = con.execute(f"SELECT {', '.join(counts)} FROM {joined}").fetchone()
        self.rows, self.values, self.floats, self.bits = self.rows + rows, self.values + rows * len(values), self.floats + rows * len(floats), self.bits + bits

        if only_left or only_right:
            query = f"SELECT a.is_there, {', '.join(f'coalesce(a.{key}, b.{key})' for key in keys)} FROM {joined} WHERE a.is_there IS NULL OR b.is_there IS NULL ORDER BY ALL LIMIT {SHOWN}"
            self.found(only_left + only_right, [f"only in {left if there else right}: {key}" for there, *key in con.execute(query).fetchall()])
        for (name, kind), count in zip(values.items(), off):
            if count:
                query = f'SELECT {", ".join(f"a.{key}" for key in keys)}, a."{name}", b."{name}" FROM {joined} WHERE {both} AND {is_off(name, kind)} ORDER BY ALL LIMIT {SHOWN}'
                self.found(count, [f"{name}: {x!r} and {y!r} at {key}" for *key, x, y in con.execute(query).fetchall()])
        for root, side in ((left, a), (right, b)):
            repeated = con.execute(f"SELECT {', '.join(keys)}, count(*) FROM {side} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL").fetchall()
            self.found(len(repeated), [f"repeated in {root}: {key}" for key in repeated])


def differences(con, table, left, right):
    """Prints what there is to tell of a table; returns the number of differences."""
    periods = [{folder.name for folder in (root / table).glob("period=*")} for root in (left, right)]
    told = Table()
    lonely = sorted(periods[0] ^ periods[1])
    told.found(len(lonely), [f"only one of them has {period}" for period in lonely])
    for period in sorted(periods[0] & periods[1]):
        told.add_period(con, table, left, right, period)
    if told.rows == 0:
        told.found(1, ["there are no rows"])
    exact = f", {told.bits:,} of {told.floats:,} floats to the bit" if told.floats else ""
    print(f"{table}: {told.rows:,} rows, {told.values:,} values{exact}: " + (f"{told.differences:,} DIFFERENCES" if told.differences else "equal"))
    for example in told.examples:
        print(f"  {example}")
    return told.differences


def main():
    left, right = Path(sys.argv[1]), Path(sys.argv[2])
    con = duckdb.connect()
    con.execute("SET threads = 2")
    found = [differences(con, table, left, right) for table in shape.TABLES]
    sys.exit(1 if any(found) else 0)


if __name__ == "__main__":
    main()
