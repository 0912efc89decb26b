"""Metrics of the pipeline's own (`metrics.define`): aggregates over account_period, or formulas over metrics with `previous(m)`, `year_ago(m)` and `total(m)`.

Their SQL is run as it stands: the aggregates over the accounts with money in major units, the formulas over the values of kpi_all.
"""

import re

CALL = re.compile(r"\b(previous|year_ago|total)\((\w+)\)")


def add(con, define, money_columns):
    """Adds them, in the order in which they are written, to kpi_all and units."""
    major = ", ".join(f"money({c}) AS {c}" for c in money_columns)
    con.execute(f"CREATE TABLE own_accounts AS SELECT m.dimension, m.member, a.* REPLACE ({major}) FROM account_periods a JOIN members m USING (period_idx, account_id) WHERE a.period_idx >= getvariable('begin_idx')")
    for name, metric in define.items():
        numerator, denominator = metric["numerator"], metric.get("denominator")
        is_sum = "SUM(" in numerator
        source = "own_accounts GROUP BY period_idx, dimension, member" if is_sum else of_metrics(con, f"{numerator} {denominator}")
        n, d = (CALL.sub(lambda found: f"{found[1]}__{found[2]}", sql or "NULL") for sql in (numerator, denominator))
        con.execute(f"CREATE OR REPLACE TEMP TABLE own AS SELECT period_idx, dimension, member, ({n})::DOUBLE AS n, ({d})::DOUBLE AS d FROM {source}")
        if kept := metric.get("dimensions"):
            con.execute("DELETE FROM own WHERE dimension <> 'total' AND NOT list_contains(?, dimension)", [kept])
        value = "n / nullif(d, 0)" if denominator else "n"
        con.execute(f"INSERT INTO kpi_all SELECT period_idx, dimension, member, '{name}', {value}, n, d FROM own")
        con.execute("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, false)",
                    [name, metric["unit"], metric.get("good", "neutral"), bool(denominator), is_sum, metric.get("interval") == "proportion"])
        if metric.get("interval") == "proportion":
            con.execute(f"INSERT INTO kpi_samples SELECT period_idx, dimension, member, '{name}', d::BIGINT FROM own")


def of_metrics(con, sql):
    """A sub-select with the values of the metrics that the SQL names, now, then and of the total."""
    known = [row[0] for row in con.execute("SELECT DISTINCT metric FROM kpi_all").fetchall()]
    named = [m for m in known if re.search(rf"\b{m}\b", sql)]
    values = ", ".join(f"max(value) FILTER (metric = '{m}') AS \"{m}\"" for m in named)
    con.execute(f"CREATE OR REPLACE TEMP TABLE own_values AS SELECT period_idx, dimension, member, {values} FROM kpi_all GROUP BY ALL")
    called = "".join(f', {when}."{m}" AS {when}__{m}' for when, m in sorted(set(CALL.findall(sql))))
    same = "dimension = v.dimension AND {0}.member = v.member AND {0}.period_idx = v.period_idx"
    return f"""(SELECT v.*{called} FROM own_values v
        LEFT JOIN own_values previous ON previous.{same.format('previous')} - 1
        LEFT JOIN own_values year_ago ON year_ago.{same.format('year_ago')} - 12
        LEFT JOIN own_values total ON total.dimension = 'total' AND total.period_idx = v.period_idx)"""
