-- account_period.sql: the spine, the accounts' attributes as of the period's end, and all facts; then what rests on the whole of them
-- (RFM segment, expected LTV). The touch model and the final table follow in touch.sql.

-- Attributes as of E by the snapshot rule (valid_from < E, open or valid_to >= E); before the first valid_from none. Should two rows
-- hold at once, the later valid_from wins. A surviving account has its own.
CREATE TABLE account_attributes AS
SELECT p.period_idx, a.* FROM periods p JOIN stg_accounts a
  ON (a.valid_from IS NULL OR a.valid_from < p.end_at) AND (a.valid_to IS NULL OR a.valid_to >= p.end_at)
QUALIFY row_number() OVER (PARTITION BY p.period_idx, a.account_id ORDER BY a.valid_from DESC NULLS LAST) = 1;

CREATE TABLE base AS
SELECT m.*, u.* EXCLUDE (period_idx, account_id), r.* EXCLUDE (period_idx, account_id),
  a.* EXCLUDE (period_idx, account_id, seats), a.name AS account_name,
  CASE WHEN m.closing_customers = 1 THEN coalesce(a.seats, m.paid_quantity) ELSE 0 END AS seats, a.seats AS own_seats,
  p.period_start, p.period_end, p.end_at, p.days, p.is_complete
FROM account_mrr m JOIN periods p USING (period_idx)
JOIN account_usage u USING (period_idx, account_id) JOIN account_revenue r USING (period_idx, account_id)
LEFT JOIN account_attributes a USING (period_idx, account_id);
