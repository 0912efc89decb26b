"""Data sets for the oracle and for the comparison, in the canonical input form.

    python make_fixture.py --out DIR                          the hand-made stories: 2024-01 … 2024-09, Asia/Tokyo, JPY
    python make_fixture.py --out DIR --random 2000 --months 36 --events 2000000 [--seed 1]     a large random one, from 2022-01

Writes the CSV files and params.json. Run the stories with --start 2024-01 --end 2024-10.
"""

import argparse
import csv
import json
from pathlib import Path

import fixture_success

# ── the stories ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Local midnight in Tokyo is 15:00 UTC of the day before.
ACCOUNTS = """
account_id,name,industry,employee_count,region,channel,owner_id,is_strategic,parent_id,seats,signup_date,valid_from,valid_to
acme,"Acme, Inc.",Software,40,Kanto,web,o1,false,,10,2024-01-05,,
bravo,Bravo,Software,120,Kansai,partner,o1,false,,,2024-01-03,,
charlie,Charlie,Retail,500,Kanto,web,o2,false,,,2023-12-20,,
delta-old,Delta (old),Retail,1500,Kansai,web,o2,false,,,2023-11-15,,
delta-mid,Delta (mid),Retail,1500,Kanto,web,o2,false,,,2024-01-20,,
delta-new,Delta,Software,1500,Kanto,web,o3,true,,80,2024-04-28,,
echo,Echo,Software,299,Kanto,partner,o3,false,,25,2024-01-10,,
foxtrot,Foxtrot,Finance,300,Kansai,partner,o3,false,,,2024-01-10,,
golf,Golf,Finance,1000,,web,,false,,,2024-01-10,,
hotel,Hotel,,,Kanto,web,o1,,,,2024-02-01,,
india,India,Retail,49,Kansai,web,o1,false,,,2024-01-15,,
juliet,Juliet,Software,50,Kanto,web,o2,true,,,2024-01-15,,
kilo,Kilo,Software,10,Kanto,web,o2,false,,,2024-01-31T15:00:00Z,,
lima,Lima,Finance,80,Kanto,web,o1,false,,5,2024-01-10,2024-01-15,2024-04-01
lima,Lima,Finance,80,Kansai,web,o2,false,,7,2024-01-10,2024-04-01,2024-06-10
lima,Lima KK,Finance,800,Kansai,web,o3,true,,9,2024-01-10,2024-06-10,
mike,Mike,Retail,60,Kanto,web,o3,false,acme,,2024-03-05,,
november,November,Retail,60,Kanto,web,o3,false,,,2024-03-05,,
"""

MERGES = """
old_account_id,account_id,merged_at
delta-old,delta-mid,2024-03-10T03:00:00Z
delta-mid,delta-new,2024-05-01
"""

PLANS = """
plan_id,family,tier
core-s,core,1
core-m,core,2
core-l,core,3
chat,chat,1
bi,bi,
"""

SUBSCRIPTIONS = """
subscription_id,account_id,plan_id,started_at,ended_at,trial_end,quantity,amount,interval,interval_count,discount,discount_kind,currency,status,cancel_requested_at,end_reason
a1,acme,core-s,2024-01-10,2024-03-15,,10,1000,month,1,,,JPY,active,,
a1,acme,core-s,2024-03-15,2024-05-20,,10,1000,month,1,,,JPY,paused,,
a1,acme,core-s,2024-05-20,2024-08-31T15:00:00Z,,10,1100,month,1,,,JPY,active,2024-07-10,price
b1,bravo,core-m,2024-01-05,2024-09-10,,1,10000,month,,,,JPY,active,,
b2,bravo,chat,2024-02-01,2024-04-01,,3,1000,month,1,,,JPY,active,2024-03-10,
c1,charlie,core-l,2024-01-01,2024-04-01,,1,120000,year,1,,,,active,,migrated
c1,charlie,core-l,2024-04-01,2024-09-05,,1,12000,month,1,,,,active,,
d1,delta-old,core-l,2023-11-20,2024-06-01,,5,10000,month,1,,,JPY,active,,
d2,delta-mid,chat,2024-02-10,,,2,4000,month,1,,,JPY,active,,
d3,delta-new,core-l,2024-06-01,2024-09-01,,6,10000,month,1,,,JPY,active,,
e1,echo,core-s,2024-01-15,2024-03-20,,10,12.345,month,1,,,USD,active,,
e1,echo,core-m,2024-03-20,2024-05-10,,15,20.50,month,1,,,USD,active,,
e1,echo,core-m,2024-05-10,2024-09-30T14:59:59Z,,15,200.10,year,1,,,USD,active,,
f1,foxtrot,core-m,2024-01-15,2024-07-31T15:00:00Z,,1,99.99,month,1,,,EUR,active,,
f2,foxtrot,bi,2024-01-15,2024-07-15,,1,1000,quarter,2,,,EUR,active,,churned
g1,golf,core-m,2024-01-15,2024-09-20,,2,5000,month,1,500,recurring,JPY,active,,
g2,golf,chat,2024-01-15,2024-09-20,,1,3333,week,1,10,recurring_percent,JPY,active,,
g3,golf,bi,2024-01-15,2024-09-20,,1,100,day,1,50,one_off_percent,JPY,active,,
g4,golf,bi,2024-02-15,2024-05-15,,1,7000,month,1,7000,one_off,JPY,active,,
g5,golf,core-s,2024-03-15,2024-09-20,,1,7000,month,1,100,recurring_percent,JPY,active,,
h1,hotel,core-m,2024-02-05,2024-09-20,2024-04-01,2,4000,month,1,,,JPY,active,,
h2,hotel,chat,2024-03-05,2024-03-31T15:00:00Z,,1,900,month,1,,,JPY,trialing,,
i1,india,core-s,2024-01-20,2024-04-10,,1,9000,month,1,,,JPY,active,,
i1,india,core-s,2024-04-10,2024-06-05,,1,9000,month,1,,,JPY,past_due,,
i1,india,core-s,2024-06-05,,,1,9000,month,1,,,JPY,unpaid,,
j1,juliet,core-s,2024-01-20,2024-03-10,,1,6000,month,1,,,JPY,active,,
j2,juliet,chat,2024-03-10,2024-09-20,,1,6000,month,1,,,JPY,active,,
j3,juliet,bi,2024-05-10,2024-06-10,,1,2500,month,1,,,JPY,active,,
j4,juliet,core-l,2024-06-10,2024-09-20,,4,2000,month,1,10,recurring_percent,JPY,active,,
j4,juliet,core-l,2024-09-20,2024-09-20,,4,2000,month,1,,,JPY,active,,
k1,kilo,core-s,2024-02-10,2024-02-10,,1,100000,month,1,,,JPY,active,,
k2,kilo,core-s,2024-02-29T15:00:00Z,2024-04-30T15:00:00Z,,1,8000,month,1,,,JPY,active,,not_needed
k3,kilo,core-m,2024-07-01,2024-09-20,,1,8000,month,1,,,JPY,active,,
l1,lima,core-m,2024-01-12,2024-09-20,,4,1500,month,1,,,JPY,active,,
l1b,lima,core-m,2024-04-05,2024-09-20,,1,0,month,1,,,JPY,active,,
m1,mike,core-s,2024-03-10,2024-09-20,,2,2500,month,1,400,recurring,JPY,active,,card_expired
n1,november,core-s,2024-03-10,2024-09-20,,1,1000,month,1,1500,recurring,JPY,active,,
n2,november,chat,2024-06-10,2024-09-20,,3,200,month,1,600,one_off,JPY,active,,
"""

INVOICES = """
invoice_id,account_id,issued_at,amount,kind,currency,service_start,service_end,paid_at
v1,acme,2024-01-10,10000,recurring,JPY,2024-01-10,2024-02-10,2024-01-20
v1,acme,2024-01-10,500,one_off,JPY,,,2024-01-20
v2,acme,2024-02-10,10000,recurring,JPY,2024-02-10,2024-03-10,
v3,acme,2024-03-20,-2500,credit,JPY,,,
v4,acme,2024-06-30T14:59:59Z,11000,recurring,JPY,2024-05-20,2024-06-20,
v5,acme,2024-06-30T15:00:00Z,11000,recurring,JPY,2024-06-20,2024-07-20,
v6,bravo,2024-04-15,30000,recurring,JPY,2024-01-05,2024-04-05,2024-05-30
v7,charlie,2023-12-31T15:00:00Z,120000,recurring,,2024-01-01,2025-01-01,
v8,charlie,2024-04-01,-90000,refund,,2024-04-01,2025-01-01,
v9,delta-old,2024-02-01,50000,recurring,JPY,,,
v10,delta-mid,2024-04-01,8000,recurring,JPY,,,
v11,delta-new,2024-06-05,60000,recurring,JPY,,,
v12,echo,2024-01-20,123.45,recurring,USD,,,
v12,echo,2024-01-20,0.01,usage,USD,,,
v13,echo,2024-03-25,307.50,recurring,USD,,,
v14,foxtrot,2024-01-20,99.99,recurring,EUR,,,
v15,foxtrot,2024-04-20,2000,recurring,EUR,,,
v16,foxtrot,2024-04-21,-2000,credit,EUR,,,
v17,hotel,2024-02-20,0,recurring,JPY,,,
v18,november,2024-05-20,1000,one_off,JPY,,,
"""

RATES = """
date,currency,rate
2023-12-01,USD,140
2024-02-15,USD,150.125
2024-03-31,USD,151.5
2024-04-01,USD,155.25
2024-06-15,USD,161.07
2023-12-01,EUR,155.555
2024-02-29,EUR,160.1
2024-05-31T15:00:00Z,EUR,170
2024-07-20,EUR,163.3333
"""

USAGE = """
account_id,user_id,occurred_at,feature
acme,u1,2024-01-31T14:59:00Z,report
acme,u1,2024-01-31T15:00:00Z,report
acme,u2,2024-01-31T14:30:00Z,report
acme,u2,2024-01-31T14:50:00Z,chat
acme,u1,2024-02-10T01:00:00Z,chat
acme,u1,2024-02-10T01:30:00Z,chat
acme,u1,2024-02-10T02:00:01Z,chat
acme,u1,2024-02-10T02:10:31.900Z,chat
acme,u3,2024-02-23T03:00:00Z,chat
acme,u4,2024-02-22T14:59:59Z,chat
acme,u1,2024-06-10T03:00:00Z,chat
bravo,u1,2024-02-15T03:00:00Z,chat
bravo,u1,2024-05-01T03:00:00Z,chat
bravo,u1,2024-05-02T03:00:00Z,chat
charlie,u9,2024-03-01,report
charlie,u9,2024-04-30T14:59:59Z,report
delta-old,u5,2024-02-20T03:00:00Z,chat
delta-mid,u5,2024-03-05T03:00:00Z,chat
delta-old,u5,2024-03-05T03:10:00Z,chat
delta-mid,u6,2024-03-06T03:10:00Z,chat
delta-new,u6,2024-05-06T03:10:00Z,chat
echo,u7,2024-03-31T14:59:59Z,report
echo,u7,2024-03-31T15:00:01Z,report
foxtrot,u8,2024-03-03T03:00:00Z,report
golf,u8,2024-08-03T03:00:00Z,report
hotel,u1,2024-02-06T03:00:00Z,report
india,u1,2024-02-06T03:00:00Z,report
juliet,u1,2024-08-31T16:00:00Z,report
november,u1,2024-04-06T03:00:00Z,report
"""

PARAMS = {
    "currency": "JPY", "minor_digits": {"JPY": 0, "USD": 2, "EUR": 2}, "time_zone": "Asia/Tokyo", "begin": "2024-01-01",
    "ready_after_hours": 24, "as_of": "2024-10-01T00:00:00Z", "gross_margin": 0.75, "past_due_grace_days": 30,
    "ltv_segment": "industry", "touch": {"hold_periods": 1, "owners": {"high": ["o2", "o3"], "low": ["o1"]}},
}


def stories(out):
    tables = {"accounts": ACCOUNTS + fixture_success.ACCOUNTS.lstrip(), "account_merges": MERGES, "plans": PLANS, "subscriptions": SUBSCRIPTIONS, "invoice_lines": INVOICES,
              "fx_rates": RATES, "usage_events": USAGE, **fixture_success.TABLES}
    for table, text in tables.items():
        text = text.lstrip()
        rows = list(csv.reader(text.splitlines()))
        assert all(len(row) == len(rows[0]) for row in rows), [row for row in rows if len(row) != len(rows[0])]
        (out / f"{table}.csv").write_text(text, encoding="utf-8")
    (out / "params.json").write_text(json.dumps(PARAMS, indent=2))


# ── the large random one ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def random_data(out, accounts, months, events, seed):
    import duckdb

    con = duckdb.connect()
    con.execute("SET threads = 2")
    con.execute("SET TimeZone = 'UTC'")
    # r(key, salt): a number in [0, 1) that depends on nothing but its arguments and the seed.
    con.execute(f"CREATE MACRO r(key, salt) AS (hash(key, salt, {seed}) % 1000003) / 1000003.0::DOUBLE")
    con.execute("CREATE MACRO pick(list, x) AS list[1 + floor(x * len(list))::BIGINT]")
    con.execute(f"SET VARIABLE days = (DATE '2022-01-01' + INTERVAL '{months} months')::DATE - DATE '2022-01-01'")
    span = "(getvariable('days') - born)"
    day = "strftime(DATE '2022-01-01' + ({})::INTEGER, '%Y-%m-%d')"

    def write(table, sql):
        con.execute(f"COPY ({sql}) TO '{out / (table + '.csv')}' (HEADER, DELIMITER ',')")

    con.execute(f"""CREATE TABLE a AS SELECT i, printf('acc-%06d', i) AS account_id, floor(r(i, 'born') * r(i, 'born2') * getvariable('days'))::INTEGER AS born,
        r(i, 'hist') < 0.2 AS has_history FROM range({accounts}) t(i)""")
    # A fifth of the accounts has three attribute versions.
    write("accounts", f"""SELECT account_id, 'Account ' || i AS name,
        CASE WHEN r(i, 'ind') < 0.05 THEN NULL ELSE pick(['Software', 'Retail', 'Finance', 'Health', 'Media'], r(i, 'ind2')) END AS industry,
        CASE WHEN r(i, 'emp') < 0.05 THEN NULL ELSE floor(exp(2 + 6 * r(i, 'emp2')))::BIGINT END AS employee_count,
        pick(['Kanto', 'Kansai', 'Tohoku', 'Kyushu'], r(i, 'reg' || v)) AS region, pick(['web', 'partner', 'event'], r(i, 'cha')) AS channel,
        CASE WHEN r(i, 'own' || v) < 0.05 THEN NULL ELSE 'owner-' || floor(12 * r(i, 'own2' || v))::INTEGER END AS owner_id,
        r(i, 'str') < 0.03 AS is_strategic, NULL AS parent_id, CASE WHEN r(i, 'sea') < 0.5 THEN floor(1 + 60 * r(i, 'sea2'))::BIGINT END AS seats,
        {day.format('born')} AS signup_date,
        CASE WHEN v > 0 THEN {day.format(f'born + {span} * v / 3')} END AS valid_from,
        CASE WHEN has_history AND v < 2 THEN {day.format(f'born + {span} * (v + 1) / 3')} END AS valid_to
        FROM a, range(3) x(v) WHERE v = 0 OR has_history ORDER BY ALL""")
    # 5 % are merged into another account, some of these again.
    merged = day.format(f"born + {span} * r(i, 'mer3')")
    write("account_merges", f"""SELECT account_id AS old_account_id, printf('acc-%06d', (i + 1 + floor(r(i, 'mer2') * 3)::INTEGER)) AS account_id,
        {merged} || 'T15:00:00Z' AS merged_at FROM a WHERE r(i, 'mer') < 0.05 AND i < {accounts - 5}""")
    write("plans", """SELECT * FROM (VALUES ('core-s', 'core', 1), ('core-m', 'core', 2), ('core-l', 'core', 3), ('chat-s', 'chat', 1), ('chat-l', 'chat', 2), ('bi', 'bi', NULL)) t(plan_id, family, tier)""")
    # One to four subscriptions an account, each in up to six consecutive versions.
    con.execute(f"""CREATE TABLE v AS
        WITH subs AS (SELECT a.*, s, i * 10 + s AS k FROM a, range(4) x(s) WHERE s = 0 OR r(i * 10 + s, 'has') < 0.4),
        starts AS (SELECT *, born + floor(r(k, 'sta') * r(k, 'sta2') * (getvariable('days') - born))::INTEGER AS first FROM subs),
        cuts AS (SELECT *, unnest(range(1 + floor(r(k, 'ver') * 6)::BIGINT)) AS n FROM starts),
        ends AS (SELECT *, (20 + floor(r(k * 10 + n, 'len') * 400))::INTEGER AS length FROM cuts)
        SELECT *, first + coalesce(sum(length) OVER (PARTITION BY k ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::INTEGER AS day_from,
          max(n) OVER (PARTITION BY k) = n AS is_last, k * 10 + n AS kn FROM ends""")
    write("subscriptions", f"""SELECT printf('sub-%08d', k) AS subscription_id, account_id,
        pick(['core-s', 'core-m', 'core-l', 'chat-s', 'chat-l', 'bi'], r(kn, 'plan')) AS plan_id,
        {day.format('day_from')} AS started_at,
        CASE WHEN is_last AND r(kn, 'open') < 0.5 THEN NULL WHEN r(kn, 'mid') < 0.2 THEN {day.format('day_from + length - 1')} || 'T15:00:00Z'
          ELSE {day.format('day_from + length')} END AS ended_at,
        CASE WHEN n = 0 AND r(kn, 'tri') < 0.2 THEN {day.format('day_from + 30')} END AS trial_end,
        CASE WHEN r(kn, 'qty') < 0.9 THEN floor(1 + r(kn, 'qty2') * 40)::BIGINT END AS quantity,
        CASE cur WHEN 'JPY' THEN floor(500 + r(kn, 'amo') * 9000)::VARCHAR ELSE printf('%.2f', 5 + r(kn, 'amo') * 80) END AS amount,
        pick(['month', 'month', 'month', 'year', 'quarter', 'week', 'day'], r(kn, 'int')) AS interval, CASE WHEN r(kn, 'cnt') < 0.1 THEN 2 ELSE 1 END AS interval_count,
        CASE WHEN r(kn, 'dis') < 0.3 THEN printf('%.1f', r(kn, 'dis3') * 5)  END AS discount,
        CASE WHEN r(kn, 'dis') < 0.3 THEN pick(['recurring', 'one_off', 'recurring_percent', 'one_off_percent'], r(kn, 'dis2')) END AS discount_kind,
        cur AS currency, pick(['active', 'active', 'active', 'active', 'active', 'active', 'past_due', 'paused', 'unpaid', 'trialing'], r(kn, 'sts')) AS status,
        CASE WHEN is_last AND r(kn, 'open') >= 0.5 THEN {day.format('day_from + length / 2')} END AS cancel_requested_at,
        CASE WHEN is_last THEN pick(['price', 'payment_failed', 'dunning', NULL], r(kn, 'rea')) END AS end_reason
        FROM (SELECT *, pick(['JPY', 'JPY', 'USD', 'EUR'], r(i, 'cur')) AS cur FROM v) WHERE day_from < getvariable('days')""")
    write("invoice_lines", f"""SELECT printf('inv-%09d-%03d', kn, j) AS invoice_id, account_id, {day.format('day_from + j * 30')} || 'T0' || (j % 10) || ':30:00Z' AS issued_at,
        CASE WHEN r(kn, 'l' || j || x) < 0.05 THEN -1 ELSE 1 END * floor(100 + r(kn, 'm' || j || x) * 50000) / 100 AS amount,
        pick(['recurring', 'recurring', 'usage', 'one_off'], r(kn, 'k' || j)) AS kind, pick(['JPY', 'JPY', 'USD', 'EUR'], r(i, 'cur')) AS currency,
        NULL AS service_start, NULL AS service_end, NULL AS paid_at
        FROM v, range(14) y(j), range(2) z(x) WHERE j * 30 < length AND day_from + j * 30 < getvariable('days')""")
    write("fx_rates", f"""SELECT {day.format('d - 40')} AS date, c AS currency,
        printf('%.4f', CASE c WHEN 'USD' THEN 130 ELSE 145 END * (1 + 0.1 * sin(d / 90.0) + 0.01 * r(d, c))) AS rate FROM range(getvariable('days') + 40) x(d), (VALUES ('USD'), ('EUR')) y(c)""")
    write("usage_events", f"""SELECT account_id, 'u' || floor(r(e, 'user') * r(i, 'users') * 20)::INTEGER AS user_id,
        strftime(TIMESTAMP '2022-01-01' + to_seconds((born + r(e, 'day') * (getvariable('days') - born) * (0.3 + 0.7 * r(i, 'last'))) * 86400 // 600 * 600 + floor(r(e, 's') * 600)), '%Y-%m-%dT%H:%M:%SZ') AS occurred_at,
        pick(['report', 'chat', 'export'], r(e, 'fea')) AS feature
        FROM (SELECT e, floor(r(e, 'a') * r(e, 'b') * {accounts})::BIGINT AS i FROM range({events}) t(e)) JOIN a USING (i)""")
    fixture_success.random_success(con, write, day, months)
    params = {**PARAMS, "begin": "2022-01-01", "as_of": "2030-01-01T00:00:00Z"}
    (out / "params.json").write_text(json.dumps(params, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--random", type=int, metavar="ACCOUNTS")
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.random:
        random_data(args.out, args.random, args.months, args.events, args.seed)
    else:
        stories(args.out)


if __name__ == "__main__":
    main()
