-- voice.sql: surveys, tickets and the community, and which features were used: account × period.

-- The latest answer of each respondent in the window; of several at one instant the lowest score.
CREATE TABLE nps_answers AS
SELECT p.period_idx, m.account_id, a.respondent_id, a.score
FROM stg_answers a JOIN periods p ON a.day < p.period_end AND a.day >= p.period_end - getvariable('nps_window_days')
JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = a.raw_id
WHERE a.kind = 'nps'
QUALIFY row_number() OVER (PARTITION BY p.period_idx, m.account_id, a.respondent_id ORDER BY a.answered_at DESC, a.score) = 1;

CREATE TABLE csat_answers AS
SELECT p.period_idx, m.account_id, coalesce(a.item, '(none)') AS item, a.is_satisfied
FROM stg_answers a JOIN periods p ON a.day >= p.period_start AND a.day < p.period_end
JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = a.raw_id WHERE a.kind = 'csat';

CREATE TABLE ticket_marks AS
SELECT p.period_idx, m.account_id, mark, t.is_escalated, t.satisfaction,
  (epoch_us(instant) - epoch_us(t.opened_at)) // 1000000 AS seconds
FROM (SELECT *, unnest([{mark: 'opened', instant: opened_at}, {mark: 'responded', instant: first_response_at}, {mark: 'closed', instant: closed_at},
    {mark: 'rated', instant: CASE WHEN satisfaction IS NOT NULL THEN coalesce(closed_at, opened_at) END}], recursive := true) FROM stg_tickets) t
JOIN periods p ON instant >= p.start_at AND instant < p.end_at JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = t.raw_id;

CREATE TABLE feature_use AS
SELECT DISTINCT p.period_idx, m.account_id, e.feature
FROM stg_events e JOIN periods p ON e.day >= p.period_start AND e.day < p.period_end JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = e.raw_id
WHERE e.feature IS NOT NULL;

CREATE TABLE account_voice AS
WITH nps AS (
  SELECT period_idx, account_id, count(*) AS respondents, count(*) FILTER (score >= 9) AS promoters, count(*) FILTER (score <= 6) AS detractors
  FROM nps_answers GROUP BY ALL),
csat AS (SELECT period_idx, account_id, count(*) AS answers, count(*) FILTER (is_satisfied) AS satisfied FROM csat_answers GROUP BY ALL),
tickets AS (
  SELECT period_idx, account_id, count(*) FILTER (mark = 'opened') AS opened, count(*) FILTER (mark = 'opened' AND is_escalated) AS escalated,
    count(*) FILTER (mark = 'responded') AS responded, (sum(seconds) FILTER (mark = 'responded'))::BIGINT AS response_seconds,
    count(*) FILTER (mark = 'closed') AS closed, (sum(seconds) FILTER (mark = 'closed'))::BIGINT AS resolution_seconds,
    count(*) FILTER (mark = 'rated') AS ratings, count(*) FILTER (mark = 'rated' AND satisfaction >= 4) AS ratings_satisfied
  FROM ticket_marks GROUP BY ALL),
community AS (
  SELECT p.period_idx, m.account_id, count(*) FILTER (c.day >= p.period_start) AS activities, count(DISTINCT c.user_id) FILTER (c.day >= p.period_start) AS users,
    bool_or(c.day >= p.period_end - getvariable('community_window_days')) AS is_active
  FROM stg_community c JOIN periods p ON c.day < p.period_end AND c.day >= least(p.period_start, p.period_end - getvariable('community_window_days'))
  JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = c.raw_id GROUP BY ALL),
features AS (SELECT period_idx, account_id, count(*) AS features FROM feature_use GROUP BY ALL)
SELECT s.period_idx, s.account_id,
  CASE WHEN getvariable('has_surveys') THEN coalesce(respondents, 0) END AS nps_respondents,
  CASE WHEN getvariable('has_surveys') THEN coalesce(promoters, 0) END AS nps_promoters,
  CASE WHEN getvariable('has_surveys') THEN coalesce(detractors, 0) END AS nps_detractors,
  CASE WHEN getvariable('has_surveys') THEN coalesce(answers, 0) END AS csat_answers,
  CASE WHEN getvariable('has_surveys') THEN coalesce(satisfied, 0) END AS csat_satisfied,
  CASE WHEN getvariable('has_tickets') THEN coalesce(opened, 0) END AS tickets_opened,
  CASE WHEN getvariable('has_tickets') THEN coalesce(escalated, 0) END AS tickets_escalated,
  CASE WHEN getvariable('has_tickets') THEN coalesce(responded, 0) END AS tickets_responded,
  CASE WHEN getvariable('has_tickets') THEN coalesce(response_seconds, 0) END AS first_response_seconds,
  CASE WHEN getvariable('has_tickets') THEN coalesce(closed, 0) END AS tickets_closed,
  CASE WHEN getvariable('has_tickets') THEN coalesce(resolution_seconds, 0) END AS resolution_seconds,
  CASE WHEN getvariable('has_tickets') THEN coalesce(ratings, 0) END AS ticket_ratings,
  CASE WHEN getvariable('has_tickets') THEN coalesce(ratings_satisfied, 0) END AS ticket_ratings_satisfied,
  CASE WHEN getvariable('has_community') THEN coalesce(activities, 0) END AS community_activities,
  CASE WHEN getvariable('has_community') THEN coalesce(users, 0) END AS community_users,
  CASE WHEN getvariable('has_community') THEN coalesce(is_active, false)::BIGINT END AS community_active_accounts,
  CASE WHEN getvariable('has_community') THEN coalesce(is_active, false) END AS community_active,
  CASE WHEN getvariable('has_features') THEN coalesce(features, 0) END AS features_used
FROM spine s LEFT JOIN nps USING (period_idx, account_id) LEFT JOIN csat USING (period_idx, account_id)
LEFT JOIN tickets USING (period_idx, account_id) LEFT JOIN community USING (period_idx, account_id) LEFT JOIN features USING (period_idx, account_id);
