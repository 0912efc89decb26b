-- target.sql: targets against what was reached (kpi_attainment), and what each KPI explains of the KGI that it serves.

CREATE TABLE attained AS
WITH valued AS (
  SELECT p.period_idx, p.period_start, p.period_end, t.dimension, t.member, t.metric, k.value, t.target, t.serves, p.is_complete, u.good, CASE u.good WHEN 'down' THEN -1 ELSE 1 END AS sense
  FROM stg_targets t JOIN periods p USING (period_start) JOIN units u USING (metric)
  LEFT JOIN kpi_all k ON k.period_idx = p.period_idx AND k.dimension = t.dimension AND k.member = t.member AND k.metric = t.metric
  WHERE p.is_published)
SELECT *, value / nullif(target, 0) AS attainment, value - target AS gap,
  CASE WHEN value IS NULL OR target IS NULL THEN NULL WHEN target = 0 THEN CASE WHEN sense * (value - target) >= 0 THEN 0 ELSE 1 END
    ELSE sense * (target - value) / abs(target) END::DOUBLE AS shortfall
FROM valued;

CREATE TABLE out_kpi_attainment AS
WITH shares AS (
  SELECT k.*, g.gap AS kgi_gap,
    CASE WHEN k.attainment > 0 AND g.attainment > 0 AND g.attainment <> 1 THEN k.sense * g.sense * ln(k.attainment) / ln(g.attainment) END AS kgi_share_explained
  FROM attained k LEFT JOIN attained g ON g.period_idx = k.period_idx AND g.dimension = k.dimension AND g.member = k.member AND g.metric = k.serves)
SELECT period_start, period_end, dimension, member, metric, value, target, attainment, gap, shortfall,
  CASE WHEN target IS NULL THEN 'no_target' WHEN value IS NULL THEN 'no_value' WHEN shortfall <= 0 THEN 'on_track'
    WHEN shortfall <= getvariable('at_risk_within') THEN 'at_risk' ELSE 'missed' END AS status,
  serves, kgi_gap, kgi_share_explained, kgi_share_explained * kgi_gap AS kgi_gap_explained, is_complete
FROM shares;
