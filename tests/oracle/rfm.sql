-- rfm.sql: recency, frequency, monetary over the window_days local days that end with the period's last day.

CREATE TABLE rfm_usage AS
SELECT p.period_idx, m.account_id, max(d.day) AS last_day, count(DISTINCT d.day) AS active_days
FROM id_days d JOIN periods p ON d.day < p.period_end AND d.day >= p.period_end - getvariable('rfm_window_days')
JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = d.raw_id GROUP BY ALL;

CREATE TABLE rfm_payment AS
WITH invoices AS (
  SELECT p.period_idx, m.account_id, l.invoice_id, sum(l.amount)::HUGEINT AS amount, max(l.issued_on) AS issued_on
  FROM lines l JOIN periods p ON l.issued_on < p.period_end AND l.issued_on >= p.period_end - getvariable('rfm_window_days')
  JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = l.raw_id GROUP BY ALL)
SELECT period_idx, account_id, sum(amount)::HUGEINT AS revenue, count(*) FILTER (amount > 0) AS invoices, max(issued_on) FILTER (amount > 0) AS last_day
FROM invoices GROUP BY ALL;

-- Population: customers at E, and accounts with use or payment in the window, whichever the axes read. An axis whose table is not there
-- cannot be scored, and then nobody is.
CREATE TABLE rfm_values AS
SELECT b.period_idx, b.account_id,
  (b.period_end - 1) - CASE getvariable('rfm_recency') WHEN 'payment' THEN y.last_day ELSE u.last_day END AS recency,
  coalesce(CASE getvariable('rfm_frequency') WHEN 'invoices' THEN y.invoices ELSE u.active_days END, 0)::BIGINT AS frequency,
  CASE getvariable('rfm_monetary') WHEN 'mrr' THEN b.closing_mrr ELSE coalesce(y.revenue, 0) END AS monetary
FROM base b LEFT JOIN rfm_usage u USING (period_idx, account_id) LEFT JOIN rfm_payment y USING (period_idx, account_id)
WHERE (b.closing_customers = 1
    OR (getvariable('rfm_reads_usage') AND u.last_day IS NOT NULL)
    OR (getvariable('rfm_reads_payment') AND y.invoices > 0))
  AND (NOT getvariable('rfm_reads_usage') OR getvariable('has_usage')) AND (NOT getvariable('rfm_reads_payment') OR getvariable('has_invoices'));

CREATE TABLE rfm_scored AS
WITH cuts AS (   -- quantile: boundary k is the ⌈k·n/5⌉-th smallest of the n non-null values
  SELECT period_idx,
    list_transform([1, 2, 3, 4], lambda k: list(recency ORDER BY recency) FILTER (recency IS NOT NULL)[(k * count(recency) + 4) // 5]) AS r,
    list_transform([1, 2, 3, 4], lambda k: list(frequency ORDER BY frequency)[(k * count(*) + 4) // 5]) AS f,
    list_transform([1, 2, 3, 4], lambda k: list(monetary ORDER BY monetary)[(k * count(*) + 4) // 5]) AS m
  FROM rfm_values GROUP BY 1),
scored AS (
  SELECT v.*,
    CASE getvariable('rfm_method')
      WHEN 'quantile' THEN CASE WHEN recency IS NULL THEN 1 ELSE 5 - len(list_filter(c.r, lambda b: b < recency)) END
      WHEN 'thresholds' THEN CASE WHEN recency IS NULL THEN 1 ELSE 5 - len(list_filter(getvariable('rfm_recency_thresholds'), lambda b: b < recency)) END
      WHEN 'ntile' THEN ntile(5) OVER (PARTITION BY v.period_idx ORDER BY recency DESC NULLS FIRST, account_id) END::BIGINT AS recency_score,
    CASE getvariable('rfm_method')
      WHEN 'quantile' THEN 1 + len(list_filter(c.f, lambda b: b < frequency))
      WHEN 'thresholds' THEN 1 + len(list_filter(getvariable('rfm_frequency_thresholds'), lambda b: b <= frequency))
      WHEN 'ntile' THEN ntile(5) OVER (PARTITION BY v.period_idx ORDER BY frequency, account_id) END::BIGINT AS frequency_score,
    CASE getvariable('rfm_method')
      WHEN 'quantile' THEN 1 + len(list_filter(c.m, lambda b: b < monetary))
      WHEN 'thresholds' THEN 1 + len(list_filter(getvariable('rfm_monetary_thresholds'), lambda b: b <= money(monetary)))
      WHEN 'ntile' THEN ntile(5) OVER (PARTITION BY v.period_idx ORDER BY monetary, account_id) END::BIGINT AS monetary_score
  FROM rfm_values v JOIN cuts c USING (period_idx))
SELECT s.*, recency_score::VARCHAR || frequency_score::VARCHAR || monetary_score::VARCHAR AS rfm_score, g.segment
FROM scored s LEFT JOIN rfm_segments g
  ON s.recency_score BETWEEN g.r_low AND g.r_high AND s.frequency_score BETWEEN g.f_low AND g.f_high AND s.monetary_score BETWEEN g.m_low AND g.m_high
QUALIFY row_number() OVER (PARTITION BY s.period_idx, s.account_id ORDER BY g.ordinal) = 1;

CREATE TABLE out_rfm_scores AS
SELECT p.period_start, p.period_end, s.account_id, s.recency AS days_since_last, s.frequency, money(s.monetary) AS monetary,
  s.recency_score, s.frequency_score, s.monetary_score, s.rfm_score, s.segment, p.is_complete
FROM rfm_scored s JOIN periods p USING (period_idx) WHERE p.is_published;

CREATE TABLE out_rfm_boundaries AS
WITH axes AS (
  SELECT period_idx, 'recency' AS axis, recency_score AS score, recency::DOUBLE AS value FROM rfm_scored
  UNION ALL SELECT period_idx, 'frequency', frequency_score, frequency::DOUBLE FROM rfm_scored
  UNION ALL SELECT period_idx, 'monetary', monetary_score, money(monetary)::DOUBLE FROM rfm_scored),
seen AS (SELECT period_idx, axis, score, min(value) AS lower, max(value) AS upper, count(*) AS accounts FROM axes GROUP BY ALL),
thresholds AS (
  SELECT p.period_idx, axis, score, CASE axis WHEN 'recency' THEN t[5 - score] ELSE t[score - 1] END AS lower, CASE axis WHEN 'recency' THEN t[6 - score] ELSE t[score] END AS upper
  FROM periods p, (VALUES ('recency', getvariable('rfm_recency_thresholds')), ('frequency', getvariable('rfm_frequency_thresholds')), ('monetary', getvariable('rfm_monetary_thresholds'))) v(axis, t),
    (SELECT unnest([1, 2, 3, 4, 5])::BIGINT AS score)
  WHERE getvariable('rfm_method') = 'thresholds' AND p.period_idx IN (SELECT period_idx FROM rfm_values))
SELECT p.period_start, p.period_end, axis, score,
  CASE getvariable('rfm_method') WHEN 'thresholds' THEN t.lower ELSE s.lower END::DOUBLE AS lower,
  CASE getvariable('rfm_method') WHEN 'thresholds' THEN t.upper ELSE s.upper END::DOUBLE AS upper,
  coalesce(s.accounts, 0)::BIGINT AS accounts, getvariable('rfm_method') AS method, p.is_complete
FROM seen s FULL JOIN thresholds t USING (period_idx, axis, score) JOIN periods p USING (period_idx) WHERE p.is_published;

-- The column rfm_segment of account_period: this period's; an account not scored now keeps the previous period's for one period; else null.
CREATE TABLE with_rfm AS
SELECT b.*, coalesce(now.segment, before.segment) AS rfm_segment
FROM base b LEFT JOIN rfm_scored now USING (period_idx, account_id)
LEFT JOIN rfm_scored before ON before.account_id = b.account_id AND before.period_idx = b.period_idx - 1;
