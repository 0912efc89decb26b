"""The tables of benches/pipeline.yaml in DuckDB SQL, written for speed: see shape.py for their form and docs/definitions.md for their meaning.

- Usage is rolled up once, month by month, so that memory does not grow with the events; sessions are counted on a sorted list per user and day, and only
  where a day is longer than a pause (window functions over all events took twice the CPU).
- Accounts are numbered in the order of their ids; all joins and groups after the rollup are on integers.
- All periods are computed at once, over a dense spine: the period before is LAG, "to date" a running sum.
- What changes in an account's products is looked for only where a version begins or ends.
- The opening of a member is its closing one period earlier; a row per account and product stands for one account, so nothing is counted distinct.
"""

import sys
import time

import duckdb

import shape

MACROS = """
CREATE MACRO index_of(d) AS (12 * year(d) + month(d) - 1)::INTEGER;
CREATE MACRO first_day(p) AS make_date((p // 12)::BIGINT, (p % 12 + 1)::BIGINT, 1);
-- num / den, half away from zero; den > 0.
CREATE MACRO rounded(num, den) AS sign(num)::BIGINT * ((2 * abs(num) + den) // (2 * den));
"""

ROLLUP = """
-- One row per account and user in the days that this period reads, from one row per user and day.
INSERT INTO usage_month
WITH user_days AS (
  SELECT account_id, user_id, us // {day_us} AS day, count(*) AS events, min(us) AS first, max(us) AS last, list(us) AS instants
  FROM (SELECT account_id, user_id, epoch_us(occurred_at) + {zone_us} AS us FROM read_parquet({files})) GROUP BY ALL),
sorted AS (SELECT *, CASE WHEN last - first > {gap} THEN list_sort(instants) END AS s FROM user_days),
cut AS (
  SELECT *, list_filter(s, lambda x, i: i = 1 OR x - s[i - 1] > {gap}) AS begins, list_filter(s, lambda x, i: i = len(s) OR s[i + 1] - x > {gap}) AS ends FROM sorted),
days AS (
  SELECT account_id, user_id, day, events, coalesce(len(begins), 1) AS sessions,
    coalesce(list_sum(list_transform(list_zip(ends, begins), lambda z: (z[1] - z[2]) // 1000000)), (last - first) // 1000000)::BIGINT AS seconds
  FROM cut),
users AS (
  SELECT account_id, user_id, sum(events) FILTER (is_own) AS events, sum(sessions) FILTER (is_own) AS sessions, sum(seconds) FILTER (is_own) AS seconds,
    count(*) FILTER (is_own) AS days, bit_or(1::BIGINT << greatest(day - {start}, 0)) FILTER (is_own) AS which, max(day) AS last_day
  FROM (SELECT *, day >= {start} AS is_own FROM days) GROUP BY ALL)
SELECT account_id, {p}, coalesce(sum(events), 0), coalesce(sum(sessions), 0), coalesce(sum(seconds), 0), coalesce(bit_count(bit_or(which)), 0), sum(days),
  count(*) FILTER (last_day >= {end} - 7), count(*) FILTER (last_day >= {end} - 30), max(last_day)
FROM users GROUP BY account_id;

INSERT INTO feature_month
SELECT account_id, {p}, count(*) FROM (SELECT DISTINCT account_id, feature FROM read_parquet({own_files}) WHERE feature IS NOT NULL) GROUP BY account_id;
"""

MODEL = """
CREATE TABLE account AS
SELECT row_number() OVER (ORDER BY account_id)::INTEGER AS no, account_id, name, owner_id, coalesce(region, '(unknown)') AS region, seats, index_of(signup_date) AS signup_idx
FROM read_parquet('{data}/accounts.parquet');

-- ── subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE version AS
WITH priced AS (
  SELECT *, quantity * amount AS line, CASE "interval" WHEN 'year' THEN 12 ELSE 1 END AS months, coalesce(discount, 0) AS percent
  FROM read_parquet('{data}/subscriptions.parquet'))
SELECT a.no, s.subscription_id, p.family, p.tier, rank_of_plan, s.started_at, s.ended_at, s.trial_end, s.end_reason, s.quantity,
  rounded(line, months) AS contract, rounded(line * (100 - percent), 100 * months) AS net, CASE months WHEN 12 THEN 365 ELSE 30 END AS term,
  greatest(s.started_at, s.trial_end) AS paid_from, index_of(paid_from) AS from_idx, least(coalesce(index_of(s.ended_at), {last} + 1), {last} + 1) AS to_idx
FROM priced s JOIN account a USING (account_id)
JOIN (SELECT *, row_number() OVER (ORDER BY plan_id DESC) AS rank_of_plan FROM read_parquet('{data}/plans.parquet')) p USING (plan_id);

CREATE TEMP TABLE live AS
SELECT no, family, tier, net, contract, quantity, term, net * 1000 + rank_of_plan AS strength, unnest(range(from_idx, to_idx))::INTEGER AS p FROM version WHERE from_idx < to_idx;
CREATE TABLE holding AS
SELECT no, family, p, sum(net)::BIGINT AS n, sum(contract)::BIGINT AS c, sum(quantity)::BIGINT AS q, max(tier) AS tier, max(term) AS term FROM live GROUP BY ALL;
CREATE TABLE paid AS
SELECT no, p, sum(net)::BIGINT AS closing, sum(contract)::BIGINT AS contract, sum(quantity)::INTEGER AS quantity, arg_max(tier, strength)::TINYINT AS tier FROM live GROUP BY ALL;
DROP TABLE live;
CREATE TABLE trial AS
SELECT no, p, sum(net)::BIGINT AS trial_mrr
FROM (SELECT no, net, unnest(range(index_of(started_at), least(index_of(least(trial_end, ended_at)), {last} + 1)))::INTEGER AS p FROM version WHERE trial_end IS NOT NULL) GROUP BY ALL;
CREATE TABLE first_paid AS
SELECT f.no, f.first_idx, f.first_from, p.closing AS cohort_mrr
FROM (SELECT no, min(from_idx) AS first_idx, min(paid_from) AS first_from FROM version WHERE from_idx < to_idx GROUP BY no) f JOIN paid p ON p.no = f.no AND p.p = f.first_idx;

-- ── invoices ─────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE billed AS
WITH lines AS (
  SELECT account_id, invoice_id, amount, kind, ((epoch_us(issued_at) + {zone_us}) // {day_us})::INTEGER AS day FROM read_parquet('{data}/invoice_lines.parquet')),
invoices AS (SELECT account_id, invoice_id, day, sum(amount)::BIGINT AS amount, coalesce(sum(amount) FILTER (kind = 'usage'), 0)::BIGINT AS metered FROM lines GROUP BY ALL),
dated AS (SELECT *, index_of(DATE '1970-01-01' + day) AS p FROM invoices)
SELECT a.no, p, sum(amount)::BIGINT AS revenue, sum(metered)::BIGINT AS usage_mrr, (count(*) FILTER (amount > 0))::INTEGER AS invoices, max(day) FILTER (amount > 0) AS last_payment
FROM dated JOIN account a USING (account_id) WHERE p <= {last} GROUP BY ALL;

CREATE TABLE used AS
SELECT a.no, u.* EXCLUDE (account_id), coalesce(f.features, 0)::INTEGER AS features
FROM usage_month u LEFT JOIN feature_month f USING (account_id, p) JOIN account a USING (account_id);

-- ── account × period, dense from the first sign of life ──────────────────────────────────────────────────────────────
CREATE TABLE spine AS
WITH signs AS (
  SELECT no, signup_idx AS p FROM account UNION ALL SELECT no, min(index_of(started_at)) FROM version GROUP BY no
  UNION ALL SELECT no, min(p) FROM billed GROUP BY no UNION ALL SELECT no, min(p) FROM used WHERE events > 0 GROUP BY no)
SELECT no, unnest(range(min(p), {last} + 1))::INTEGER AS p FROM signs GROUP BY no;

CREATE TABLE facts AS
WITH joined AS (
  SELECT s.no, s.p, coalesce(closing, 0) AS closing, coalesce(contract, 0) AS contract, quantity, tier, coalesce(trial_mrr, 0) AS trial_mrr,
    coalesce(revenue, 0) AS revenue, coalesce(usage_mrr, 0) AS usage_mrr, coalesce(invoices, 0) AS invoices, last_payment,
    coalesce(events, 0) AS events, coalesce(sessions, 0) AS sessions, coalesce(seconds, 0) AS seconds, coalesce(active_days, 0) AS active_days,
    coalesce(user_days, 0) AS user_days, coalesce(wau, 0) AS wau, coalesce(mau, 0) AS mau, last_use, coalesce(features, 0) AS features
  FROM spine s LEFT JOIN paid USING (no, p) LEFT JOIN trial USING (no, p) LEFT JOIN billed USING (no, p) LEFT JOIN used USING (no, p)),
windowed AS (
  SELECT * EXCLUDE (last_payment, last_use, invoices, tier),
    lag(closing, 1, 0) OVER w AS opening, lag(closing, 12, 0) OVER w AS year_ago, coalesce(tier, lag(tier) OVER w) AS tier,
    coalesce(lag(tier) OVER w, lag(tier, 2) OVER w) AS tier_was,
    sum(revenue) OVER w::BIGINT AS revenue_to_date, sum(revenue) OVER y::BIGINT AS revenue_12m, sum(invoices) OVER w::INTEGER AS invoices_to_date,
    sum(invoices) OVER y::INTEGER AS invoices_12m, max(last_payment) OVER w AS last_payment, max(last_use) OVER w AS last_use
  FROM joined
  WINDOW w AS (PARTITION BY no ORDER BY p ROWS UNBOUNDED PRECEDING), y AS (PARTITION BY no ORDER BY p ROWS 11 PRECEDING))
SELECT w.*, f.first_idx, coalesce(f.cohort_mrr, 0) AS cohort_mrr,
  CASE WHEN closing > 0 AND first_idx >= w.p THEN 'new' WHEN closing = 0 AND opening > 0 THEN 'churn' WHEN closing > 0 AND opening = 0 THEN 'reactivation'
    WHEN closing > opening THEN 'expansion' WHEN closing < opening THEN 'contraction' END AS movement
FROM windowed w LEFT JOIN first_paid f ON f.no = w.no AND f.first_idx <= w.p WHERE w.p > {first} - {trailing}
-- By period, so that a period is read without the others.
ORDER BY w.p, w.no;
DROP TABLE usage_month; DROP TABLE feature_month; DROP TABLE paid; DROP TABLE trial; DROP TABLE billed; DROP TABLE used; DROP TABLE spine;

-- ── movements ────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE churned AS
SELECT c.no, c.p, CASE WHEN list_contains({involuntary}, reason) THEN 'involuntary' WHEN reason IS NOT NULL THEN 'voluntary' ELSE 'unknown' END AS cause
FROM (SELECT f.no, f.p, arg_max_null(v.end_reason, (coalesce(v.ended_at, DATE '9999-12-31'), v.started_at, v.subscription_id)) AS reason
  FROM facts f JOIN version v ON v.no = f.no AND index_of(v.started_at) <= f.p WHERE f.movement = 'churn' GROUP BY ALL) c;

-- Products at both ends of the periods in which one of their versions begins or ends.
CREATE TABLE changed AS
WITH places AS (SELECT no, family, from_idx AS p FROM version WHERE from_idx < to_idx UNION SELECT no, family, to_idx FROM version WHERE from_idx < to_idx)
SELECT x.no, x.family, x.p, f.movement, f.opening > 0 AND f.closing > 0 AS is_kept, coalesce(a.n, 0) AS n0, coalesce(b.n, 0) AS n1, a.n IS NOT NULL AS is_held_opening, b.n IS NOT NULL AS is_held_closing,
  (b.c - b.n) - (a.c - a.n) AS discount, rounded(a.c * (b.q - a.q), a.q) AS quantity, b.c - a.c - rounded(a.c * (b.q - a.q), a.q) AS rest,
  CASE WHEN b.tier <> a.tier THEN 'plan' WHEN b.term <> a.term THEN 'term' ELSE 'price' END AS rest_cause
FROM places x JOIN facts f USING (no, p)
LEFT JOIN holding a ON a.no = x.no AND a.family = x.family AND a.p = x.p - 1 LEFT JOIN holding b ON b.no = x.no AND b.family = x.family AND b.p = x.p
WHERE x.p >= {first};

CREATE TABLE cause AS
WITH parts AS (
  SELECT no, p, family, movement, unnest(
    CASE WHEN NOT is_held_opening THEN [{{'cause': 'cross_sell', 'mrr': n1}}] WHEN NOT is_held_closing THEN [{{'cause': 'product_drop', 'mrr': -n0}}]
      ELSE [{{'cause': 'discount', 'mrr': -discount}}, {{'cause': 'quantity', 'mrr': quantity}}, {{'cause': rest_cause, 'mrr': rest}}] END) AS part
  FROM changed WHERE is_kept)
SELECT no, p, family, coalesce(movement, 'expansion') AS movement, part.cause AS cause, part.mrr AS mrr FROM parts WHERE part.mrr <> 0;
CREATE TABLE cause_sums AS
SELECT no, p, {cause_sums} FROM cause GROUP BY ALL;

CREATE TABLE member AS
SELECT f.no, f.p, a.region, coalesce(f.tier::VARCHAR, '(unknown)') AS tier, f.first_idx AS paid_since, CASE WHEN a.signup_idx <= f.p THEN a.signup_idx END AS since
FROM facts f JOIN account a USING (no);

CREATE TABLE out_movements AS
WITH moved AS (
  SELECT no, p, family, movement, NULL AS cause, n1 AS mrr FROM changed WHERE movement IN ('new', 'reactivation')
  UNION ALL SELECT no, p, family, 'churn', c.cause, -n0 FROM changed JOIN churned c USING (no, p) WHERE movement = 'churn'
  UNION ALL SELECT no, p, family, movement, cause, mrr FROM cause
  UNION ALL SELECT no, p, family, 'closing', NULL, n FROM holding WHERE p >= {first} - 1),
grouped AS (
  SELECT p, m.region, m.tier, m.paid_since, m.since, family, movement, cause, sum(mrr)::BIGINT AS mrr, count(*) AS accounts,
    grouping(m.region, m.tier, m.paid_since, m.since) AS which
  FROM moved JOIN member m USING (no, p) WHERE mrr <> 0
  GROUP BY GROUPING SETS ((p, family, movement, cause), (p, family, movement, cause, m.region), (p, family, movement, cause, m.tier),
    (p, family, movement, cause, m.paid_since), (p, family, movement, cause, m.since))),
told AS (
  SELECT p, {dimension_of} AS dimension, {member_of} AS member, family, movement, cause, mrr, accounts FROM grouped),
-- Only the tier of an account may change; what it opened with then leaves one member for the other.
crossed AS (
  SELECT h.no, f.p, h.family, h.n, coalesce(f.tier_was::VARCHAR, '(unknown)') AS was, coalesce(f.tier::VARCHAR, '(unknown)') AS now
  FROM facts f JOIN holding h ON h.no = f.no AND h.p = f.p - 1 WHERE f.p >= {first} AND f.tier_was IS DISTINCT FROM f.tier)
SELECT * FROM told WHERE member IS NOT NULL AND p >= {first} AND mrr <> 0
UNION ALL SELECT p + 1, dimension, member, family, 'opening', NULL, mrr, accounts FROM told WHERE member IS NOT NULL AND movement = 'closing' AND p < {last}
UNION ALL SELECT p, 'tier', was, family, 'segment_exit', NULL, -sum(n)::BIGINT, count(*) FROM crossed GROUP BY ALL
UNION ALL SELECT p, 'tier', now, family, 'segment_entry', NULL, sum(n)::BIGINT, count(*) FROM crossed GROUP BY ALL;

-- ── KPIs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE VIEW account_facts AS
SELECT *, (opening > 0)::INTEGER AS opening_customers, (closing > 0)::INTEGER AS closing_customers, coalesce(movement = 'new', false)::INTEGER AS new_customers,
  coalesce(movement = 'reactivation', false)::INTEGER AS reactivated_customers, coalesce(movement = 'churn', false)::INTEGER AS churned_customers,
  opening AS opening_mrr, closing AS closing_mrr, CASE WHEN movement = 'new' THEN closing ELSE 0 END AS new_mrr,
  CASE WHEN movement = 'reactivation' THEN closing ELSE 0 END AS reactivation_mrr, CASE WHEN movement = 'expansion' THEN closing - opening ELSE 0 END AS expansion_mrr,
  CASE WHEN movement = 'contraction' THEN opening - closing ELSE 0 END AS contraction_mrr, CASE WHEN movement = 'churn' THEN opening ELSE 0 END AS churn_mrr,
  least(opening, closing) AS retained_mrr, year_ago AS mrr_12m_ago, CASE WHEN year_ago > 0 THEN closing ELSE 0 END AS current_mrr_of_12m_ago,
  (year_ago > 0)::INTEGER AS paid_12m_ago, user_days AS active_user_days, (events > 0)::INTEGER AS active_accounts, seconds AS session_seconds, features AS features_used
FROM facts;

CREATE TABLE kpi_sums AS
WITH grouped AS (
  SELECT p, m.region, m.tier, m.paid_since, m.since, grouping(m.region, m.tier, m.paid_since, m.since) AS which, {kpi_sums}
  FROM account_facts JOIN member m USING (no, p) GROUP BY GROUPING SETS ((p), (p, m.region), (p, m.tier), (p, m.paid_since), (p, m.since)))
SELECT * EXCLUDE (region, tier, paid_since, since, which), {dimension_of} AS dimension, {member_of} AS member FROM grouped WHERE member IS NOT NULL;

CREATE MACRO wilson(share, n, side) AS
  (share + 1.959963984540054::DOUBLE * 1.959963984540054::DOUBLE / (2 * n) + side * (1.959963984540054::DOUBLE * sqrt(share * (1 - share) / n
    + 1.959963984540054::DOUBLE * 1.959963984540054::DOUBLE / (4 * n * n)))) / (1 + 1.959963984540054::DOUBLE * 1.959963984540054::DOUBLE / n);

CREATE TABLE out_kpi AS
WITH pooled AS (
  SELECT k.*, (SELECT sum(x.churned_customers) / nullif(sum(x.opening_customers), 0) FROM kpi_sums x
    WHERE x.dimension = k.dimension AND x.member = k.member AND x.p BETWEEN k.p - {trailing} + 1 AND k.p) AS churn,
    (first_day(p + 1) - first_day(p))::DOUBLE AS days, {margin}::DOUBLE / 100 AS margin
  FROM kpi_sums k WHERE p >= {first}),
long AS (SELECT p, dimension, member, unnest([{metrics}]) AS x FROM pooled),
valued AS (
  SELECT p, dimension, member, x.metric, CASE WHEN x.is_ratio THEN x.n / nullif(x.d, 0) ELSE x.n END AS value, x.n AS numerator, x.d AS denominator, x.unit, x.sample, x.has_interval
  FROM long)
SELECT * EXCLUDE (sample, has_interval), CASE WHEN has_interval AND value IS NOT NULL THEN least(greatest(wilson(value, denominator, -1), 0), value) END AS lower,
  CASE WHEN has_interval AND value IS NOT NULL THEN greatest(least(wilson(value, denominator, 1), 1), value) END AS upper, sample AS sample_size
FROM valued;

-- ── cohorts: without merges a cell is the same in every period that knows it ─────────────────────────────────────────
CREATE TABLE cell AS
WITH sums AS (
  SELECT first_idx AS cohort, p - first_idx AS age, count(*) FILTER (closing > 0) AS customers, sum(closing)::BIGINT AS mrr, sum(revenue)::BIGINT AS revenue,
    sum(least(cohort_mrr, closing))::BIGINT AS retained, sum(cohort_mrr)::BIGINT AS cohort_mrr
  FROM facts WHERE first_idx >= {first} GROUP BY ALL)
SELECT *, (sum(revenue) OVER (PARTITION BY cohort ORDER BY age))::BIGINT AS revenue_to_date FROM sums;

-- ── expected lifetime value: the company's churn over the trailing periods ───────────────────────────────────────────
CREATE TABLE ltv AS
WITH company AS (
  SELECT p, nullif(sum(churned_customers) OVER t, 0)::BIGINT AS churned, sum(opening_customers) OVER t::BIGINT AS opening FROM kpi_sums WHERE dimension = 'total'
  WINDOW t AS (ORDER BY p ROWS {trailing} - 1 PRECEDING)),
so_far AS (SELECT no, p, closing, rounded(revenue_to_date * {margin}, 100) AS ltv_to_date FROM facts WHERE p >= {first}),
expected AS (
  SELECT no, p, closing > 0 AS is_customer, ltv_to_date,
    ltv_to_date + CASE WHEN closing > 0 THEN coalesce(rounded(closing * {margin} * opening, 100 * churned), 0) ELSE 0 END AS ltv_expected
  FROM so_far JOIN company USING (p)),
ranked AS (
  SELECT no, p, ltv_to_date, ltv_expected, (rank() OVER (PARTITION BY p ORDER BY ltv_expected) - 1)::DOUBLE / count(*) OVER (PARTITION BY p) AS ltv_percentile
  FROM expected WHERE is_customer)
FROM ranked UNION ALL SELECT no, p, ltv_to_date, ltv_expected, NULL FROM expected WHERE NOT is_customer;
"""

DIMENSION_OF = "CASE which WHEN 15 THEN 'total' WHEN 7 THEN 'region' WHEN 11 THEN 'tier' WHEN 13 THEN 'cohort_first_paid' ELSE 'cohort_signup' END"
MEMBER_OF = "CASE which WHEN 15 THEN 'total' WHEN 7 THEN region WHEN 11 THEN tier WHEN 13 THEN first_day(paid_since)::VARCHAR ELSE first_day(since)::VARCHAR END"
CAUSES = {"cross_sell": "cross_sell", "product_drop": "product_drop", "plan": "plan", "quantity": "quantity", "discount": "discount_change", "term": "term", "price": "price"}

ACCOUNT_PERIOD = """
WITH ready AS (
  SELECT f.*, a.account_id, a.name, a.owner_id, a.region AS region_member, a.seats AS own_seats, a.signup_idx, fp.first_from, ch.cause AS churn_cause, cs.* EXCLUDE (no, p), l.* EXCLUDE (no, p)
  FROM account_facts f JOIN account a USING (no) JOIN ltv l USING (no, p) LEFT JOIN first_paid fp USING (no) LEFT JOIN churned ch USING (no, p) LEFT JOIN cause_sums cs USING (no, p)
  WHERE f.p = {p}),
named AS (
  SELECT *, 0 AS fx_mrr, contract AS contract_mrr, contract - closing AS discount_mrr, coalesce(churn_cause = 'involuntary', false) AS involuntary_churned_customers,
    least(year_ago, closing) AS retained_mrr_12m, least(cohort_mrr, closing) AS retained_cohort_mrr,
    movement = 'expansion' AND (plan_mrr > 0 OR quantity_mrr > 0) AS upsold_accounts, cross_sell_mrr > 0 AS cross_sold_accounts,
    CASE WHEN closing > 0 THEN coalesce(own_seats, quantity) ELSE 0 END AS seats, CASE WHEN closing > 0 THEN DATE '{end}' - first_from ELSE 0 END AS tenure_days,
    invoices_12m > 0 AS purchasing_accounts_12m, {end_day} - 1 - last_payment AS days_since_last_payment, {end_day} - 1 - last_use AS days_since_last_use,
    opening_customers AS upsell_target_accounts, opening_customers AS cross_sell_target_accounts,
    opening_customers = 1 AND upsold_accounts AS upsold_target_accounts, opening_customers = 1 AND cross_sold_accounts AS cross_sold_target_accounts
  FROM ready)
SELECT DATE '{start}' AS period_start, DATE '{end}' AS period_end, account_id, name AS account_name, owner_id, NULL::BOOLEAN AS is_strategic, region_member AS region,
  coalesce(tier::VARCHAR, '(unknown)') AS tier, first_day(first_idx) AS cohort_first_paid, CASE WHEN signup_idx <= p THEN first_day(signup_idx) END AS cohort_signup, true AS is_complete,
  {columns}
FROM named ORDER BY no
"""


def account_period_columns():
    """The SELECT list of the facts, in their types; what the data does not have is null."""
    zero_if_null = {f"{name}_mrr" for name in CAUSES.values()} | {"upsold_accounts", "cross_sold_accounts", "upsold_target_accounts", "cross_sold_target_accounts"}
    fact = lambda name, kind: f"coalesce({name}::{kind}, 0) AS {name}" if name in zero_if_null else f"{name}::{kind} AS {name}"
    nothing = lambda group: [f"NULL::{kind} AS {name}" for name, kind in shape.NOT_MAPPED[group].items()]
    facts = [fact(name, kind) for name, kind in shape.FACTS.items()]
    return ", ".join(facts + nothing("before") + [fact(name, shape.COUNT) for name in shape.TARGETS] + nothing("after") + [fact("features_used", shape.COUNT)])


def metric_structs():
    rows = []
    for metric, (unit, numerator, denominator, sample, has_interval) in shape.METRICS.items():
        is_ratio = str(denominator is not None).lower()
        rows.append(f"{{metric: '{metric}', unit: '{unit}', is_ratio: {is_ratio}, n: ({numerator})::DOUBLE, d: ({denominator or 'NULL'})::DOUBLE, "
                    f"sample: ({sample or 'NULL'})::BIGINT, has_interval: {str(has_interval).lower()}}}")
    return ", ".join(rows)


def main():
    given = shape.arguments(__doc__.splitlines()[0])
    first, last = given.periods[0].index, given.periods[-1].index
    began = time.time()

    def told(step):
        if given.times:
            print(f"{time.time() - began:7.2f} s, CPU {time.process_time():7.2f} s  {step}", file=sys.stderr)

    con = duckdb.connect()
    con.execute(f"SET threads = {given.threads}; SET preserve_insertion_order = false")
    con.execute(MACROS)
    counts = ", ".join(f"{name} INTEGER" for name in "events sessions seconds active_days user_days wau mau last_use".split())
    con.execute(f"CREATE TABLE usage_month(account_id VARCHAR, p INTEGER, {counts}); CREATE TABLE feature_month(account_id VARCHAR, p INTEGER, features INTEGER)")
    day = lambda date: date.toordinal() - 719_163
    for period in given.periods:
        files = shape.event_files(given.data, period)
        own = [file for file in files if file.rsplit("/", 1)[1] >= period.start.isoformat()]
        con.execute(ROLLUP.format(files=files, own_files=own, p=period.index, start=day(period.start), end=day(period.end), gap=shape.SESSION_GAP_US,
                                  zone_us=shape.ZONE_US, day_us=shape.DAY_US))
    told("usage")
    model = MODEL.format(
        data=given.data, first=first, last=last, trailing=shape.TRAILING, margin=shape.MARGIN_PERCENT, zone_us=shape.ZONE_US, day_us=shape.DAY_US,
        involuntary=shape.INVOLUNTARY, dimension_of=DIMENSION_OF, member_of=MEMBER_OF, metrics=metric_structs(),
        kpi_sums=", ".join(f"sum({name})::DOUBLE AS {name}" for name in shape.SUMS),
        cause_sums=", ".join(f"sum(mrr) FILTER (cause = '{cause}')::BIGINT AS {name}_mrr" for cause, name in CAUSES.items()))
    for statement in model.split(";\n"):
        if statement.strip():
            con.execute(statement)
            told(" ".join(line for line in statement.strip().splitlines() if not line.startswith("--"))[:60])

    for period in given.periods:
        bounds = f"DATE '{period.start}' AS period_start, DATE '{period.end}' AS period_end"
        p = period.index
        queries = {
            "account_period": ACCOUNT_PERIOD.format(p=p, start=period.start, end=period.end, end_day=day(period.end), columns=account_period_columns()),
            "kpi_values": f"""SELECT {bounds}, dimension, member, metric, value, numerator, denominator, unit, true AS is_complete, false AS is_restated, lower, upper, sample_size,
                sample_size < {shape.SMALL_SAMPLE} AS is_small_sample, NULL::BOOLEAN AS is_mature FROM out_kpi WHERE p = {p} ORDER BY dimension, member, metric""",
            "mrr_movements": f"""SELECT {bounds}, dimension, member, family AS product, movement, cause, mrr::DECIMAL(18,0) AS mrr, accounts, true AS is_complete
                FROM out_movements WHERE p = {p} ORDER BY ALL""",
            "cohort_retention": f"""WITH grid AS (
                  SELECT cohort, unnest(range(0, least({p} - min(cohort) OVER (), {shape.MAX_AGE}) + 1)) AS age, customers AS size, cohort_mrr AS whole FROM cell WHERE age = 0 AND cohort <= {p})
                SELECT {bounds}, first_day(g.cohort) AS cohort_start, g.age, g.size AS cohort_size, c.customers, c.mrr::DECIMAL(18,0) AS mrr, c.revenue::DECIMAL(18,0) AS revenue,
                  c.customers::DOUBLE / g.size AS customer_retention, c.mrr::DOUBLE / g.whole AS nrr, c.retained::DOUBLE / g.whole AS grr,
                  c.revenue_to_date::DOUBLE * ({shape.MARGIN_PERCENT}::DOUBLE / 100) / g.size AS cumulative_gross_profit_per_customer, true AS is_complete
                FROM grid g LEFT JOIN cell c ON c.cohort = g.cohort AND c.age = g.age AND c.cohort + c.age <= {p} ORDER BY 3, 4""",
        }
        for table, query in queries.items():
            told(table)
            con.execute(f"COPY ({query}) TO '{shape.target(given.out, table, period)}' (FORMAT parquet, COMPRESSION zstd)")
    told("written")


if __name__ == "__main__":
    main()
