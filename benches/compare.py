"""Compares the tables that two programs published, row by row and value by value; exit code 1 on any difference.

    python compare.py target/bench/XS/out/cskpi target/bench/XS/out/duckdb

Keys, counts, money, texts and dates must be equal. Floats may differ by 1e-12 of their size, since sums of floats have no order; how many are equal to
the last bit is told.
"""

import sys
from pathlib import Path

import duckdb

import shape

TOLERANCE = 1e-12


def source(root, table):
    return f"read_parquet('{root / table}/period=*/*.parquet', hive_partitioning = false)"


def columns(con, relation):
    return {name: kind for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def differences(con, table, left, right, show=5):
    """Prints what there is to tell of a table; returns the number of differences."""
    a, b = source(left, table), source(right, table)
    if columns(con, a) != columns(con, b):
        odd = sorted(set(columns(con, a).items()) ^ set(columns(con, b).items()))
        print(f"{table}: the columns differ: {odd or 'their order'}")
        return 1
    keys = ["period_start", *shape.TABLES[table]]
    on = " AND ".join(f"a.{key} IS NOT DISTINCT FROM b.{key}" for key in keys)
    kinds = columns(con, a)
    values = {name: kind for name, kind in kinds.items() if name not in keys}

    def is_off(name, kind):
        if kind != "DOUBLE":
            return f'a."{name}" IS DISTINCT FROM b."{name}"'
        x, y = f'a."{name}"', f'b."{name}"'
        return f"NOT coalesce(abs({x} - {y}) <= {TOLERANCE} * greatest(abs({x}), abs({y})), {x} IS NULL AND {y} IS NULL)"

    floats = [name for name, kind in values.items() if kind == "DOUBLE"]
    counted = ", ".join(f"count(*) FILTER (both_there AND {is_off(name, kind)})" for name, kind in values.items())
    # two floats that print alike are the same bits
    exact = " + ".join(f'count(*) FILTER (both_there AND a."{n}"::VARCHAR IS NOT DISTINCT FROM b."{n}"::VARCHAR)' for n in floats) or "0"
    joined = (f"(SELECT a, b, a.there AND b.there AS both_there FROM (SELECT *, true AS there FROM {a}) a FULL JOIN (SELECT *, true AS there FROM {b}) b ON {on})")
    row = con.execute(f"SELECT count(*), count(*) FILTER (b.there IS NULL), count(*) FILTER (a.there IS NULL), {exact}, {counted} FROM {joined}").fetchone()
    repeated = sum(con.execute(f"SELECT count(*) FROM (SELECT {', '.join(keys)} FROM {side} GROUP BY ALL HAVING count(*) > 1)").fetchone()[0] for side in (a, b))
    rows, only_left, only_right, bits, *off = row
    total = only_left + only_right + repeated + sum(off)
    tail = f", {bits} of {rows * len(floats)} floats to the bit" if floats else ""
    print(f"{table}: {rows} rows, {rows * len(values)} values{tail}: " + (f"{total} DIFFERENCES" if total else "equal"))
    if rows == 0:
        print("  no rows at all")
        return 1
    if only_left or only_right or repeated:
        print(f"  {only_left} rows only in {left}, {only_right} only in {right}, {repeated} keys that repeat")
        missing = f"SELECT {', '.join(f'coalesce(a.{k}, b.{k})' for k in keys)} FROM {joined} WHERE both_there IS NULL ORDER BY ALL LIMIT {show}"
        for one in con.execute(missing).fetchall():
            print("   ", *one)
    for (name, kind), count in zip(values.items(), off):
        if count:
            print(f"  {name}: {count} differ")
            query = f"SELECT {', '.join(f'a.{k}' for k in keys)}, a.\"{name}\", b.\"{name}\" FROM {joined} WHERE both_there AND {is_off(name, kind)} ORDER BY ALL LIMIT {show}"
            for *key, x, y in con.execute(query).fetchall():
                print("   ", *key, ":", repr(x) if isinstance(x, float) else x, "and", repr(y) if isinstance(y, float) else y)
    return total


def compared(left, right):
    con = duckdb.connect()
    con.execute("SET threads = 2")
    return sum([differences(con, table, left, right) for table in shape.TABLES])


if __name__ == "__main__":
    sys.exit(1 if compared(Path(sys.argv[1]), Path(sys.argv[2])) else 0)
