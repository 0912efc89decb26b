-- kpi.sql: every metric for the total and every dimension member. Sums are exact; each becomes Float64 once, in major units, and the ratio
-- is one division of two Float64. A ratio whose denominator is 0 or null is null; its numerator and denominator are still given.
-- What is summed and put together is told by metrics.py.

CREATE TABLE kpi_sums AS
SELECT a.period_idx, m.dimension, m.member, max(a.days)::DOUBLE AS days, bool_and(a.is_complete) AS is_complete,
  {{sums}}
FROM account_periods a JOIN members m USING (period_idx, account_id) GROUP BY a.period_idx, m.dimension, m.member;

-- Monthly churn behind `ltv`: pooled over the trailing ltv_churn_periods, each period with its own members.
CREATE TABLE kpi_churn AS
SELECT k.period_idx, k.dimension, k.member, sum(x.churned) / nullif(sum(x.opening), 0) AS churn
FROM kpi_sums k JOIN kpi_sums x ON x.dimension = k.dimension AND x.member = k.member
  AND x.period_idx BETWEEN k.period_idx - getvariable('ltv_churn_periods') + 1 AND k.period_idx
GROUP BY ALL;

CREATE TABLE kpi_ready AS
SELECT k.*, c.churn, getvariable('margin') AS margin, f.expected_lifetime, coalesce(g.subjects, 0) AS survival_sample, o.median_days AS onboarding_days,
  coalesce(o.onboardings, 0) AS onboarding_sample,
  total_hours, total_mrr{{formulas}}
FROM kpi_sums k JOIN kpi_churn c USING (period_idx, dimension, member)
JOIN (SELECT period_idx, cs_seconds / 3600 AS total_hours, closing_mrr AS total_mrr FROM kpi_sums WHERE dimension = 'total') USING (period_idx)
LEFT JOIN survival_fit f USING (period_idx, dimension, member) LEFT JOIN survival_groups g USING (period_idx, dimension, member)
LEFT JOIN onboarding_medians o USING (period_idx, dimension, member)
WHERE k.period_idx >= getvariable('begin_idx');

-- Of every period from `begin` on: earlier ones are compared with.
CREATE TABLE kpi_all AS
WITH metrics AS (
  SELECT period_idx, dimension, member, unnest([
    {{metrics}}
  ]) AS x FROM kpi_ready)
SELECT period_idx, dimension, member, x.m AS metric, CASE WHEN x.r THEN x.n / nullif(x.d, 0) ELSE x.n END AS value,
  CASE WHEN x.m NOT IN ({{estimated}}) THEN x.n END AS numerator, x.d AS denominator
FROM metrics;

CREATE TABLE units AS
SELECT * FROM (VALUES
  {{units}}) v(metric, unit, good, is_ratio, is_reaggregable, has_proportion, is_bootstrapped);
