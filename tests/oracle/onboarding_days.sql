-- onboarding_days.sql: durations of the onboardings that began in the twelve months up to E, by member as of E; survival.py takes their median.
-- Not done before E is censored on its last day.
CREATE TABLE onboarding_durations AS
SELECT k.period_idx, m.dimension, m.member, CASE WHEN is_completed THEN completed_on - started_on ELSE p.period_end - 1 - started_on END::BIGINT AS days,
  count(*) FILTER (is_completed) AS completed, count(*) FILTER (NOT is_completed) AS censored
FROM known_onboardings k JOIN periods p USING (period_idx) JOIN members m USING (period_idx, account_id)
WHERE p.is_published AND started_on >= p.period_end - INTERVAL 1 YEAR GROUP BY ALL;
