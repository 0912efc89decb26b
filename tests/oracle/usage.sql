-- usage.sql: events → (id, user, local day) → account × period.

-- Sessions are cut per id, user and local day: a gap of more than session_gap_minutes starts a new one (or each distinct session_id is one);
-- its seconds are last − first instant, whole seconds floored per session. `seconds`, where mapped, is summed instead.
CREATE TABLE usage_daily AS
WITH gaps AS (
  SELECT *, epoch_us(occurred_at) AS us,
    epoch_us(occurred_at) - lag(epoch_us(occurred_at)) OVER (PARTITION BY raw_id, user_id, day ORDER BY occurred_at) AS gap_us
  FROM stg_events),
numbered AS (
  SELECT *, CASE WHEN getvariable('has_session_id') THEN session_id ELSE
    (count(*) FILTER (gap_us > getvariable('session_gap_minutes') * 60000000) OVER (PARTITION BY raw_id, user_id, day ORDER BY us))::VARCHAR END AS session
  FROM gaps),
sessions AS (
  SELECT raw_id, user_id, day, session, count(*) AS events, (max(us) - min(us)) // 1000000 AS session_seconds, sum(seconds) AS mapped_seconds
  FROM numbered GROUP BY ALL)
SELECT raw_id, user_id, day, (12 * year(day) + month(day) - 1)::INTEGER AS period_idx, sum(events)::BIGINT AS events, count(session)::BIGINT AS sessions,
  CASE WHEN getvariable('has_seconds') THEN coalesce(sum(mapped_seconds), 0) ELSE sum(session_seconds) END::BIGINT AS session_seconds
FROM sessions GROUP BY raw_id, user_id, day
UNION ALL   -- ready sessions: each is one event and one session, on the day it starts
SELECT raw_id, user_id, day, (12 * year(day) + month(day) - 1)::INTEGER, count(*), count(*), sum((epoch_us(ended_at) - epoch_us(started_at)) // 1000000)::BIGINT
FROM stg_sessions GROUP BY raw_id, user_id, day;

CREATE TABLE id_days AS SELECT DISTINCT raw_id, day, period_idx FROM usage_daily;

-- Of the period. Users are (account, user): the same user id in two ids merged by now is one user.
CREATE TABLE account_usage AS
WITH totals AS (
  SELECT m.period_idx, m.account_id, sum(u.events)::BIGINT AS events, sum(u.sessions)::BIGINT AS sessions, sum(u.session_seconds)::BIGINT AS session_seconds
  FROM usage_daily u JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL),
user_days AS (SELECT DISTINCT m.period_idx, m.account_id, u.day, u.user_id FROM usage_daily u JOIN account_map m USING (period_idx, raw_id)),
days AS (SELECT period_idx, account_id, count(DISTINCT day) AS active_days, count(user_id) AS active_user_days FROM user_days GROUP BY ALL),
-- The last 30 local days before the end (calendar: the days of the period), and the last 7.
recent AS (
  SELECT p.period_idx, u.raw_id, u.user_id, max(u.day >= p.period_end - 7) AS is_week,
    max(u.day >= CASE getvariable('mau_window') WHEN 'calendar' THEN p.period_start ELSE p.period_end - 30 END) AS is_month
  FROM usage_daily u JOIN periods p ON u.day < p.period_end AND u.day >= least(p.period_start, p.period_end - 30) GROUP BY ALL),
users AS (
  SELECT m.period_idx, m.account_id, count(DISTINCT r.user_id) FILTER (is_week) AS wau, count(DISTINCT r.user_id) FILTER (is_month) AS mau
  FROM recent r JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL),
id_last AS (SELECT p.period_idx, d.raw_id, max(d.day) AS last_day FROM (SELECT raw_id, period_idx, max(day) AS day FROM id_days GROUP BY ALL) d JOIN periods p ON d.period_idx <= p.period_idx GROUP BY ALL),
last_use AS (SELECT m.period_idx, m.account_id, max(l.last_day) AS last_day FROM id_last l JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL)
SELECT s.period_idx, s.account_id,
  CASE WHEN getvariable('has_usage') THEN coalesce(t.events, 0) END AS events,
  CASE WHEN getvariable('has_usage') THEN coalesce(t.sessions, 0) END AS sessions,
  CASE WHEN getvariable('has_usage') THEN coalesce(t.session_seconds, 0) END AS session_seconds,
  CASE WHEN getvariable('has_usage') THEN coalesce(d.active_days, 0) END AS active_days,
  CASE WHEN getvariable('has_usage') THEN coalesce(d.active_user_days, 0) END AS active_user_days,
  CASE WHEN getvariable('has_usage') THEN coalesce(u.wau, 0) END AS wau,
  CASE WHEN getvariable('has_usage') THEN coalesce(u.mau, 0) END AS mau,
  CASE WHEN getvariable('has_usage') THEN coalesce(t.events > 0, false)::BIGINT END AS active_accounts,
  (p.period_end - 1) - l.last_day AS days_since_last_use
FROM spine s JOIN periods p USING (period_idx) LEFT JOIN totals t USING (period_idx, account_id) LEFT JOIN days d USING (period_idx, account_id)
LEFT JOIN users u USING (period_idx, account_id) LEFT JOIN last_use l USING (period_idx, account_id);
