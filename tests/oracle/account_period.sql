-- account_period.sql: the spine, the accounts' attributes as of the period's end, and all facts; then what rests on the whole of them
-- (RFM segment, expected LTV). The touch model and the final table follow in touch.sql.

CREATE TABLE base AS
SELECT m.*, u.* EXCLUDE (period_idx, account_id), r.* EXCLUDE (period_idx, account_id), d.* EXCLUDE (period_idx, account_id),
  o.* EXCLUDE (period_idx, account_id), v.* EXCLUDE (period_idx, account_id), c.* EXCLUDE (period_idx, account_id),
  a.* EXCLUDE (period_idx, account_id, seats), a.name AS account_name,
  CASE WHEN m.closing_customers = 1 THEN coalesce(a.seats, m.paid_quantity) ELSE 0 END AS seats, a.seats AS own_seats,
  p.period_start, p.period_end, p.end_at, p.days, p.is_complete
FROM account_mrr m JOIN periods p USING (period_idx)
JOIN account_usage u USING (period_idx, account_id) JOIN account_revenue r USING (period_idx, account_id) JOIN account_deals d USING (period_idx, account_id)
JOIN account_onboarding o USING (period_idx, account_id) JOIN account_voice v USING (period_idx, account_id) JOIN account_cost c USING (period_idx, account_id)
LEFT JOIN account_attributes a USING (period_idx, account_id)
WHERE m.account_id <> '(unallocated)' OR m.period_idx IN (FROM unallocated_periods);
