-- movements.sql: mrr_movements of every dimension member × product. Opening is the previous period's closing of that member, by the
-- dimension values of then; an account whose member changed since (or that was merged into an account of another member) leaves the one
-- by segment_exit and comes into the other by segment_entry, with its opening MRR.

CREATE TABLE closing_rows AS SELECT period_idx, account_id, product, n1 AS mrr FROM account_product WHERE n1 <> 0;

-- Openings whose member is not the same now as at the previous period's end (null: in no member of that dimension).
CREATE TABLE moves AS
WITH moved AS (
  SELECT r.period_idx + 1 AS now_idx, r.account_id AS old_id, a.account_id AS new_id, r.product, r.mrr, d.dimension
  FROM closing_rows r JOIN account_map a ON a.period_idx = r.period_idx + 1 AND a.raw_id = r.account_id
  CROSS JOIN (SELECT DISTINCT dimension FROM members) d)
SELECT v.*, was.member AS was, now.member AS now
FROM moved v
LEFT JOIN members was ON was.period_idx = v.now_idx - 1 AND was.account_id = v.old_id AND was.dimension = v.dimension
LEFT JOIN members now ON now.period_idx = v.now_idx AND now.account_id = v.new_id AND now.dimension = v.dimension
WHERE was.member IS DISTINCT FROM now.member;

CREATE TABLE member_rows AS
-- movements and closing, under the member of this period
SELECT r.period_idx, m.dimension, m.member, r.product, r.movement, r.cause, r.account_id, r.mrr
FROM movement_rows r JOIN members m USING (period_idx, account_id)
UNION ALL
SELECT r.period_idx, m.dimension, m.member, r.product, 'closing', NULL, r.account_id, r.mrr
FROM closing_rows r JOIN members m USING (period_idx, account_id)
UNION ALL
-- opening, under the member of the previous period
SELECT r.period_idx + 1, m.dimension, m.member, r.product, 'opening', NULL, r.account_id, r.mrr
FROM closing_rows r JOIN members m USING (period_idx, account_id)
UNION ALL
SELECT now_idx, dimension, was, product, 'segment_exit', NULL, old_id, -mrr FROM moves WHERE was IS NOT NULL
UNION ALL
SELECT now_idx, dimension, now, product, 'segment_entry', NULL, new_id, mrr FROM moves WHERE now IS NOT NULL;

CREATE TABLE out_mrr_movements AS
SELECT p.period_start, p.period_end, dimension, member, product, movement, cause, money(sum(mrr)) AS mrr, count(DISTINCT account_id) AS accounts, p.is_complete
FROM member_rows JOIN periods p USING (period_idx) WHERE p.is_published
GROUP BY ALL HAVING sum(mrr) <> 0;
