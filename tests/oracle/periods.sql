-- periods.sql: the calendar, the rates of each period, which account counts for which, and the spine.

-- ── periods: every month from the first sign of anything to the end asked for ────────────────────────────────────────────────────
-- period_idx = 12 · year + month − 1. Months before --start are needed as history (first paid period, cohorts, 12 months ago).
CREATE TABLE periods AS
WITH first_day AS (
  SELECT least(min(d), getvariable('run_start')) AS d FROM (
    SELECT min(signup_date)::DATE AS d FROM stg_accounts UNION ALL SELECT min(started_at)::DATE FROM stg_versions
    UNION ALL SELECT min(issued_on) FROM stg_lines UNION ALL SELECT min(day) FROM stg_events UNION ALL SELECT min(day) FROM stg_sessions
    UNION ALL SELECT min(instant)::DATE FROM signs_of_success)),
months AS (
  SELECT unnest(generate_series(date_trunc('month', d)::TIMESTAMP, getvariable('run_end')::TIMESTAMP - INTERVAL 1 MONTH, INTERVAL 1 MONTH))::DATE AS period_start FROM first_day)
SELECT (12 * year(period_start) + month(period_start) - 1)::INTEGER AS period_idx, period_start, (period_start + INTERVAL 1 MONTH)::DATE AS period_end,
  period_start::TIMESTAMPTZ AS start_at, (period_start + INTERVAL 1 MONTH)::DATE::TIMESTAMPTZ AS end_at,
  (period_start + INTERVAL 1 MONTH)::DATE - period_start AS days,
  getvariable('as_of') IS NULL OR (period_start + INTERVAL 1 MONTH)::DATE::TIMESTAMPTZ + to_hours(getvariable('ready_after_hours')) <= getvariable('as_of') AS is_complete,
  period_start >= getvariable('run_start') AS is_published
FROM months;

-- calendar.begin as a period; without one, the first period there is.
SET VARIABLE begin_idx = (SELECT coalesce(12 * year(getvariable('begin')) + month(getvariable('begin')) - 1, min(period_idx)) FROM periods);

-- Rate of a period: the latest row dated before its end; the reporting currency's is 1.
CREATE TABLE rates AS
WITH currencies AS (SELECT DISTINCT currency FROM (SELECT currency FROM stg_versions UNION ALL SELECT currency FROM stg_lines
  UNION ALL SELECT currency FROM stg_opportunities UNION ALL SELECT currency FROM stg_costs))
SELECT p.period_idx, c.currency,
  CASE WHEN c.currency = getvariable('currency') THEN 1000000000000::HUGEINT ELSE arg_max(r.rate_e12, r.dated) END AS rate_e12
FROM periods p CROSS JOIN currencies c LEFT JOIN stg_rates r ON r.currency = c.currency AND r.dated < p.end_at
GROUP BY p.period_idx, c.currency;

-- ── which account counts for which, period by period ─────────────────────────────────────────────────────────────────────────────
CREATE TABLE raw_ids AS
SELECT account_id AS raw_id FROM stg_accounts UNION SELECT raw_id FROM stg_versions UNION SELECT raw_id FROM stg_lines
UNION SELECT raw_id FROM stg_events UNION SELECT raw_id FROM stg_sessions UNION SELECT old_account_id FROM stg_merges UNION SELECT account_id FROM stg_merges
UNION SELECT raw_id FROM signs_of_success UNION SELECT '(unallocated)';

-- Merges with merged_at < E are in force at E; chains are followed to their end.
CREATE TABLE account_map AS
WITH RECURSIVE chain AS (
  SELECT p.period_idx, p.end_at, m.old_account_id AS raw_id, m.account_id, 1 AS depth
  FROM periods p JOIN stg_merges m ON m.merged_at < p.end_at
  UNION ALL
  SELECT c.period_idx, c.end_at, c.raw_id, m.account_id, c.depth + 1
  FROM chain c JOIN stg_merges m ON m.old_account_id = c.account_id AND m.merged_at < c.end_at
  WHERE c.depth < 100),
last_link AS (SELECT period_idx, raw_id, arg_max(account_id, depth) AS account_id FROM chain GROUP BY ALL)
SELECT p.period_idx, r.raw_id, coalesce(l.account_id, r.raw_id) AS account_id
FROM periods p CROSS JOIN raw_ids r LEFT JOIN last_link l ON l.period_idx = p.period_idx AND l.raw_id = r.raw_id;

-- Spine: a row in every period from the first sign of life of the account or of one merged into it.
CREATE TABLE spine AS
WITH signs AS (
  SELECT account_id AS raw_id, min(signup_date) AS instant FROM stg_accounts GROUP BY 1
  UNION ALL SELECT raw_id, min(started_at) FROM stg_versions GROUP BY 1
  UNION ALL SELECT raw_id, min(issued_at) FROM stg_lines GROUP BY 1
  UNION ALL SELECT raw_id, min(occurred_at) FROM stg_events GROUP BY 1
  UNION ALL SELECT raw_id, min(started_at) FROM stg_sessions GROUP BY 1
  UNION ALL SELECT raw_id, min(instant) FROM signs_of_success GROUP BY 1),
life AS (SELECT raw_id, min(instant) AS instant FROM signs GROUP BY 1),
signup AS (SELECT account_id AS raw_id, min(signup_date) AS instant FROM stg_accounts GROUP BY 1)
SELECT m.period_idx, m.account_id, CASE WHEN min(s.instant) < p.end_at THEN date_trunc('month', min(s.instant)::DATE)::DATE END AS cohort_signup
FROM account_map m JOIN periods p USING (period_idx) LEFT JOIN life l USING (raw_id) LEFT JOIN signup s USING (raw_id)
GROUP BY m.period_idx, m.account_id, p.end_at HAVING min(l.instant) < p.end_at
-- What belongs to no account: here in every period, in account_period where there is something of the kind.
UNION ALL SELECT period_idx, '(unallocated)', NULL FROM periods;

-- Attributes as of E by the snapshot rule (valid_from < E, open or valid_to >= E); before the first valid_from none. Should two rows
-- hold at once, the later valid_from wins. A surviving account has its own.
CREATE TABLE account_attributes AS
SELECT p.period_idx, a.* FROM periods p JOIN stg_accounts a
  ON (a.valid_from IS NULL OR a.valid_from < p.end_at) AND (a.valid_to IS NULL OR a.valid_to >= p.end_at)
QUALIFY row_number() OVER (PARTITION BY p.period_idx, a.account_id ORDER BY a.valid_from DESC NULLS LAST) = 1;
