-- onboarding.sql: members, and the onboardings of accounts or of their members.

-- With a rule there is one onboarding for each id that signed up, told by its usage: completed on the first local day, among the first
-- `within` from the sign-up on, by which it has used so many features and so many seconds.
CREATE TABLE ruled_onboardings AS
WITH begun AS (SELECT account_id AS raw_id, min(signup_date)::DATE AS started_on FROM stg_accounts WHERE signup_date IS NOT NULL GROUP BY 1),
watched AS (
  SELECT b.raw_id, b.started_on, u.day, sum(u.session_seconds)::BIGINT AS seconds
  FROM begun b JOIN usage_daily u ON u.raw_id = b.raw_id AND u.day >= b.started_on AND u.day < b.started_on + getvariable('onboarding_within_days') GROUP BY ALL),
first_uses AS (
  SELECT b.raw_id, e.feature, min(e.day) AS day
  FROM begun b JOIN stg_events e ON e.raw_id = b.raw_id AND e.day >= b.started_on AND e.day < b.started_on + getvariable('onboarding_within_days')
  WHERE e.feature IS NOT NULL GROUP BY ALL),
reached AS (
  SELECT w.raw_id, w.day, sum(w.seconds) OVER (PARTITION BY w.raw_id ORDER BY w.day) AS seconds,
    (SELECT count(*) FROM first_uses f WHERE f.raw_id = w.raw_id AND f.day <= w.day) AS features
  FROM watched w),
done AS (
  SELECT raw_id, min(day) AS completed_on FROM reached
  WHERE features >= getvariable('onboarding_features') AND seconds >= getvariable('onboarding_seconds') GROUP BY 1)
SELECT b.raw_id, b.started_on, d.completed_on, d.completed_on::TIMESTAMPTZ AS completed_at, getvariable('onboarding_within_days') AS window_days
FROM begun b LEFT JOIN done d USING (raw_id);

CREATE TABLE onboardings AS
SELECT * FROM ruled_onboardings WHERE getvariable('has_onboarding_rule')
UNION ALL
SELECT raw_id, started_at::DATE, completed_at::DATE, completed_at, getvariable('onboarding_window_days')
FROM stg_onboarding WHERE NOT getvariable('has_onboarding_rule') AND (user_id IS NOT NULL) = (getvariable('onboarding_unit') = 'member');

-- Every onboarding in every period from its own on, as known at the period's end.
CREATE TABLE known_onboardings AS
SELECT p.period_idx, m.account_id, o.started_on, o.completed_on, p.period_end,
  o.started_on >= p.period_start AS is_started_now,
  coalesce(o.completed_at < p.end_at, false) AS is_completed,
  coalesce(o.completed_on < o.started_on + o.window_days, false) AS is_in_window,
  o.started_on + o.window_days <= p.period_end AS is_over,
  o.started_on + o.window_days - 1 >= p.period_start AND o.started_on + o.window_days - 1 < p.period_end AS is_due_now
FROM onboardings o JOIN periods p ON o.started_on < p.period_end JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = o.raw_id;

CREATE TABLE account_onboarding AS
WITH present AS (   -- a user of an account; of two rows that a merge brought together one is enough
  SELECT DISTINCT p.period_idx, m.account_id, u.user_id
  FROM stg_members u JOIN periods p ON u.joined_at < p.end_at AND (u.left_at IS NULL OR u.left_at >= p.end_at)
  JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = u.raw_id),
onboarded AS (
  SELECT DISTINCT p.period_idx, m.account_id, o.user_id FROM stg_onboarding o JOIN periods p ON o.completed_at < p.end_at
  JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = o.raw_id WHERE o.user_id IS NOT NULL),
users AS (
  SELECT u.period_idx, u.account_id, count(*) AS members, count(o.user_id) AS members_onboarded
  FROM present u LEFT JOIN onboarded o USING (period_idx, account_id, user_id) GROUP BY ALL),
sums AS (
  SELECT period_idx, account_id, count(*) FILTER (is_started_now) AS started,
    count(*) FILTER (is_started_now AND is_in_window AND is_completed) AS completed,
    count(*) FILTER (is_started_now AND NOT is_completed AND NOT is_over) AS open,
    count(*) FILTER (is_due_now) AS due, count(*) FILTER (is_due_now AND is_in_window) AS due_completed
  FROM known_onboardings GROUP BY ALL)
SELECT s.period_idx, s.account_id,
  CASE WHEN getvariable('has_members') THEN coalesce(members, 0) END AS members,
  CASE WHEN getvariable('has_member_onboardings') THEN coalesce(members_onboarded, 0) END AS members_onboarded,
  CASE WHEN getvariable('has_onboardings') THEN coalesce(started, 0) END AS onboardings_started,
  CASE WHEN getvariable('has_onboardings') THEN coalesce(completed, 0) END AS onboardings_completed,
  CASE WHEN getvariable('has_onboardings') THEN coalesce(open, 0) END AS onboardings_open,
  CASE WHEN getvariable('has_onboardings') THEN coalesce(due, 0) END AS onboardings_due,
  CASE WHEN getvariable('has_onboardings') THEN coalesce(due_completed, 0) END AS onboardings_due_completed
FROM spine s LEFT JOIN users USING (period_idx, account_id) LEFT JOIN sums USING (period_idx, account_id);
