-- touch_rule.sql: one rule of the touch model, run in order by oracle.py. With a capacity, so many accounts per owner at most
-- (null: no limit): the highest ltv_expected first, nulls last, ties by account_id; the others go on to the next rule.
INSERT INTO touch_raw
SELECT period_idx, account_id, {{ordinal}} AS ordinal, {{rule}} AS rule, {{model}} AS rule_model
FROM touch_input t
WHERE closing_customers = 1 AND period_idx >= getvariable('begin_idx') AND coalesce(({{when}}), false)
  AND NOT EXISTS (FROM touch_raw r WHERE r.period_idx = t.period_idx AND r.account_id = t.account_id)
QUALIFY {{capacity}} IS NULL OR row_number() OVER (PARTITION BY period_idx, owner_id ORDER BY ltv_expected DESC NULLS LAST, account_id) <= {{capacity}};
