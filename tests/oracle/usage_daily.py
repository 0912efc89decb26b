"""usage_events → usage_daily and usage_features, by plain SQL in DuckDB, as a user of another engine would make them.

usage_daily.py EVENTS.csv FOLDER ZONE GAP_MINUTES
"""

import sys

import duckdb

events, folder, zone, gap = sys.argv[1:]
db = duckdb.connect()
db.execute(f"SET TimeZone = '{zone}'")
db.execute(
    """
    CREATE TABLE events AS
    SELECT account_id, user_id, occurred_at::TIMESTAMPTZ AS instant, feature, (occurred_at::TIMESTAMPTZ)::DATE AS day
    FROM read_csv(?, all_varchar = true)
    """,
    [events],
)
db.execute(
    f"""
    CREATE TABLE sessions AS
    WITH gaps AS (
        SELECT *, instant - lag(instant) OVER (PARTITION BY account_id, user_id, day ORDER BY instant) > INTERVAL {int(gap)} MINUTE AS is_gap
        FROM events
    ), numbered AS (
        SELECT *, count(*) FILTER (is_gap) OVER (PARTITION BY account_id, user_id, day ORDER BY instant) AS session FROM gaps
    )
    SELECT account_id, user_id, day, count(*) AS events, min(instant) AS first_at, max(instant) AS last_at,
           date_diff('microsecond', min(instant), max(instant)) // 1000000 AS seconds
    FROM numbered GROUP BY account_id, user_id, day, session
    """
)
db.execute(
    """
    COPY (
        SELECT account_id, user_id, day, sum(events)::BIGINT AS events, count(*) AS sessions,
               sum(seconds)::BIGINT AS session_seconds, min(first_at) AS first_at, max(last_at) AS last_at
        FROM sessions GROUP BY ALL
    ) TO '%s/usage_daily.parquet'
    """
    % folder
)
db.execute(
    """
    COPY (SELECT account_id, feature, day, count(*) AS events FROM events WHERE feature IS NOT NULL GROUP BY ALL)
    TO '%s/usage_features.parquet'
    """
    % folder
)
