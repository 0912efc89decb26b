-- cohort.sql: the triangle of first-paid cohorts, as known at each published period's end: the merges in force there hold for all its cells.
-- Everything is added up from the single ids (raw_mrr, lines) under the account_map of the published period, never from account_periods.

-- The ids behind each account of a published period that had paid by then, and the account's cohort: the first paid period of any of them.
CREATE TABLE cohort_ids AS
WITH firsts AS (SELECT raw_id, min(period_idx) AS first_idx FROM raw_mrr GROUP BY 1),
known AS (SELECT p.period_idx, m.account_id, m.raw_id, f.first_idx FROM periods p JOIN account_map m USING (period_idx) LEFT JOIN firsts f USING (raw_id) WHERE p.is_published)
SELECT period_idx, account_id, raw_id, min(first_idx) FILTER (first_idx <= period_idx) OVER (PARTITION BY period_idx, account_id) AS cohort_idx
FROM known QUALIFY cohort_idx >= getvariable('begin_idx');

-- MRR and revenue of an account in each period from its cohort's to the published one, and what it paid in its cohort's period.
CREATE TABLE cohort_accounts AS
WITH facts AS (
  SELECT raw_id, period_idx AS cell_idx, mrr, 0::HUGEINT AS revenue FROM raw_mrr
  UNION ALL SELECT raw_id, period_idx, 0, amount FROM lines),
per_id AS (SELECT raw_id, cell_idx, sum(mrr)::HUGEINT AS mrr, sum(revenue)::HUGEINT AS revenue FROM facts GROUP BY ALL),
cells AS (
  SELECT i.period_idx, i.account_id, i.cohort_idx, f.cell_idx, sum(f.mrr)::HUGEINT AS mrr, sum(f.revenue)::HUGEINT AS revenue
  FROM cohort_ids i JOIN per_id f ON f.raw_id = i.raw_id AND f.cell_idx BETWEEN i.cohort_idx AND i.period_idx GROUP BY ALL)
SELECT c.*, s.mrr AS cohort_mrr FROM cells c JOIN cells s ON s.period_idx = c.period_idx AND s.account_id = c.account_id AND s.cell_idx = c.cohort_idx;

-- An account counts in its cohort's sum of cohort_mrr at every age, whether or not it has facts there.
CREATE TABLE cohort_sizes AS
SELECT period_idx, cohort_idx, count(*) AS cohort_size, sum(cohort_mrr)::HUGEINT AS cohort_mrr FROM cohort_accounts WHERE cell_idx = cohort_idx AND mrr > 0 GROUP BY ALL;

CREATE TABLE cohort_cells AS
SELECT period_idx, cohort_idx, cell_idx, count(*) FILTER (mrr > 0) AS customers, sum(mrr)::HUGEINT AS mrr, sum(revenue)::HUGEINT AS revenue, sum(least(cohort_mrr, mrr))::HUGEINT AS retained
FROM cohort_accounts GROUP BY ALL;

CREATE TABLE out_cohort_retention AS
WITH known AS (
  SELECT p.period_idx, p.period_start, p.period_end, p.is_complete, s.cohort_idx, s.cohort_size, s.cohort_mrr, min(s.cohort_idx) OVER (PARTITION BY p.period_idx) AS oldest_idx
  FROM periods p JOIN cohort_sizes s USING (period_idx)),
grid AS (
  SELECT *, unnest(generate_series(0, least(period_idx - oldest_idx, getvariable('cohort_max_age'))))::BIGINT AS age FROM known),
-- A period without any fact of the cohort adds no revenue.
cumulative AS (
  SELECT g.period_idx, g.cohort_idx, g.age, sum(x.revenue)::HUGEINT AS revenue_to_date
  FROM grid g JOIN cohort_cells x ON x.period_idx = g.period_idx AND x.cohort_idx = g.cohort_idx AND x.cell_idx <= g.cohort_idx + g.age GROUP BY ALL)
SELECT g.period_start, g.period_end, start.period_start AS cohort_start, g.age, g.cohort_size,
  CASE WHEN is_reached THEN coalesce(c.customers, 0) END AS customers,
  money(CASE WHEN is_reached THEN coalesce(c.mrr, 0) END) AS mrr,
  money(CASE WHEN is_reached AND getvariable('has_invoices') THEN coalesce(c.revenue, 0) END) AS revenue,
  CASE WHEN is_reached THEN coalesce(c.customers, 0)::DOUBLE / nullif(g.cohort_size, 0)::DOUBLE END AS customer_retention,
  CASE WHEN is_reached THEN money(coalesce(c.mrr, 0))::DOUBLE / nullif(money(g.cohort_mrr), 0)::DOUBLE END AS nrr,
  CASE WHEN is_reached THEN money(coalesce(c.retained, 0))::DOUBLE / nullif(money(g.cohort_mrr), 0)::DOUBLE END AS grr,
  CASE WHEN is_reached AND getvariable('has_invoices') THEN money(u.revenue_to_date)::DOUBLE * getvariable('margin') / nullif(g.cohort_size, 0)::DOUBLE END AS cumulative_gross_profit_per_customer,
  g.is_complete
FROM (SELECT *, cohort_idx + age <= period_idx AS is_reached FROM grid) g
JOIN periods start ON start.period_idx = g.cohort_idx
LEFT JOIN cohort_cells c ON c.period_idx = g.period_idx AND c.cohort_idx = g.cohort_idx AND c.cell_idx = g.cohort_idx + g.age
LEFT JOIN cumulative u ON u.period_idx = g.period_idx AND u.cohort_idx = g.cohort_idx AND u.age = g.age;
