"""The nine inputs of customer success of make_fixture.py: the hand-made stories, and those of the random accounts."""

# Accounts whose first sign of life is in one of these inputs; oscar signs up two months after its first opportunity.
ACCOUNTS = """
oscar,Oscar,Retail,70,Kanto,web,o1,false,,,2024-06-05,,
papa,Papa,Retail,70,Kanto,web,o1,false,,,,,
quebec,Quebec,Retail,70,Kansai,web,o1,false,,,,,
romeo,Romeo,Software,70,Kansai,web,o2,false,,,,,
sierra,Sierra,Software,70,Kansai,web,o2,false,,,,,
tango,Tango,Software,70,Kansai,web,o2,false,,,,,
uniform,Uniform,Finance,70,Kansai,web,o3,false,,,,,
victor,Victor,Finance,70,Kansai,web,o3,false,,,,,
"""

# Prospects without account; 1 March 00:00 local is March's; a null amount; an offer that merges carry along; open to the very start of June.
OPPORTUNITIES = """
opportunity_id,account_id,kind,created_at,closed_at,is_won,amount,currency
op1,acme,upsell,2024-02-10,2024-04-10,false,50000,JPY
op2,echo,upsell,2024-02-20,2024-03-31T14:59:59Z,true,200.50,USD
op3,,new,2024-01-10,2024-02-29T15:00:00Z,true,10000,EUR
op4,,new,2024-05-10,,,1000,
op5,juliet,cross_sell,2024-03-01,2024-05-20,true,,
op6,bravo,renewal,2024-03-01,2024-04-02,true,120000,
op7,kilo,renewal,2024-03-05,2024-04-30,false,96000,
op8,delta-old,upsell,2024-01-15,2024-07-10,true,10000,
op9,golf,cross_sell,2024-06-30T15:00:00Z,,,2000,
op10,hotel,new,2024-02-05,2024-04-01,true,96000,
op11,,new,2024-03-01,2024-03-15,false,,JPY
op12,lima,upsell,2024-05-03,2024-06-01,false,700.7,JPY
op13,oscar,new,2024-04-10,,,500,USD
op14,,upsell,2024-04-10,2024-08-10,false,300.33,USD
op15,golf,cross_sell,2024-01-20,2024-01-31T15:00:00Z,true,333.335,USD
"""

# acme u2 leaves exactly at March's end (still March's); u3 joins exactly then (not February's); delta's u5 is a member of two accounts that become one.
MEMBERS = """
user_id,account_id,joined_at,left_at
u1,acme,2024-01-10,
u2,acme,2024-01-10,2024-03-31T15:00:00Z
u3,acme,2024-02-29T15:00:00Z,
u5,delta-old,2023-11-20,2024-06-10
u5,delta-mid,2024-01-25,
u6,delta-mid,2024-01-25,2024-01-25
u7,echo,2024-01-15,
u8,golf,2024-01-15,2024-05-15
p1,papa,2024-03-15,
"""

# Window of 30 days: acme done on its 29th day; charlie's window ends exactly at January's end, done a day too late; echo done at the instant after the
# window; bravo never; foxtrot at once; hotel starts in March's last second and is done in April's first; golf twice. u9 is no member; u5 was onboarded at delta-old.
ONBOARDING = """
account_id,user_id,started_at,completed_at
acme,,2024-01-10,2024-02-08T14:59:59Z
acme,u1,2024-01-10,2024-02-05
acme,u2,2024-01-10,2024-04-02
acme,u3,2024-03-02,
acme,u9,2024-01-10,2024-01-20
bravo,,2024-01-05,
charlie,,2024-01-02,2024-01-31T15:00:00Z
delta-old,,2023-11-20,2024-05-03
delta-old,u5,2023-11-20,2024-03-01
delta-mid,,2024-01-25,2024-02-01
delta-mid,u6,2024-01-25,
echo,,2024-01-16,2024-02-15
echo,u7,2024-01-16,2024-01-31T14:59:59Z
foxtrot,,2024-01-15,2024-01-15
golf,,2024-01-15,2024-03-01
golf,,2024-04-20,
golf,u8,2024-01-15,2024-06-01
hotel,,2024-03-31T14:59:59Z,2024-03-31T15:00:01Z
lima,,2024-08-20,2024-09-30T15:00:00Z
mike,,2024-03-10,2024-03-20
quebec,,2024-02-10,
"""

# Two answers at one instant; answers on the first day of the window and on the day before; one respondent at two accounts that become one.
SURVEYS = """
account_id,respondent_id,kind,score,scale,answered_at,item
acme,r1,nps,9,10,2024-01-20,
acme,r1,nps,3,10,2024-03-01T02:00:00Z,
acme,r1,nps,10,10,2024-04-10T03:00:00Z,
acme,r1,nps,6,10,2024-04-10T03:00:00Z,
acme,r2,nps,8,,2024-02-10,
bravo,r1,nps,10,,2024-02-01,
bravo,r2,nps,0,,2024-01-31T14:59:59Z,
bravo,r3,nps,9,10,2024-05-31T14:59:59Z,
delta-old,r1,nps,2,10,2024-02-20,
delta-mid,r1,nps,10,10,2024-03-09,
delta-new,r1,nps,7,10,2024-05-20,
echo,r7,nps,10,,2024-03-31T15:00:00Z,
acme,r1,csat,4,5,2024-02-10,support
acme,r1,csat,3,,2024-02-10,support
acme,r2,csat,8,10,2024-02-11,product
acme,r2,csat,7,10,2024-02-11,product
bravo,r1,csat,5,,2024-02-29T14:59:59Z,
bravo,r1,csat,1,5,2024-02-29T15:00:00Z,
delta-old,r1,csat,5,5,2024-03-02,support
delta-mid,r2,csat,2,5,2024-03-03,product
kilo,r1,csat,5,5,2024-06-05,support
romeo,r1,nps,1,10,2024-04-05,
romeo,r1,csat,2,5,2024-04-05,product
"""

# Over boundaries; parts of seconds; rated while open; escalated or not told.
TICKETS = """
ticket_id,account_id,opened_at,first_response_at,closed_at,priority,is_escalated,satisfaction
t1,acme,2024-01-31T14:59:59.600Z,2024-01-31T15:00:01.500Z,2024-03-05T01:00:00Z,high,true,5
t2,acme,2024-02-10T01:00:00Z,2024-02-10T02:30:15Z,2024-02-11T01:00:00Z,low,false,3
t3,bravo,2024-02-15T00:00:00Z,,,low,,4
t4,bravo,2024-02-16T00:00:00Z,2024-02-29T15:00:00Z,2024-02-29T15:00:00Z,,,2
t5,charlie,2024-03-10T05:00:00Z,2024-03-10T05:00:00.999Z,,high,true,
t6,delta-old,2024-02-20T05:00:00Z,2024-02-21T05:00:00Z,2024-03-20T05:00:00Z,,true,4
t7,delta-mid,2024-03-20T05:00:00Z,2024-05-02T05:00:00Z,2024-05-03T05:00:00Z,,false,5
t8,kilo,2024-06-05T05:00:00Z,2024-06-05T06:00:00Z,2024-06-05T07:30:00Z,,,1
t9,sierra,2024-07-05T05:00:00Z,,,,,
"""

COMMUNITY = """
account_id,user_id,occurred_at
acme,u1,2024-02-10T01:00:00Z
acme,u1,2024-02-10T01:00:00Z
acme,u2,2024-02-29T14:59:59Z
bravo,u1,2024-02-29T15:00:00Z
delta-old,u5,2024-03-05T03:00:00Z
delta-mid,u5,2024-03-06T03:00:00Z
echo,u7,2024-05-02
echo,u7,2024-05-03
foxtrot,u1,2024-07-03
tango,u1,2024-04-03
tango,u2,2024-04-03
"""

# A channel that nobody came by; months without new customers; corrections; other currencies; cost of accounts that were merged since; pools that time shares
# out, that only time without an account takes, that nobody's time takes (September: an entry of no hours), and that go by heads (February); one that cancels out (July).
COSTS = """
date,kind,amount,currency,channel,account_id
2024-01-15,marketing,100000,,web,
2024-01-16,marketing,1,JPY,web,
2024-01-15,marketing,50000,,partner,
2024-01-20,marketing,7001,,event,
2024-01-31,sales,100.01,USD,,
2024-01-31,cs_people,300000,,,
2024-01-31,cs_tools,33.33,EUR,,
2024-02-10,marketing,-2500,,web,
2024-02-10,marketing,400,,partner,
2024-02-29,cs_people,100001,,,
2024-02-28,cs_tools,-77,,,
2024-03-05,sales,-1001,,,
2024-03-20,cs_people,5000,,,delta-old
2024-03-20,cs_people,20003,,web,
2024-03-21,cs_people,-3,,,
2024-04-10,marketing,1500,JPY,web,hotel
2024-04-10,cs_tools,1000,,,
2024-05-10,marketing,30000,,web,
2024-05-10,sales,-4.5,USD,,
2024-06-10,sales,5000,,,november
2024-06-10,marketing,999.5,JPY,,delta-old
2024-06-20,cs_people,-778,,,
2024-07-10,marketing,100,,event,
2024-07-11,marketing,-100,,event,
2024-07-31T15:00:00Z,cs_people,5500,,,
2024-08-15,cs_tools,12.34,USD,,uniform
2024-09-10,cs_people,1000,,,
2024-09-11,sales,1000,,,
"""

TIME_ENTRIES = """
date,owner_id,account_id,hours,phase
2024-01-10,o1,acme,2.5,onboarding
2024-01-11,o1,acme,0.25,onboarding
2024-01-10,o1,bravo,1,adoption
2024-01-12,o2,charlie,0.0001,adoption
2024-01-20,o3,echo,1.33345,
2024-01-20,o3,,0.5,
2024-01-21,o3,,0.75,travel
2024-03-05,o2,delta-old,3,adoption
2024-03-15,o2,delta-mid,1,renewal
2024-03-31,o1,acme,2,
2024-04-05,o1,,2,training
2024-06-05,o1,acme,1,adoption
2024-06-06,o1,bravo,1,adoption
2024-06-07,o2,golf,1,renewal
2024-06-07,o2,kilo,1,win back
2024-07-12,o1,,0,
2024-08-31T15:00:00Z,o1,hotel,0,renewal
2024-05-20,o3,victor,4,onboarding
"""

# Without value, of a member that is not there, of zero, below zero, of the total by its name, of another period form; KPIs that serve a KGI, one that serves
# a metric without a target, one of a member.
TARGETS = """
metric,period,value,dimension,member,serves
mrr,2024-03,150000,,,
churn_rate,2024-03,0.05,,,mrr
arpa,2024-03-01,12000,total,,mrr
nrr,2024-03,1.02,total,total,mrr
closing_customers,2024-03,14,,,mrr
nps,2024-03,,,,
nps,2024-04,,region,Nowhere,
csat,2024-02,80,region,Kanto,
mrr,2024-04,1000,region,Nowhere,
mrr,2024-04,90000,region,Kansai,
churn_rate,2024-04,0.01,region,Kansai,mrr
new_customers,2024-05,0,,,
churned_customers,2024-05,0,,,
churned_customers,2024-04,0,,,
gross_mrr_churn_rate,2024-05,0,,,nrr
win_rate,2024-04,0.5,,,deals_won
net_mrr_churn_rate,2024-06,-0.02,,,
fx_mrr,2024-06,1000,,,
first_response_hours,2024-03-01,2,,,csat
csat,2024-03,50,,,
escalation_rate,2024-03,0.4,,,csat
mrr,2024-02,10000,cohort_first_paid,2023-11-01,
arr_crc,2024-06,10,industry,Software,
cac,2024-01,20000,,,
cac_payback_months,2024-07,12,,,cac
revenue,2030-01,1,,,
"""

TABLES = {"opportunities": OPPORTUNITIES, "members": MEMBERS, "onboarding": ONBOARDING, "surveys": SURVEYS, "tickets": TICKETS, "community": COMMUNITY,
          "costs": COSTS, "time_entries": TIME_ENTRIES, "targets": TARGETS}


def random_success(con, write, day, months):
    """The nine inputs of the random accounts. `a` (i, account_id, born), r(key, salt) and pick(list, x) are make_fixture's."""
    # an instant of an account: a share x of its life, in whole hours of UTC, so that local midnights are among them
    con.execute("CREATE MACRO moment(born, x) AS strftime(TIMESTAMP '2022-01-01' + to_hours((24 * (born + x * (getvariable('days') - born)))::INTEGER), '%Y-%m-%dT%H:%M:%SZ')")
    con.execute("CREATE MACRO later(born, x, hours) AS strftime(TIMESTAMP '2022-01-01' + to_hours((24 * (born + x * (getvariable('days') - born)))::INTEGER) + to_seconds((3600 * hours)::BIGINT), '%Y-%m-%dT%H:%M:%SZ')")
    write("opportunities", """SELECT printf('op-%06d-%d', i, n) AS opportunity_id, CASE WHEN r(k, 'prospect') > 0.1 THEN account_id END AS account_id,
        pick(['new', 'upsell', 'cross_sell', 'renewal', 'renewal'], r(k, 'opk')) AS kind, moment(born, r(k, 'opc')) AS created_at,
        CASE WHEN r(k, 'opo') < 0.8 THEN later(born, r(k, 'opc'), floor(r(k, 'opd') * 3000)) END AS closed_at, CASE WHEN r(k, 'opo') < 0.8 THEN r(k, 'opw') < 0.4 END AS is_won,
        CASE WHEN r(k, 'opa') < 0.9 THEN floor(r(k, 'opa2') * 500000) / 100 END AS amount, pick(['JPY', 'USD', NULL], r(k, 'opu')) AS currency
        FROM (SELECT *, i * 10 + n AS k FROM a, range(5) x(n)) WHERE r(k, 'op') < 0.6""")
    write("members", """SELECT 'u' || n AS user_id, account_id, moment(born, r(k, 'mj')) AS joined_at, CASE WHEN r(k, 'ml') < 0.3 THEN later(born, r(k, 'mj'), floor(r(k, 'ml2') * 8000)) END AS left_at
        FROM (SELECT *, i * 100 + n AS k FROM a, range(12) x(n)) WHERE r(k, 'me') < 0.5""")
    write("onboarding", """SELECT account_id, CASE WHEN n > 1 THEN 'u' || n END AS user_id, moment(born, r(k, 'os') * r(k, 'os2')) AS started_at,
        CASE WHEN r(k, 'oc') < 0.7 THEN later(born, r(k, 'os') * r(k, 'os2'), floor(r(k, 'oc2') * 1500)) END AS completed_at
        FROM (SELECT *, i * 100 + n AS k FROM a, range(10) x(n)) WHERE n <> 1 AND r(k, 'on') < CASE n WHEN 0 THEN 0.9 ELSE 0.4 END""")
    write("surveys", """SELECT account_id, 'r' || floor(r(k, 'sr') * 4)::INTEGER AS respondent_id, kind, CASE WHEN kind = 'nps' THEN floor(r(k, 'ss') * 11) ELSE 1 + floor(r(k, 'ss') * coalesce(scale, 5)) END::BIGINT AS score,
        scale, moment(born, floor(r(k, 'sa') * 40) / 40) AS answered_at, CASE WHEN kind = 'csat' THEN pick(['support', 'product', 'price', NULL], r(k, 'si')) END AS item
        FROM (SELECT *, CASE kind WHEN 'nps' THEN pick([10, NULL], r(k, 'sc')) ELSE pick([5, 10, NULL], r(k, 'sc')) END AS scale
          FROM (SELECT *, i * 100 + n AS k, pick(['nps', 'csat'], r(i * 100 + n, 'sk')) AS kind FROM a, range(30) x(n))) WHERE r(k, 'sv') < 0.5""")
    write("tickets", """SELECT printf('t-%06d-%02d', i, n) AS ticket_id, account_id, moment(born, r(k, 'to')) AS opened_at,
        CASE WHEN r(k, 'tr') < 0.9 THEN later(born, r(k, 'to'), r(k, 'tr2') * 60) END AS first_response_at, CASE WHEN r(k, 'tc') < 0.8 THEN later(born, r(k, 'to'), 60 + r(k, 'tc2') * 900) END AS closed_at,
        pick(['low', 'high', NULL], r(k, 'tp')) AS priority, CASE WHEN r(k, 'te') < 0.7 THEN r(k, 'te') < 0.15 END AS is_escalated, CASE WHEN r(k, 'ts') < 0.5 THEN 1 + floor(r(k, 'ts2') * 5)::BIGINT END AS satisfaction
        FROM (SELECT *, i * 100 + n AS k FROM a, range(15) x(n)) WHERE r(k, 'ti') < 0.5""")
    write("community", "SELECT account_id, 'u' || floor(r(k, 'cu') * 6)::INTEGER AS user_id, moment(born, r(k, 'ca')) AS occurred_at FROM (SELECT *, i * 100 + n AS k FROM a, range(12) x(n)) WHERE r(i, 'co') < 0.4 AND r(k, 'co2') < 0.7")
    # Every month one pool of each kind and channel, now and then in another currency or corrected; some of an account of its own.
    write("costs", f"""SELECT {day.format('30 * m + 3 * c')} AS date, kind, CASE WHEN r(k, 'cc') < 0.15 THEN -1 ELSE 1 END * floor(r(k, 'cam') * 20000000) / 100 AS amount, pick(['JPY', NULL, NULL, 'USD'], r(k, 'ccu')) AS currency,
        CASE WHEN kind IN ('marketing', 'sales') THEN pick(['web', 'partner', 'event', 'fair', NULL], r(k, 'cch')) END AS channel,
        CASE WHEN r(k, 'cac') < 0.15 THEN (SELECT printf('acc-%06d', min(i)) FROM a WHERE born <= 30 * m AND r(i, 'cost' || k) < 0.2) END AS account_id
        FROM (SELECT m, c, m * 20 + c AS k, pick(['marketing', 'sales', 'cs_people', 'cs_tools'], r(m * 20 + c, 'ck')) AS kind FROM range({months}) x(m), range(9) y(c)) WHERE 30 * m + 3 * c < getvariable('days')""")
    # Every third month nobody writes down his time.
    write("time_entries", f"""SELECT {day.format('d')} AS date, 'owner-' || floor(12 * r(k, 'to'))::INTEGER AS owner_id, CASE WHEN r(k, 'tn') > 0.1 THEN account_id END AS account_id,
        floor(r(k, 'th') * 40000) / 10000 AS hours, pick(['onboarding', 'adoption', 'renewal', NULL], r(k, 'tp')) AS phase
        FROM (SELECT *, i * 100 + n AS k, born + floor(r(i * 100 + n, 'td') * (getvariable('days') - born))::INTEGER AS d FROM a, range(20) x(n)) WHERE r(k, 'te') < 0.5 AND d % 91 < 61""")
    write("targets", f"""SELECT metric, left((DATE '2022-01-01' + to_months(m::INTEGER))::DATE::VARCHAR, pick([7, 10], r(k, 'tf'))) AS period,
        CASE WHEN r(k, 'tv') < 0.9 THEN printf('%.3f', scale * (0.2 + r(k, 'tv2'))) END AS value, dimension, CASE dimension WHEN 'region' THEN pick(['Kanto', 'Kansai', 'Mars'], r(m, 'tm')) END AS member, serves
        FROM (SELECT m, t.*, d.dimension, m * 100 + o + CASE dimension WHEN 'region' THEN 50 ELSE 0 END AS k FROM range({months}) x(m), (VALUES (NULL), ('region')) d(dimension),
          (VALUES (1, 'mrr', 500000, NULL), (2, 'churn_rate', 0.05, 'mrr'), (3, 'arpa', 9000, 'mrr'), (4, 'closing_customers', 60, 'mrr'), (5, 'nps', 20, 'churn_rate'), (6, 'csat', 60, NULL),
            (7, 'onboarding_completion_rate', 0.5, 'csat'), (8, 'net_mrr_churn_rate', 0.01, NULL), (9, 'cac', 40000, NULL), (10, 'onboarding_days', 30, NULL), (11, 'new_customers', 0, NULL)) t(o, metric, scale, serves))""")
