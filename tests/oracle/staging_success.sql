-- staging_success.sql: what customers say, how they are onboarded, what they cost and what was sold: the nine further inputs, typed.
-- What is of no account has the id `(unallocated)` from here on.

CREATE TABLE stg_opportunities AS
SELECT coalesce(account_id, '(unallocated)') AS raw_id, opportunity_id, kind, created_at::TIMESTAMPTZ AS created_at, closed_at::TIMESTAMPTZ AS closed_at,
  coalesce(is_won::BOOLEAN, false) AS is_won, scaled_e6(coalesce(amount, '0')) AS amount_e6, coalesce(currency, getvariable('currency')) AS currency
FROM raw_opportunities;

CREATE TABLE stg_members AS
SELECT account_id AS raw_id, user_id, joined_at::TIMESTAMPTZ AS joined_at, left_at::TIMESTAMPTZ AS left_at FROM raw_members;

CREATE TABLE stg_onboarding AS
SELECT account_id AS raw_id, user_id, started_at::TIMESTAMPTZ AS started_at, completed_at::TIMESTAMPTZ AS completed_at FROM raw_onboarding;

-- Satisfied: 4-5 of 5, 8-10 of 10. A null scale is 10 for nps and 5 for csat.
CREATE TABLE stg_answers AS
SELECT account_id AS raw_id, respondent_id, kind, score::BIGINT AS score, answered_at::TIMESTAMPTZ AS answered_at, (answered_at::TIMESTAMPTZ)::DATE AS day, item,
  CASE coalesce(scale::BIGINT, CASE kind WHEN 'nps' THEN 10 ELSE 5 END) WHEN 10 THEN score::BIGINT >= 8 ELSE score::BIGINT >= 4 END AS is_satisfied
FROM raw_surveys;

CREATE TABLE stg_tickets AS
SELECT account_id AS raw_id, ticket_id, opened_at::TIMESTAMPTZ AS opened_at, first_response_at::TIMESTAMPTZ AS first_response_at, closed_at::TIMESTAMPTZ AS closed_at,
  coalesce(is_escalated::BOOLEAN, false) AS is_escalated, satisfaction::BIGINT AS satisfaction
FROM raw_tickets;

CREATE TABLE stg_community AS
SELECT account_id AS raw_id, user_id, occurred_at::TIMESTAMPTZ AS occurred_at, (occurred_at::TIMESTAMPTZ)::DATE AS day FROM raw_community;

CREATE TABLE stg_costs AS
SELECT coalesce(account_id, '(unallocated)') AS raw_id, date::TIMESTAMPTZ AS dated, kind, channel, scaled_e6(amount) AS amount_e6,
  coalesce(currency, getvariable('currency')) AS currency
FROM raw_costs;

CREATE TABLE stg_time AS
SELECT coalesce(account_id, '(unallocated)') AS raw_id, date::TIMESTAMPTZ AS dated, coalesce(phase, '(none)') AS phase,
  div_round(scaled_e6(hours) * 3600, 1000000) AS seconds
FROM raw_time_entries;

-- A target names its period by label or first day, and its member only where it is not of the total.
CREATE TABLE stg_targets AS
SELECT metric, CASE WHEN length(period) = 7 THEN period || '-01' ELSE period END::DATE AS period_start, value::DOUBLE AS target,
  coalesce(dimension, 'total') AS dimension, CASE WHEN coalesce(dimension, 'total') = 'total' THEN 'total' ELSE member END AS member, serves
FROM raw_targets;

-- First signs of life in them.
CREATE TABLE signs_of_success AS
SELECT raw_id, min(instant) AS instant FROM (
  SELECT raw_id, created_at AS instant FROM stg_opportunities UNION ALL SELECT raw_id, joined_at FROM stg_members
  UNION ALL SELECT raw_id, started_at FROM stg_onboarding UNION ALL SELECT raw_id, answered_at FROM stg_answers
  UNION ALL SELECT raw_id, opened_at FROM stg_tickets UNION ALL SELECT raw_id, occurred_at FROM stg_community
  UNION ALL SELECT raw_id, dated FROM stg_costs UNION ALL SELECT raw_id, dated FROM stg_time)
WHERE raw_id <> '(unallocated)' GROUP BY raw_id;
