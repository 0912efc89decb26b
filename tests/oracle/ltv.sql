-- ltv.sql: expected lifetime value of every account. The member is the SQL of the dimension named by policy.ltv_segment (or a constant).

CREATE TABLE ltv_members AS SELECT period_idx, account_id, coalesce(CAST(({{ltv_segment}}) AS VARCHAR), '(unknown)') AS member FROM (SELECT * REPLACE (own_seats AS seats) FROM with_rfm_null_touch);

-- Monthly churn: Σ churned / Σ opening, pooled over the trailing ltv_churn_periods, each with its own members.
CREATE TABLE ltv_churn AS
WITH per_period AS (
  SELECT m.period_idx, m.member, sum(b.churned_customers)::HUGEINT AS churned, sum(b.opening_customers)::HUGEINT AS opening
  FROM base b JOIN ltv_members m USING (period_idx, account_id) GROUP BY ALL
  UNION ALL
  SELECT period_idx, NULL, sum(churned_customers), sum(opening_customers) FROM base GROUP BY ALL)
SELECT p.period_idx, x.member, sum(churned)::HUGEINT AS churned, sum(opening)::HUGEINT AS opening
FROM periods p JOIN per_period x ON x.period_idx BETWEEN p.period_idx - getvariable('ltv_churn_periods') + 1 AND p.period_idx GROUP BY ALL;

-- Customers: so far (0 if unknown) + closing MRR × margin / churn of the segment (of the company when that is 0 or null; nothing when both
-- are). Others: so far. Without a margin nothing is expected: null for customers.
CREATE TABLE with_ltv AS
WITH expected AS (
  SELECT w.*, CASE WHEN w.closing_customers = 0 THEN w.ltv_to_date
    WHEN getvariable('margin_e12') IS NULL THEN NULL
    ELSE coalesce(w.ltv_to_date, 0) + CASE
      WHEN s.churned > 0 AND s.opening > 0 THEN div_round(w.closing_mrr * getvariable('margin_e12') * s.opening, 1000000000000 * s.churned)
      WHEN t.churned > 0 AND t.opening > 0 THEN div_round(w.closing_mrr * getvariable('margin_e12') * t.opening, 1000000000000 * t.churned)
      ELSE 0 END END::HUGEINT AS ltv_expected
  FROM with_rfm_null_touch w JOIN ltv_members m USING (period_idx, account_id)
  LEFT JOIN ltv_churn s ON s.period_idx = w.period_idx AND s.member = m.member
  LEFT JOIN ltv_churn t ON t.period_idx = w.period_idx AND t.member IS NULL)
-- Among customers: the share of customers with a smaller ltv_expected.
SELECT *, CASE WHEN closing_customers = 1 AND ltv_expected IS NOT NULL THEN
    (rank() OVER (PARTITION BY period_idx, closing_customers ORDER BY ltv_expected) - 1)::DOUBLE / (count(*) OVER (PARTITION BY period_idx, closing_customers))::DOUBLE
  END AS ltv_percentile
FROM expected;
