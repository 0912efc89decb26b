-- survival.sql: subjects and the Kaplan-Meier estimate. oracle.py then fits the model (survival.py) and runs survival_out.sql.

-- The merges in force at the period's end hold for the whole of an account's past: its first churn is the first period at whose end none of its
-- parts had MRR, after one at whose end some had.
CREATE TABLE first_churn AS
WITH paid AS (
  SELECT DISTINCT m.period_idx AS known_idx, m.account_id, r.period_idx AS paid_idx
  FROM account_map m JOIN raw_mrr r ON r.raw_id = m.raw_id AND r.period_idx <= m.period_idx JOIN periods p ON p.period_idx = m.period_idx WHERE p.is_published)
SELECT known_idx AS period_idx, account_id, min(paid_idx) AS first_idx, min(paid_idx + 1) FILTER (is_last AND paid_idx < known_idx) AS churn_idx
FROM (SELECT *, lead(paid_idx) OVER (PARTITION BY known_idx, account_id ORDER BY paid_idx) IS DISTINCT FROM paid_idx + 1 AS is_last FROM paid) GROUP BY ALL;

CREATE TABLE subjects AS
SELECT a.period_idx, a.account_id, c.churn_idx IS NOT NULL AS is_churned, coalesce(c.churn_idx, a.period_idx) AS seen_idx, coalesce(c.churn_idx, a.period_idx) - c.first_idx AS age
FROM account_periods a JOIN first_churn c USING (period_idx, account_id)
WHERE a.first_paid_idx BETWEEN getvariable('begin_idx') AND a.period_idx;

-- Members as of the churn (of now, where the surviving id had no row then), cohorts of now.
CREATE TABLE survival_counts AS
WITH placed AS (
  SELECT s.*, m.dimension, m.member
  FROM subjects s JOIN members m ON m.account_id = s.account_id AND m.period_idx = CASE
    WHEN m.dimension IN ('cohort_first_paid', 'cohort_signup') OR NOT EXISTS (FROM spine r WHERE r.period_idx = s.seen_idx AND r.account_id = s.account_id) THEN s.period_idx ELSE s.seen_idx END)
SELECT period_idx, dimension, member, age::BIGINT AS age, count(*) FILTER (is_churned) AS churned, count(*) FILTER (NOT is_churned) AS censored FROM placed GROUP BY ALL;

CREATE TABLE survival_groups AS
SELECT period_idx, dimension, member, max(age) AS oldest, max(age) + getvariable('survival_horizon') AS ages, sum(churned + censored)::BIGINT AS subjects
FROM survival_counts GROUP BY ALL;

-- A return does not undo the first churn. S is a product of fractions; ages without churn leave it as it is.
CREATE TABLE kaplan_meier AS
WITH grid AS (SELECT period_idx, dimension, member, subjects, unnest(generate_series(0, oldest))::BIGINT AS age FROM survival_groups),
counted AS (
  SELECT g.*, coalesce(c.churned, 0) AS churned, coalesce(c.censored, 0) AS censored
  FROM grid g LEFT JOIN survival_counts c USING (period_idx, dimension, member, age)),
exposed AS (
  SELECT *, (subjects - coalesce(sum(churned + censored) OVER (PARTITION BY period_idx, dimension, member ORDER BY age ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0))::BIGINT AS at_risk
  FROM counted),
factors AS (
  SELECT *, list(1 - churned / at_risk::DOUBLE) OVER ages AS factors,
    sum(CASE WHEN at_risk > churned THEN churned::DOUBLE / (at_risk::DOUBLE * (at_risk - churned)::DOUBLE) END) OVER ages AS greenwood
  FROM exposed WINDOW ages AS (PARTITION BY period_idx, dimension, member ORDER BY age)),
estimated AS (SELECT *, list_product(factors) AS survival FROM factors)
SELECT period_idx, dimension, member, age, at_risk, churned, censored, survival,
  CASE WHEN survival = 1 THEN 1 WHEN survival > 0 THEN power(survival, exp(getvariable('z') * sqrt(greenwood) / -ln(survival))) END AS lower,
  CASE WHEN survival = 1 THEN 1 WHEN survival > 0 THEN power(survival, exp(-getvariable('z') * sqrt(greenwood) / -ln(survival))) END AS upper
FROM estimated;
