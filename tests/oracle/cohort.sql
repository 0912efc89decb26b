-- cohort.sql: the triangle of first-paid cohorts, as known at each published period's end. A cell is computed as of its own period.

CREATE TABLE cohort_cells AS
SELECT first_paid_idx AS cohort_idx, period_idx, sum(closing_customers)::BIGINT AS customers, sum(closing_mrr)::HUGEINT AS mrr, sum(revenue)::HUGEINT AS revenue,
  sum(cohort_mrr)::HUGEINT AS cohort_mrr, sum(retained_cohort_mrr)::HUGEINT AS retained
FROM account_periods WHERE first_paid_idx >= getvariable('begin_idx') GROUP BY ALL;

CREATE TABLE cohort_sizes AS SELECT cohort_idx, customers AS cohort_size FROM cohort_cells WHERE cohort_idx = period_idx;

CREATE TABLE out_cohort_retention AS
WITH known AS (
  SELECT p.period_idx, p.period_start, p.period_end, p.is_complete, s.cohort_idx, s.cohort_size, min(s.cohort_idx) OVER (PARTITION BY p.period_idx) AS oldest_idx
  FROM periods p JOIN cohort_sizes s ON s.cohort_idx <= p.period_idx WHERE p.is_published),
grid AS (
  SELECT *, unnest(generate_series(0, least(period_idx - oldest_idx, getvariable('cohort_max_age'))))::BIGINT AS age FROM known),
-- A cohort that was merged away into older ones goes on with nobody in it: its later cells add no revenue.
cumulative AS (
  SELECT g.cohort_idx, g.age, g.period_idx, sum(x.revenue)::HUGEINT AS revenue_to_date
  FROM grid g JOIN cohort_cells x ON x.cohort_idx = g.cohort_idx AND x.period_idx <= g.cohort_idx + g.age GROUP BY ALL)
SELECT g.period_start, g.period_end, start.period_start AS cohort_start, g.age, g.cohort_size,
  CASE WHEN is_reached THEN coalesce(c.customers, 0) END AS customers,
  money(CASE WHEN is_reached THEN coalesce(c.mrr, 0) END) AS mrr,
  money(CASE WHEN is_reached AND getvariable('has_invoices') THEN coalesce(c.revenue, 0) END) AS revenue,
  CASE WHEN is_reached THEN coalesce(c.customers, 0)::DOUBLE / nullif(g.cohort_size, 0)::DOUBLE END AS customer_retention,
  CASE WHEN is_reached THEN money(c.mrr)::DOUBLE / nullif(money(c.cohort_mrr), 0)::DOUBLE END AS nrr,
  CASE WHEN is_reached THEN money(c.retained)::DOUBLE / nullif(money(c.cohort_mrr), 0)::DOUBLE END AS grr,
  CASE WHEN is_reached THEN money(u.revenue_to_date)::DOUBLE * getvariable('margin') / nullif(g.cohort_size, 0)::DOUBLE END AS cumulative_gross_profit_per_customer,
  g.is_complete
FROM (SELECT *, cohort_idx + age <= period_idx AS is_reached FROM grid) g
JOIN periods start ON start.period_idx = g.cohort_idx
LEFT JOIN cohort_cells c ON c.cohort_idx = g.cohort_idx AND c.period_idx = g.cohort_idx + g.age
LEFT JOIN cumulative u ON u.cohort_idx = g.cohort_idx AND u.age = g.age AND u.period_idx = g.period_idx;
