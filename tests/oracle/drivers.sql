-- drivers.sql: why the total moved: effects of mix and rate of every member, against the period before and the one a year before.

CREATE TABLE driver_pairs AS
SELECT p.period_idx, c.comparison, p.period_idx - c.back AS before_idx
FROM periods p, (VALUES ('previous', 1), ('year_ago', 12)) c(comparison, back)
WHERE p.is_published AND p.period_idx - c.back >= getvariable('begin_idx') AND p.period_idx - c.back IN (SELECT period_idx FROM periods);

CREATE MACRO left_over(total, parts, size) AS CASE WHEN abs(total - parts) <= 1e-12 * (abs(total) + size) THEN 0 ELSE total - parts END;
CREATE TABLE driver_members AS
WITH parts AS (SELECT period_idx, dimension, member, metric, numerator AS n, denominator AS d FROM kpi_all JOIN units USING (metric) WHERE is_reaggregable AND is_ratio),
totals AS (
  SELECT x.*, t0.metric, t0.n AS total_n0, t0.d AS total_d0, t1.n AS total_n1, t1.d AS total_d1
  FROM driver_pairs x JOIN parts t1 ON t1.period_idx = x.period_idx AND t1.dimension = 'total'
  JOIN parts t0 ON t0.period_idx = x.before_idx AND t0.dimension = 'total' AND t0.metric = t1.metric
  WHERE t0.n IS NOT NULL AND t1.n IS NOT NULL AND t0.d <> 0 AND t1.d <> 0),
sides AS (
  SELECT t.period_idx, t.comparison, t.metric, s.dimension, s.member, s.n AS n0, s.d AS d0, 0::DOUBLE AS n1, 0::DOUBLE AS d1
  FROM totals t JOIN parts s ON s.period_idx = t.before_idx AND s.metric = t.metric WHERE s.dimension <> 'total'
  UNION ALL
  SELECT t.period_idx, t.comparison, t.metric, s.dimension, s.member, 0, 0, s.n, s.d
  FROM totals t JOIN parts s ON s.period_idx = t.period_idx AND s.metric = t.metric WHERE s.dimension <> 'total'),
held AS (
  SELECT period_idx, comparison, metric, dimension, member, sum(coalesce(n0, 0)) AS n0, sum(coalesce(d0, 0)) AS d0, sum(coalesce(n1, 0)) AS n1, sum(coalesce(d1, 0)) AS d1
  FROM sides GROUP BY ALL),
-- What no member holds: the accounts without a cohort. What is left of binary fractions (cents, hours) is nothing.
rest AS (
  SELECT t.period_idx, t.comparison, t.metric, d.dimension, '(rest)' AS member, left_over(any_value(t.total_n0), coalesce(fsum(h.n0), 0), coalesce(sum(abs(h.n0)), 0)) AS n0, left_over(any_value(t.total_d0), coalesce(fsum(h.d0), 0), coalesce(sum(abs(h.d0)), 0)) AS d0,
    left_over(any_value(t.total_n1), coalesce(fsum(h.n1), 0), coalesce(sum(abs(h.n1)), 0)) AS n1, left_over(any_value(t.total_d1), coalesce(fsum(h.d1), 0), coalesce(sum(abs(h.d1)), 0)) AS d1
  FROM totals t JOIN (SELECT DISTINCT metric, dimension FROM parts WHERE dimension <> 'total') d ON d.metric = t.metric
  LEFT JOIN held h ON h.period_idx = t.period_idx AND h.comparison = t.comparison AND h.metric = t.metric AND h.dimension = d.dimension
  GROUP BY t.period_idx, t.comparison, t.metric, d.dimension HAVING n0 <> 0 OR d0 <> 0 OR n1 <> 0 OR d1 <> 0)
SELECT a.*, t.total_n0, t.total_d0, t.total_n1, t.total_d1
FROM (FROM held UNION ALL BY NAME FROM rest) a JOIN totals t USING (period_idx, comparison, metric);

CREATE TABLE out_kpi_drivers AS
WITH rates AS (
  SELECT *, n0 / nullif(d0, 0) AS r0, n1 / nullif(d1, 0) AS r1, d0 / total_d0 AS w0, d1 / total_d1 AS w1, total_n0 / total_d0 AS total0, total_n1 / total_d1 AS total1 FROM driver_members),
effects AS (
  SELECT *, n1 / total_d1 - n0 / total_d0 - (total0 + total1) / 2 * (w1 - w0) AS effect,
    CASE WHEN d0 <> 0 AND d1 <> 0 THEN (w0 + w1) / 2 * (r1 - r0) ELSE 0 END AS rate_effect
  FROM rates)
SELECT p.period_start, p.period_end, dimension, member, metric, comparison, r0 AS value_before, r1 AS value, w0 AS weight_before, w1 AS weight,
  effect - rate_effect AS mix_effect, rate_effect, effect, total0 AS total_before, total1 AS total, total1 - total0 AS change, p.is_complete
FROM effects JOIN periods p USING (period_idx);
