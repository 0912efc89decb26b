"""Compares the published tables with the oracle's, row by row and value by value.

    python compare.py --expected DIR --actual ROOT [--tables kpi_values,mrr_movements] [--start 2024-04] [--end 2026-04] [--show 10]

expected: <DIR>/<table>.parquet (oracle.py); actual: <ROOT>/<table>/period=*/part-0.parquet. Both sides are joined by FULL OUTER JOIN on the
table's keys. Decimals, integers, dates, booleans and text must be equal exactly, Float64 within a relative 1e-12 (LOOSE says where and why a little
more); null equals only null. A column of another kind (a decimal published as a float) is a difference, and so is a column or metric that only one side has.
metric_dictionary, of which the oracle has none, must list the metrics and units of kpi_values and kpi_breakdown. Exit code 1 on any difference.
"""

import argparse
import sys
from pathlib import Path

import duckdb

import survival

KEYS = {
    "account_period": ["period_start", "account_id"],
    "kpi_values": ["period_start", "dimension", "member", "metric"],
    "kpi_summary": ["period_start"],
    "mrr_movements": ["period_start", "dimension", "member", "product", "movement", "cause"],
    "cohort_retention": ["period_start", "cohort_start", "age"],
    "rfm_scores": ["period_start", "account_id"],
    "rfm_boundaries": ["period_start", "axis", "score"],
    "touch_segments": ["period_start", "account_id"],
    "kpi_breakdown": ["period_start", "dimension", "member", "metric", "item"],
    "time_spent": ["period_start", "account_id", "phase"],
    "kpi_attainment": ["period_start", "dimension", "member", "metric"],
    "kpi_drivers": ["period_start", "dimension", "member", "metric", "comparison"],
    "survival": ["period_start", "dimension", "member", "age"],
}
TOLERANCE = 1e-12

# Where the last bits rest on an order of summation or on a search for a maximum that no definition can lay down. `relative` to the greater of the two
# values; `scale`: an SQL of the expected row that the difference is relative to where parts cancel out.
LOOSE = {
    # Effects are differences of near-equal parts: what counts is their size against these.
    ("kpi_drivers", "rate_effect"): {"scale": "(weight_before + weight) * (coalesce(abs(value_before), 0) + coalesce(abs(value), 0))"},
    ("kpi_drivers", "mix_effect"): {"scale": "abs(total_before) + abs(total)"},
    ("kpi_drivers", "effect"): {"scale": "abs(total_before) + abs(total)"},
    # The model is compared by its likelihood (below); what it says, more loosely than the sums that it rests on.
    ("survival", "alpha"): {"relative": None},
    ("survival", "beta"): {"relative": None},
    ("survival", "projected_survival"): {"scale": "1", "relative": 1e-4},
    ("survival", "expected_lifetime"): {"relative": 1e-4},
    # A power of a power, and the deaths of all ages summed.
    ("survival", "lower"): {"relative": 1e-10},
    ("survival", "upper"): {"relative": 1e-10},
}
LOOSE["kpi_values", "value"] = LOOSE["kpi_values", "numerator"] = {"relative": f"CASE WHEN metric IN ('expected_lifetime', 'ltv_survival') THEN 1e-4 ELSE {TOLERANCE} END"}
LOOSE["kpi_summary", "expected_lifetime"] = LOOSE["kpi_summary", "ltv_survival"] = {"relative": 1e-4}


def kind(sql_type):
    if sql_type in ("DOUBLE", "FLOAT", "REAL"):
        return "float"
    if sql_type.startswith("DECIMAL"):
        return "decimal"
    if "INT" in sql_type:
        return "integer"
    return sql_type.lower()


def schema(con, relation):
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def text(value):
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)


def compare(con, table, expected, actual, args):
    """Prints the table's line and its differences; returns how many there are."""
    keys = KEYS[table]
    differences, notes = [], []
    files = sorted(actual.glob(f"{table}/period=*/part-0.parquet"))
    if not files:
        print(f"{table}: MISSING: no {actual / table}/period=*/part-0.parquet")
        return 1
    bounds = "true"
    if args.start:
        bounds += f" AND period_start >= DATE '{args.start}-01'"
    if args.end:
        bounds += f" AND period_start < DATE '{args.end}-01'"
    con.execute(f"CREATE OR REPLACE TEMP TABLE e AS SELECT * FROM read_parquet('{expected / (table + '.parquet')}') WHERE {bounds}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE a AS SELECT * FROM read_parquet({[str(f) for f in files]}, hive_partitioning = false) WHERE {bounds}")
    ours, theirs = schema(con, "a"), schema(con, "e")
    count = 0
    scales = "".join(f', ({LOOSE[table, c].get("scale", "NULL")})::DOUBLE AS "scale of {c}", ({LOOSE[table, c].get("relative", TOLERANCE)})::DOUBLE AS "relative of {c}"'
                     for c in theirs if LOOSE.get((table, c), {"relative": None}).get("relative", 0) is not None)
    con.execute(f"CREATE OR REPLACE TEMP TABLE scaled AS SELECT *{scales} FROM e")
    con.execute("ALTER TABLE e RENAME TO unscaled; ALTER TABLE scaled RENAME TO e; DROP TABLE unscaled")

    for column in theirs:
        if column not in ours:
            count += 1
            differences.append(f"column {column} is not published")
        elif kind(ours[column]) != kind(theirs[column]):
            count += 1
            differences.append(f"column {column} is {ours[column]}, expected {theirs[column]}")
    # every partition has the columns and types of the first (a reader of many files would cast silently)
    schemas = con.execute(
        f"SELECT file_name, list_sort(list((name, type, logical_type, precision, scale))) FROM parquet_schema({[str(f) for f in files]}) GROUP BY file_name ORDER BY 1").fetchall()
    for path, here in schemas:
        if here != schemas[0][1]:
            count += 1
            differences.append(f"schema of {Path(path).parent.name} differs from {Path(schemas[0][0]).parent.name}'s: {[c for c in here if c not in schemas[0][1]]}")
    if surplus := [c for c in ours if c not in theirs]:
        count += len(surplus)
        differences.append(f"columns the oracle knows nothing of: {', '.join(surplus)}")
    if missing := [k for k in keys if k not in ours]:
        print(f"{table}: key columns are not published: {', '.join(missing)}")
        return count

    if table == "kpi_values":
        for name, left, right in (("not published", "e", "a"), ("only published", "a", "e")):
            metrics = [r[0] for r in con.execute(f"SELECT DISTINCT metric FROM {left} WHERE metric NOT IN (SELECT metric FROM {right}) ORDER BY 1").fetchall()]
            if metrics:
                count += len(metrics)
                differences.append(f"metrics {name}: {', '.join(metrics)}")
        con.execute("CREATE OR REPLACE TEMP TABLE common AS SELECT DISTINCT metric FROM e INTERSECT SELECT DISTINCT metric FROM a")
        for side in "ea":
            con.execute(f"DELETE FROM {side} WHERE metric NOT IN (FROM common)")

    for side, name in (("e", "the oracle's"), ("a", "the published")):
        rows = con.execute(f"SELECT {', '.join(f'{k}::VARCHAR' for k in keys)}, count(*) FROM {side} GROUP BY ALL HAVING count(*) > 1").fetchall()
        count += len(rows)
        differences += [f"{name} key occurs {row[-1]} times: {' | '.join(map(text, row[:-1]))}" for row in rows[: args.show]]

    on = " AND ".join(f"e.{k}::VARCHAR IS NOT DISTINCT FROM a.{k}::VARCHAR" for k in keys)
    con.execute(f"CREATE OR REPLACE TEMP TABLE j AS SELECT e AS e, a AS a FROM (SELECT *, true AS is_row FROM e) e FULL OUTER JOIN (SELECT *, true AS is_row FROM a) a ON {on}")
    shown = ", ".join(f"coalesce(j.e.{k}::VARCHAR, j.a.{k}::VARCHAR)" for k in keys)
    for name, here, other in (("missing row", "e", "a"), ("surplus row", "a", "e")):
        where = f"j.{here}.is_row AND j.{other}.is_row IS NULL"
        n = con.execute(f"SELECT count(*) FROM j WHERE {where}").fetchone()[0]
        count += n
        if n:
            notes.append(f"{n} {name}s")
            rows = con.execute(f"SELECT {shown} FROM j WHERE {where} ORDER BY ALL LIMIT {args.show}").fetchall()
            differences += [f"{name}: {' | '.join(map(text, row))}" for row in rows]

    equal, floats, bits = 0, 0, 0
    both = "j.e.is_row AND j.a.is_row"
    for column in theirs:
        if column in keys or column not in ours or kind(ours[column]) != kind(theirs[column]):
            continue
        e, a = f'j.e."{column}"', f'j.a."{column}"'
        same = f"{e} IS NOT DISTINCT FROM {a}"
        if kind(theirs[column]) == "float":
            loose = LOOSE.get((table, column), {})
            if loose.get("relative", 0) is None:
                continue
            relative, scale = (f'j.e."relative of {column}"', f'coalesce(j.e."scale of {column}", 0)') if loose else (TOLERANCE, 0)
            same = f"({same} OR coalesce(abs({e} - {a}) <= {relative} * greatest(abs({e}), abs({a}), {scale}), false))"
            # the shortest text of a Float64 tells every bit pattern apart but those of NaN
            n, m = con.execute(f"SELECT count(*), count(*) FILTER ({e}::VARCHAR IS NOT DISTINCT FROM {a}::VARCHAR) FROM j WHERE {both} AND ({e} IS NOT NULL OR {a} IS NOT NULL)").fetchone()
            floats, bits = floats + n, bits + m
        good, bad = con.execute(f"SELECT count(*) FILTER ({same}), count(*) FILTER (NOT {same}) FROM j WHERE {both}").fetchone()
        equal += good
        count += bad
        if bad:
            notes.append(f"{column}: {bad} differ")
            rows = con.execute(f"SELECT {shown}, {e}, {a} FROM j WHERE {both} AND NOT {same} ORDER BY ALL LIMIT {args.show}").fetchall()
            differences += [f"{column}: expected {text(row[-2])}, published {text(row[-1])} at {' | '.join(map(text, row[:-2]))}" for row in rows]

    if table == "survival":
        found = less_likely(con)
        count += len(found)
        differences += found[: args.show]
    rows = con.execute("SELECT count(*) FROM a").fetchone()[0]
    line = f"{table}: {rows} rows, {equal} values equal"
    if floats:
        line += f" (floats that are not null: {bits} of {floats} to the bit)"
    print(line + (f", {count} DIFFERENCES" if count else ""))
    for note in notes:
        print(f"    {note}")
    for difference in differences[: args.show]:
        print(f"  - {difference}")
    if len(differences) > args.show:
        # one example of every kind of difference beyond the first ones
        seen = {d.split(":")[0] for d in differences[: args.show]}
        for difference in differences[args.show :]:
            if (head := difference.split(":")[0]) not in seen:
                seen.add(head)
                print(f"  - {difference}")
    return count


def less_likely(con):
    """Groups whose published α, β make what was seen less likely than the oracle's do, by more than 1e-6 of ln L."""
    groups = con.execute("""
        SELECT period_start, dimension, member, e.alpha, e.beta, a.alpha, a.beta, e.ages FROM
          (SELECT period_start, dimension, member, any_value(alpha) AS alpha, any_value(beta) AS beta,
            list((age, churned, censored)) FILTER (churned > 0 OR censored > 0) AS ages FROM e GROUP BY ALL) e
          JOIN (SELECT period_start, dimension, member, any_value(alpha) AS alpha, any_value(beta) AS beta FROM a GROUP BY ALL) a USING (period_start, dimension, member)""").fetchall()
    found, fitted = [], 0
    for *key, alpha, beta, published_alpha, published_beta, ages in groups:
        if (alpha is None) != (published_alpha is None):
            found.append(f"alpha: expected {text(alpha)}, {text(beta)}, published {text(published_alpha)}, {text(published_beta)} at {' | '.join(map(text, key))}: {ages}")
        elif alpha is not None:
            fitted += 1
            deaths, censored = {age: d for age, d, _ in ages if d}, {age: c for age, _, c in ages if c}
            ours, theirs = (survival.log_likelihood(*x, deaths, censored) for x in ((published_alpha, published_beta), (alpha, beta)))
            if ours < theirs - 1e-6 * abs(theirs):
                found.append(f"likelihood: expected {theirs} ({alpha}, {beta}), published {ours} ({published_alpha}, {published_beta}) at {' | '.join(map(text, key))}: {ages}")
    print(f"survival: {fitted} models as likely as the oracle's")
    return found


def dictionary(con, actual):
    """Differences between what metric_dictionary lists and what kpi_values holds, period by period."""
    listed = f"SELECT period_start, metric, unit FROM read_parquet('{actual}/metric_dictionary/*/part-0.parquet', hive_partitioning = false)"
    held = f"SELECT DISTINCT period_start, metric, unit FROM read_parquet('{actual}/kpi_values/*/part-0.parquet', hive_partitioning = false)"
    # kpi_breakdown has no row of a metric in a period without any item
    held += f" UNION ALL SELECT * FROM (SELECT DISTINCT period_start FROM ({held})), (VALUES ('csat_by_item', 'percent'), ('feature_adoption_rate', 'ratio'), ('hours_by_phase', 'hours'))"
    rows = con.execute(f"(({listed} EXCEPT ALL ({held})) UNION ALL (({held}) EXCEPT ALL {listed})) ORDER BY ALL").fetchall()
    for row in rows[:3]:
        print("  - metric_dictionary and kpi_values do not agree on", *row)
    return len(rows)


def regrouped(con, actual):
    """What metric_dictionary calls reaggregable must be: over all members of a dimension the parts add up to the total's."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE k AS SELECT k.* FROM read_parquet('{actual}/kpi_values/*/part-0.parquet', hive_partitioning = false) k "
                f"JOIN read_parquet('{actual}/metric_dictionary/*/part-0.parquet', hive_partitioning = false) d USING (period_start, metric) WHERE d.is_reaggregable")
    odd = []
    for part in ("numerator", "denominator"):
        odd += con.execute(f"""
            SELECT period_start, dimension, metric, '{part}', total, parts FROM
              (SELECT period_start, dimension, metric, fsum({part}) AS parts FROM k WHERE dimension NOT IN ('total', 'cohort_first_paid', 'cohort_signup') GROUP BY ALL)
              JOIN (SELECT period_start, metric, {part} AS total FROM k WHERE dimension = 'total') USING (period_start, metric)
            WHERE NOT coalesce(abs(total - parts) <= 1e-9 * greatest(abs(total), abs(parts), 1), total IS NULL AND parts IS NULL) ORDER BY ALL""").fetchall()
    for row in odd[:10]:
        print("  - members do not add up to the total:", *row)
    metrics = con.execute("SELECT count(DISTINCT metric), count(DISTINCT dimension) - 3 FROM k").fetchone()
    print(f"{metrics[0]} metrics add up over {metrics[1]} dimensions" + (f", {len(odd)} DIFFERENCES" if odd else ""))
    return len(odd)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--actual", type=Path, required=True)
    parser.add_argument("--tables", help="comma-separated; all by default")
    parser.add_argument("--start", help="compare from this month on, YYYY-MM")
    parser.add_argument("--end", help="compare up to this month, exclusive")
    parser.add_argument("--show", type=int, default=10, help="differences shown per table")
    args = parser.parse_args()
    tables = args.tables.split(",") if args.tables else list(KEYS)
    con = duckdb.connect()
    con.execute("SET threads = 2")
    total = 0
    for table in tables:
        total += compare(con, table, args.expected, args.actual, args)
    if "kpi_values" in tables:
        total += dictionary(con, args.actual) + regrouped(con, args.actual)
    print("all equal" if total == 0 else f"{total} differences")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
