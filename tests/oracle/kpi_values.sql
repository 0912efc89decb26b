-- kpi_values.sql: the published values with their intervals and samples, and the summary.

CREATE TABLE out_kpi_values AS
WITH valued AS (
  SELECT k.*, u.unit, u.has_proportion, u.is_bootstrapped, CASE u.unit WHEN 'percent' THEN 100 ELSE 1 END AS whole
  FROM kpi_all k JOIN units u USING (metric) WHERE k.period_idx IN (SELECT period_idx FROM periods WHERE is_published)),
churn AS (
  SELECT period_idx, dimension, member, wilson(value, denominator, -1) AS low, wilson(value, denominator, 1) AS high FROM valued WHERE metric = 'churn_rate'),
bounds AS (
  SELECT v.*, r.is_complete,
    CASE WHEN has_proportion THEN whole * wilson(value / whole, denominator, -1)
      WHEN metric = 'nps' THEN greatest(value - 100 * getvariable('z') * sqrt(greatest(r.nps_squares / denominator - (value / 100) * (value / 100), 0) / denominator), -100)
      WHEN metric = 'annualized_churn_rate' THEN 1 - power(1 - c.low, 12)
      WHEN is_bootstrapped THEN b.lower END AS lower,
    CASE WHEN has_proportion THEN whole * wilson(value / whole, denominator, 1)
      WHEN metric = 'nps' THEN least(value + 100 * getvariable('z') * sqrt(greatest(r.nps_squares / denominator - (value / 100) * (value / 100), 0) / denominator), 100)
      WHEN metric = 'annualized_churn_rate' THEN 1 - power(1 - c.high, 12)
      WHEN is_bootstrapped THEN b.upper END AS upper,
    CASE WHEN metric = 'onboarding_completion_rate' AND getvariable('has_onboardings') THEN r.onboardings_open = 0 END AS is_mature
  FROM valued v JOIN kpi_ready r USING (period_idx, dimension, member) JOIN churn c USING (period_idx, dimension, member)
  LEFT JOIN bootstrapped b USING (period_idx, dimension, member, metric))
SELECT p.period_start, p.period_end, dimension, member, metric, value, numerator, denominator, unit, b.is_complete,
  -- nothing is restated without `close:` in the pipeline
  false AS is_restated,
  CASE WHEN value IS NOT NULL THEN lower END AS lower, CASE WHEN value IS NOT NULL THEN upper END AS upper, s.sample_size, s.sample_size < getvariable('small_sample') AS is_small_sample, is_mature
FROM bounds b JOIN periods p USING (period_idx) LEFT JOIN kpi_samples s USING (period_idx, dimension, member, metric);

CREATE TABLE out_kpi_summary AS
PIVOT (SELECT period_start, period_end, is_complete, metric, value FROM out_kpi_values WHERE dimension = 'total') ON metric USING first(value);
