-- breakdown.sql: metrics of one thing at a time (kpi_breakdown), and the time spent on each account (time_spent).

CREATE TABLE breakdown_parts AS
SELECT m.period_idx, m.dimension, m.member, 'csat_by_item' AS metric, a.item, 100 * count(*) FILTER (a.is_satisfied)::DOUBLE AS n, count(*)::DOUBLE AS d
FROM csat_answers a JOIN members m USING (period_idx, account_id) GROUP BY ALL
UNION ALL
SELECT m.period_idx, m.dimension, m.member, 'feature_adoption_rate', f.feature, sum(a.closing_customers)::DOUBLE, max(s.closing)::DOUBLE
FROM feature_use f JOIN account_periods a USING (period_idx, account_id) JOIN members m USING (period_idx, account_id)
JOIN kpi_sums s ON s.period_idx = m.period_idx AND s.dimension = m.dimension AND s.member = m.member GROUP BY ALL
UNION ALL
SELECT m.period_idx, m.dimension, m.member, 'hours_by_phase', t.phase, sum(t.seconds)::DOUBLE / 3600, NULL
FROM time_entries t JOIN members m USING (period_idx, account_id) GROUP BY ALL;

CREATE TABLE out_kpi_breakdown AS
WITH valued AS (
  SELECT b.*, u.unit, u.of_hundred, CASE WHEN metric = 'hours_by_phase' THEN n ELSE n / nullif(d, 0) END AS value
  FROM breakdown_parts b JOIN (VALUES ('csat_by_item', 'percent', 100), ('feature_adoption_rate', 'ratio', 1), ('hours_by_phase', 'hours', NULL)) u(metric, unit, of_hundred) USING (metric))
SELECT p.period_start, p.period_end, dimension, member, metric, item, value, n AS numerator, d AS denominator, unit, p.is_complete,
  of_hundred * wilson(value / of_hundred, d, -1) AS lower, of_hundred * wilson(value / of_hundred, d, 1) AS upper,
  d::BIGINT AS sample_size, d < getvariable('small_sample') AS is_small_sample
FROM valued JOIN periods p USING (period_idx) WHERE p.is_published;

-- The account's share of all time against its share of all MRR.
CREATE TABLE out_time_spent AS
WITH phases AS (SELECT period_idx, account_id, phase, sum(seconds)::DOUBLE AS seconds FROM time_entries GROUP BY ALL HAVING sum(seconds) > 0),
shares AS (
  SELECT *, sum(seconds) OVER (PARTITION BY period_idx, account_id) / nullif(sum(seconds) OVER (PARTITION BY period_idx), 0) AS hours_share FROM phases),
mrr AS (
  SELECT period_idx, account_id, money(closing_mrr)::DOUBLE / nullif(sum(money(closing_mrr)) OVER (PARTITION BY period_idx)::DOUBLE, 0) AS mrr_share FROM account_periods)
SELECT p.period_start, p.period_end, account_id, phase, seconds / 3600 AS hours, hours_share, mrr_share, hours_share / nullif(mrr_share, 0) AS imbalance, p.is_complete
FROM shares JOIN mrr USING (period_idx, account_id) JOIN periods p USING (period_idx) WHERE p.is_published;
