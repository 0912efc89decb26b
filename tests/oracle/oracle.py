"""The independent oracle: the published tables of `cskpi`, computed by plain SQL in DuckDB from the canonical input files.

    python oracle.py --data DIR --params params.json --start 2024-04 --end 2026-04 --out DIR     (months; end exclusive)

The definitions are those of docs/definitions.md; where they leave room, AMBIGUITIES.md says which reading stands here. Nothing here was
taken from the program's source. This file only loads, sets the parameters and runs the .sql files beside it, in this order:

    staging.sql  staging_success.sql        typed inputs
    periods.sql         periods, rates, who counts for whom (merges), the spine, attributes as of the period's end
    mrr.sql             paid-live versions, MRR, movements, causes
    usage.sql           sessions, daily usage, active users
    revenue.sql         invoice lines, invoices, payments
    opportunity.sql  onboarding.sql  voice.sql      deals and offers; members and onboardings; surveys, tickets, community, features
    cost.sql            time, and costs put onto accounts
    account_period.sql  all facts on the spine
    rfm.sql             scores and boundaries
    ltv.sql             expected lifetime value
    touch.sql           touch model (touch_rule.sql once per rule), account_period, dimension members
    movements.sql  cohort.sql
    survival.sql  onboarding_days.sql       product limits; survival.py fits the model; survival_out.sql
    kpi.sql  bootstrap.sql  kpi_samples.sql  kpi_values.sql     every metric (metrics.py, own_metrics.py), its draws, its interval
    breakdown.sql  target.sql  drivers.sql
    footing.sql         must return no row
"""
# What was verified, and how:
# - Footing at account, account × product, member × product, total, causes and opening = previous closing: footing.sql, after every run.
# - The stories of make_fixture.py by eye, month by month: acme (pause, return, price), bravo (two plans; start on 1 February 00:00 is not January's;
#   end on 1 April 00:00 is March's), charlie (annual → monthly: `term` +2000), delta (two merges in a chain, the second exactly at a boundary: opening 58,000 with
#   no churn and no new; cohort 2023-11; tenure 133 days), echo (USD: 123.45 × 151.5 = 18,702.675 → 18,703; fx 170, quantity 9,351.5 → 9,352, plan 18,531),
#   foxtrot (EUR, half-yearly, 166.67), golf (all four discounts; 3333 × 52/12 = 14,443), hotel (trial to a boundary), india (30 days of grace), juliet (swap at equal
#   price; cross-sell with product drop), kilo (zero length; start and end on boundaries), lima (owner and region by validity); sessions of acme (a gap of 30 min 00 s and
#   one of 30 min 01 s; 23:59 and 00:00 local), invoices at 23:59:59 and 00:00:00 local, quantile boundaries and touch holds of h = 1 and 2.
# - 22 columns of account_period (MRR, movements, trial, users, sessions, revenue) of all 54,797 rows of the random set (2,000 accounts, 36 months, 2 M events,
#   merges, three currencies) against a separate brute-force program of plain Python with Fractions: all equal.
# - 12-month and cohort columns against the published columns of the earlier periods, for accounts without merges (53,280 rows): all equal.
#   ltv_percentile recounted from ltv_expected for one month; ltv_expected itself only by hand (acme in May: 13,500 + 11,000 × 0.75 × 17 / 2 = 83,625).
# - The nine inputs of customer success (fixture_success.py) by hand:
#   costs: 100,001 over six newcomers by web (five get 16,667, lima 16,666), 50,000 over three partners, 7,001 of a channel that nobody came by and February's 400
#     of partners unallocated, 100.01 USD × 140 = 14,001.4 → 14,001 over nine; 300,000 by 22,800 s, of which 4,500 on no account (59,210.5 → 59,211, echo 63,157.9
#     → 63,158); 100,001 over eleven customers is 9,091 each; −1,001 → kilo −501, mike −500; −778 over four equal times → −195, −195, −194, −194; −4.50 USD ×
#     155.25 = −698.6 → −699; April's pool to time without account alone; September's by heads, its one entry being of 0 hours;
#   opportunities: 333.335 USD × 150.125 = 50,041.9 → 50,042, in February though closed at its first instant; 10,000 EUR × 160.1 in March on no account;
#   onboardings (30 days): acme done on its 29th day, charlie's window over with January itself, echo a day late, hotel open by one second, lima due in September;
#     median of April: 0, 1, 7, 10, 29, 30, 30, 46 done and 10, 80, 116, 162 censored: S(29) = 4/7, S(30) = 0.381 → 30;
#   members: acme 2, 2, 3, 2 (u2 leaves at March's end, u3 joins at its start), delta's u5 once for two accounts; onboarded by the old account's row;
#   voice: acme's 10 and 6 at one instant count 6; bravo's answers of 1 February and 31 January at April's window of 90 days: the first one only; 8 of 10 satisfied, 7 not;
#     response of 1.9 s floored to 1, resolution of 33 days 10 h 0.4 s to 2,887,200;
#   targets: March's arpa explains ln 1.791 / ln 1.576 = 1.281 of mrr's gap, churn_rate −ln 2 / ln 1.576 = −1.523.
# - survival.py: α, β, DEL of Fader and Hardie's two segments to the printed digits (run it). Wilson of 1 in 10: 0.0179 … 0.4042.
# - Not checked by a second program: RFM, touch, cohort_retention and kpi_values beyond the fixture by eye.
# - RavenStack's 24 months (ready mrr, USD) against ravenstack.py: all ten columns equal in all months; 10,159,608 and 8,460,824 hit.

import argparse
import csv
import datetime
import json
import re
import sys
import time
from decimal import Decimal
from pathlib import Path

import duckdb

import metrics
import own_metrics
import survival

HERE = Path(__file__).resolve().parent

COLUMNS = {
    "accounts": "account_id name industry employee_count region channel owner_id is_strategic parent_id seats signup_date valid_from valid_to",
    "account_merges": "old_account_id account_id merged_at",
    "plans": "plan_id family tier",
    "subscriptions": "subscription_id account_id plan_id started_at ended_at trial_end quantity amount interval interval_count discount "
    "discount_kind currency status cancel_requested_at end_reason mrr",
    "invoice_lines": "invoice_id account_id issued_at amount kind currency service_start service_end paid_at",
    "fx_rates": "date currency rate",
    "usage_events": "account_id user_id occurred_at feature session_id seconds",
    "usage_sessions": "account_id user_id started_at ended_at",
    "opportunities": "opportunity_id account_id kind created_at closed_at is_won amount currency",
    "members": "user_id account_id joined_at left_at",
    "onboarding": "account_id user_id started_at completed_at",
    "surveys": "account_id respondent_id kind score scale answered_at item",
    "tickets": "ticket_id account_id opened_at first_response_at closed_at priority is_escalated satisfaction",
    "community": "account_id user_id occurred_at",
    "costs": "date kind amount currency channel account_id",
    "time_entries": "date owner_id account_id hours phase",
    "targets": "metric period value dimension member serves",
}

DIMENSIONS = {
    "industry": "industry",
    "region": "region",
    "channel": "channel",
    "employee_band": "CASE WHEN employee_count < 50 THEN '1-49' WHEN employee_count < 300 THEN '50-299' "
    "WHEN employee_count < 1000 THEN '300-999' WHEN employee_count >= 1000 THEN '1000+' END",
    "plan": "plan_id",
    "rfm_segment": "rfm_segment",
    "touch_model": "touch_model",
}

TOUCH_RULES = [
    {"name": "strategic_or_top_decile", "model": "high", "when": "is_strategic OR ltv_percentile >= 0.9"},
    {"name": "next_40_percent", "model": "low", "when": "ltv_percentile >= 0.5"},
    {"name": "community", "model": "community", "when": "community_active"},
    {"name": "rest", "model": "tech", "when": "true"},
]

RFM_SEGMENTS = [  # (recency, frequency), metrics.md § 5; all 25 cells, each once
    ("Hibernating", 1, 2, 1, 2), ("At Risk", 1, 2, 3, 4), ("Can't Lose Them", 1, 2, 5, 5), ("About to Sleep", 3, 3, 1, 2),
    ("Need Attention", 3, 3, 3, 3), ("Loyal", 3, 4, 4, 5), ("Promising", 4, 4, 1, 1), ("New", 5, 5, 1, 1),
    ("Potential Loyalist", 4, 5, 2, 3), ("Champions", 5, 5, 4, 5),
]

MONEY_COLUMNS = (
    "opening_mrr new_mrr reactivation_mrr expansion_mrr contraction_mrr churn_mrr fx_mrr closing_mrr cross_sell_mrr product_drop_mrr "
    "plan_mrr quantity_mrr discount_change_mrr term_mrr price_mrr contract_mrr discount_mrr trial_mrr usage_mrr retained_mrr mrr_12m_ago "
    "current_mrr_of_12m_ago retained_mrr_12m cohort_mrr retained_cohort_mrr revenue revenue_to_date revenue_12m ltv_to_date ltv_expected "
    "won_amount lost_amount marketing_cost sales_cost cs_people_cost cs_tools_cost"
).split()

POLICY_NUMBERS = {"nps_window_days": 90, "onboarding_window_days": 30, "community_window_days": 90, "small_sample": 30, "bootstrap_samples": 200, "survival_horizon": 12}

SORT_KEYS = {
    "account_period": "period_start, account_id",
    "kpi_values": "period_start, dimension, member, metric",
    "kpi_summary": "period_start",
    "mrr_movements": "period_start, dimension, member, product, movement, cause",
    "cohort_retention": "period_start, cohort_start, age",
    "rfm_scores": "period_start, account_id",
    "rfm_boundaries": "period_start, axis, score",
    "touch_segments": "period_start, account_id",
    "kpi_breakdown": "period_start, dimension, member, metric, item",
    "time_spent": "period_start, account_id, phase",
    "kpi_attainment": "period_start, dimension, member, metric",
    "kpi_drivers": "period_start, dimension, member, metric, comparison",
    "survival": "period_start, dimension, member, age",
}


def quoted(text):
    return "NULL" if text is None else "'" + str(text).replace("'", "''") + "'"


def as_range(value, default=(1, 5)):
    """A score range of an RFM segment: 3, [1, 2] or "1-2"."""
    if value is None:
        return default
    if isinstance(value, str):
        value = [int(part) for part in value.split("-")]
    if isinstance(value, int):
        value = [value]
    return min(value), max(value)


def load(con, data):
    """raw_<table>: every canonical column as text, null where the file lacks it. Further columns of accounts are kept (for dimensions)."""
    found = {}
    for table, names in COLUMNS.items():
        names = names.split()
        file_csv, file_parquet = data / f"{table}.csv", data / f"{table}.parquet"
        if file_csv.exists():
            with open(file_csv, newline="", encoding="utf-8-sig") as handle:
                header = next(csv.reader(handle))
            if len(set(header)) != len(header):
                raise SystemExit(f"{file_csv}: repeated column")
            typed = ", ".join(f"{quoted(c)}: 'VARCHAR'" for c in header)
            source = (f"read_csv({quoted(file_csv)}, header = true, delim = ',', quote = '\"', escape = '\"', nullstr = '', "
                      f"columns = {{{typed}}}, auto_detect = false)")
        elif file_parquet.exists():
            source = f"read_parquet({quoted(file_parquet)})"
            header = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        else:
            source, header = None, []
            if table in ("accounts", "subscriptions"):
                raise SystemExit(f"{data}: no {table}.csv or {table}.parquet")
        extra = [c for c in header if c not in names] if table == "accounts" else []
        select = ", ".join(f'CAST("{c}" AS VARCHAR) AS "{c}"' if c in header else f'CAST(NULL AS VARCHAR) AS "{c}"' for c in names + extra)
        con.execute(f"CREATE TABLE raw_{table} AS SELECT {select} " + (f"FROM {source}" if source else "LIMIT 0"))
        found[table] = header
    return found


def set_parameters(con, params, found, start, end):
    currency = params.get("currency", "JPY")
    digits = {"JPY": 0, "USD": 2, "EUR": 2, **params.get("minor_digits", {})}
    rfm = params.get("rfm", {})
    recency, frequency, monetary = rfm.get("recency", "usage"), rfm.get("frequency", "active_days"), rfm.get("monetary", "revenue")
    thresholds = rfm.get("thresholds", {})
    margin = params.get("gross_margin")
    grace = params.get("past_due_grace_days")

    def variable(name, sql):
        con.execute(f"SET VARIABLE {name} = {sql}")

    variable("currency", quoted(currency))
    variable("reporting_digits", f"{digits.get(currency, 2)}::INTEGER")
    variable("amount", quoted(params.get("amount", "unit")))
    variable("discounts", quoted(params.get("discounts", "recurring")))
    variable("churn_at", quoted(params.get("churn_at", "service_end")))
    variable("past_due_grace_days", f"{'NULL' if grace is None else int(grace)}::INTEGER")
    reasons = params.get("involuntary_reasons", ["payment_failed", "dunning", "card_expired", "unpaid"])
    variable("involuntary_reasons", "[" + ", ".join(map(quoted, reasons)) + "]::VARCHAR[]")
    variable("nrr_includes_reactivation", str(bool(params.get("nrr_includes_reactivation", False))).lower())
    variable("ltv_churn_periods", f"{int(params.get('ltv_churn_periods', 6))}::INTEGER")
    variable("mau_window", quoted(params.get("mau_window", "rolling_30")))
    variable("session_gap_minutes", f"{int(params.get('session_gap_minutes', 30))}::BIGINT")
    variable("cohort_max_age", f"{int(params.get('cohort_max_age', 36))}::BIGINT")
    for name, default in POLICY_NUMBERS.items():
        variable(name, f"{int(params.get(name, default))}::INTEGER")
    variable("upsell_base", quoted(params.get("upsell_base", "opening")))
    variable("crc_allocation", quoted(params.get("crc_allocation", "equal")))
    variable("onboarding_unit", quoted(params.get("onboarding_unit", "account")))
    variable("at_risk_within", f"{params.get('at_risk_within', 0.1)}::DOUBLE")
    rule = params.get("onboarding_rule")
    variable("has_onboarding_rule", str(bool(rule)).lower())
    rule = rule or {"features": 0, "hours": 0, "within_days": 1}
    variable("onboarding_features", f"{int(rule.get('features', 0))}::INTEGER")
    variable("onboarding_seconds", f"{quoted(rule.get('hours', 0))}::DECIMAL(18,6) * 3600")
    variable("onboarding_within_days", f"{int(rule['within_days'])}::INTEGER")
    variable("z", "1.959963984540054::DOUBLE")
    for table in ("opportunities", "members", "onboarding", "surveys", "tickets", "community", "costs", "time_entries"):
        variable(f"has_{table}", str(bool(found[table])).lower())
    has_usage = bool(found["usage_events"] or found["usage_sessions"])
    variable("has_onboardings", str(has_usage if params.get("onboarding_rule") else bool(found["onboarding"])).lower())
    variable("has_member_onboardings", str(bool(found["members"]) and "user_id" in found["onboarding"]).lower())
    variable("has_features", str("feature" in found["usage_events"]).lower())
    variable("margin", "NULL::DOUBLE" if margin is None else f"{quoted(margin)}::DOUBLE")
    variable("margin_e12", "NULL::HUGEINT" if margin is None else f"{int(Decimal(str(margin)) * 10**12)}::HUGEINT")
    variable("run_start", f"DATE '{start}-01'")
    variable("run_end", f"DATE '{end}-01'")
    variable("begin", f"{quoted(params.get('begin'))}::DATE")
    variable("as_of", f"{quoted(params.get('as_of'))}::TIMESTAMPTZ")
    variable("ready_after_hours", f"{int(params.get('ready_after_hours') or 0)}::INTEGER")
    variable("has_plans", str(bool(found["plans"])).lower())
    variable("has_invoices", str(bool(found["invoice_lines"])).lower())
    variable("has_usage", str(bool(found["usage_events"] or found["usage_sessions"])).lower())
    variable("has_session_id", str("session_id" in found["usage_events"]).lower())
    variable("has_seconds", str("seconds" in found["usage_events"]).lower())
    variable("rfm_method", quoted(rfm.get("method", "quantile")))
    variable("rfm_window_days", f"{int(rfm.get('window_days', 365))}::INTEGER")
    variable("rfm_recency", quoted(recency))
    variable("rfm_frequency", quoted(frequency))
    variable("rfm_monetary", quoted(monetary))
    variable("rfm_reads_usage", str(recency == "usage" or frequency == "active_days").lower())
    variable("rfm_reads_payment", str(recency == "payment" or frequency == "invoices" or monetary == "revenue").lower())
    for axis in ("recency", "frequency", "monetary"):
        values = thresholds.get(axis)
        variable(f"rfm_{axis}_thresholds", "NULL::DECIMAL(18,2)[]" if values is None else f"{[float(v) for v in values]}::DECIMAL(18,2)[]")
    variable("hold_periods", f"{int(params.get('touch', {}).get('hold_periods', 0))}::INTEGER")

    places = digits.get(currency, 2)
    con.execute("CREATE TABLE minor_digits(currency VARCHAR, digits INTEGER)")
    con.executemany("INSERT INTO minor_digits VALUES (?, ?)", list(digits.items()))
    # Minor units → the published DECIMAL(18, digits).
    one = "1" if places == 0 else "0." + "0" * (places - 1) + "1"
    con.execute(f"CREATE MACRO money(x) AS CAST(CAST(x AS DECIMAL(28,0)) * CAST('{one}' AS DECIMAL({places + 1},{places})) AS DECIMAL(18,{places}))")

    # Wilson's bound (sign −1: the lower one) of a share p of n, clipped to [0, 1] and, against rounding, to p.
    con.execute("""CREATE MACRO wilson_raw(p, n, sign) AS
        (p + getvariable('z') * getvariable('z') / (2 * n) + sign * getvariable('z') * sqrt(p * (1 - p) / n + getvariable('z') * getvariable('z') / (4 * n * n))) / (1 + getvariable('z') * getvariable('z') / n)""")
    con.execute("CREATE MACRO wilson(p, n, sign) AS CASE WHEN n > 0 AND p BETWEEN 0 AND 1 THEN CASE WHEN sign < 0 THEN greatest(least(wilson_raw(p, n, sign), p), 0) ELSE least(greatest(wilson_raw(p, n, sign), p), 1) END END")

    con.execute("CREATE TABLE rfm_segments(ordinal INTEGER, segment VARCHAR, r_low INTEGER, r_high INTEGER, f_low INTEGER, f_high INTEGER, m_low INTEGER, m_high INTEGER)")
    segments = [(n, r1, r2, f1, f2, 1, 5) for n, r1, r2, f1, f2 in RFM_SEGMENTS]
    if rfm.get("segments"):
        segments = [(s["name"], *as_range(s.get("recency", s.get("r"))), *as_range(s.get("frequency", s.get("f"))), *as_range(s.get("monetary", s.get("m")))) for s in rfm["segments"]]
    con.executemany("INSERT INTO rfm_segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [(i, *s) for i, s in enumerate(segments)])

    con.execute("CREATE TABLE touch_owners(touch_model VARCHAR, owners VARCHAR[])")
    for model, owners in (params.get("touch", {}).get("owners") or {}).items():
        con.execute("INSERT INTO touch_owners VALUES (?, ?)", [model, owners])


def build(con, params, log):
    dimensions = params.get("dimensions") or DIMENSIONS
    cohorts = params.get("cohorts") if params.get("cohorts") is not None else {"industry_region": ["industry", "region"]}
    separator = params.get("member_separator", " | ")
    rules = params.get("touch", {}).get("rules") or TOUCH_RULES

    def run(name, **values):
        began = time.time()
        sql = (HERE / name).read_text()
        for key, value in values.items():
            sql = sql.replace("{{" + key + "}}", value)
        con.execute(sql)
        log(f"{name:20} {time.time() - began:6.1f} s")

    for name in ("staging", "staging_success", "periods", "mrr", "usage", "revenue", "opportunity", "onboarding", "voice", "cost", "account_period", "rfm"):
        run(f"{name}.sql")

    con.execute("CREATE VIEW with_rfm_null_touch AS SELECT *, CAST(NULL AS VARCHAR) AS touch_model FROM with_rfm")
    segment = params.get("ltv_segment")
    run("ltv.sql", ltv_segment=dimensions[segment] if segment else "'total'")

    # What a touch rule may name: the account's columns, money in major units, `mrr`, and dimensions that are no column of that name.
    columns = [row[0] for row in con.execute("DESCRIBE with_ltv").fetchall()]
    own = ", ".join(f'CAST(({sql}) AS VARCHAR) AS "{n}"' for n, sql in dimensions.items() if n not in columns and not THEN.search(sql))
    replaced = ", ".join(f"money({c}) AS {c}" for c in MONEY_COLUMNS)
    con.execute(f"CREATE TABLE touch_now_input AS SELECT * REPLACE ({replaced}), money(closing_mrr) AS mrr" + (f", {own}" if own else "") + " FROM with_ltv")
    con.execute(f"CREATE VIEW touch_input AS {with_values_of_then('touch_now_input', [rule.get('when') or '' for rule in rules])}")
    con.execute("CREATE TABLE touch_raw(period_idx INTEGER, account_id VARCHAR, ordinal INTEGER, rule VARCHAR, rule_model VARCHAR)")
    for i, rule in enumerate(rules):
        capacity = rule.get("capacity")
        run("touch_rule.sql", ordinal=str(i), rule=quoted(rule["name"]), model=quoted(rule["model"]), when=THEN.sub(column_of_then, rule.get("when") or "true"),
            capacity="NULL" if capacity is None else str(int(capacity)))

    text = lambda sql: f"coalesce(CAST(({THEN.sub(column_of_then, sql)}) AS VARCHAR), '(unknown)')"
    wide = ", ".join(f"CASE account_id WHEN '(unallocated)' THEN account_id ELSE {text(sql)} END AS \"dim_{name}\"" for name, sql in dimensions.items())
    parts = ["SELECT period_idx, account_id, 'total' AS dimension, 'total' AS member FROM dimension_wide"]
    parts += [f'SELECT period_idx, account_id, {quoted(n)}, "dim_{n}" FROM dimension_wide' for n in dimensions]
    parts += [f"SELECT period_idx, account_id, {quoted(c)}, CAST({c} AS VARCHAR) FROM dimension_wide WHERE {c} IS NOT NULL" for c in ("cohort_first_paid", "cohort_signup")]
    for name, dims in cohorts.items():
        cells = [f'"dim_{d}"' if d in dimensions else f"coalesce(CAST({d} AS VARCHAR), '(unknown)')" for d in dims]
        parts.append(f"SELECT period_idx, account_id, {quoted(name)}, {(' || ' + quoted(separator) + ' || ').join(cells)} FROM dimension_wide")
    published = "".join(f'd."dim_{n}" AS "{n}", ' for n in dimensions)
    run("touch.sql", dimension_columns=wide, dimension_members="\nUNION ALL ".join(parts), published_dimensions=published,
        money_columns=", ".join(f"money(a.{c}) AS {c}" for c in MONEY_COLUMNS), dimension_input=with_values_of_then("dimension_input", dimensions.values()), money_in_dimensions=replaced)
    run("movements.sql")
    run("cohort.sql")

    run("survival.sql")
    run("onboarding_days.sql")
    began = time.time()
    survival.onboarding_medians(con)
    survival.fit_all(con, float(params.get("discount_rate", 0.1)))
    log(f"{'survival.py':20} {time.time() - began:6.1f} s")
    run("survival_out.sql")

    every, drawn = list(metrics.METRICS), list(metrics.BOOTSTRAPPED)
    run("kpi.sql", sums=metrics.sums(list(metrics.SUMS), ""), formulas=metrics.formulas(every), metrics=metrics.structs(every),
        estimated=", ".join(map(quoted, metrics.ESTIMATED)), units=metrics.table())
    run("bootstrap.sql", sums=metrics.sums(metrics.sums_of(drawn), "w * "), formulas=metrics.formulas(drawn), metrics=metrics.structs(drawn))
    run("kpi_samples.sql", samples=metrics.samples())
    own_metrics.add(con, params.get("own_metrics") or {}, MONEY_COLUMNS)
    run("kpi_values.sql")
    run("breakdown.sql")
    run("target.sql")
    run("drivers.sql")


# `previous(c)` and `year_ago(c)` of a rule or dimension: the account's own row of then.
THEN = re.compile(r"\b(previous|year_ago)\((\w+)\)")


def column_of_then(found):
    return f"{found[1]}__{found[2]}"


def with_values_of_then(table, sources):
    """The table with a column for every value of then that the sources ask for; none before `begin`."""
    asked = {found.groups() for sql in sources for found in THEN.finditer(str(sql))}
    columns = "".join(f", {then}.{c} AS {then}__{c}" for then, c in sorted(asked))
    return f"""SELECT n.*{columns} FROM {table} n
        LEFT JOIN {table} previous ON previous.account_id = n.account_id AND previous.period_idx = n.period_idx - 1 AND previous.period_idx >= getvariable('begin_idx')
        LEFT JOIN {table} year_ago ON year_ago.account_id = n.account_id AND year_ago.period_idx = n.period_idx - 12 AND year_ago.period_idx >= getvariable('begin_idx')"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--params", type=Path)
    parser.add_argument("--start", help="first month, YYYY-MM; params.json may tell it")
    parser.add_argument("--end", help="month after the last one, YYYY-MM; params.json may tell it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--database", help="keep the working tables in this DuckDB file, to look at")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()

    def log(text):
        if not args.quiet:
            print(text, file=sys.stderr)

    params = json.loads(args.params.read_text()) if args.params else {}
    start, end = args.start or params["start"], args.end or params["end"]
    for month in (start, end):
        datetime.date.fromisoformat(f"{month}-01")
    con = duckdb.connect(args.database or ":memory:")
    con.execute(f"SET threads = {args.threads}")
    con.execute("SET preserve_insertion_order = false")
    con.execute(f"SET TimeZone = {quoted(params.get('time_zone', 'Asia/Tokyo'))}")
    found = load(con, args.data)
    set_parameters(con, params, found, start, end)
    build(con, params, log)

    args.out.mkdir(parents=True, exist_ok=True)
    for table, order in SORT_KEYS.items():
        target = args.out / f"{table}.parquet"
        con.execute(f"COPY (SELECT * FROM out_{table} ORDER BY {order}) TO {quoted(target)} (FORMAT parquet)")
        log(f"{table}: {con.execute(f'SELECT count(*) FROM out_{table}').fetchone()[0]} rows")

    broken = con.execute((HERE / "footing.sql").read_text()).fetchall()
    for row in broken[:20]:
        print("does not foot:", *row, file=sys.stderr)
    if broken:
        raise SystemExit(f"{len(broken)} places do not foot")
    log("footing: every account, product, member and the total")


if __name__ == "__main__":
    main()
