-- One row a station: its spans, of whole partitions each, put together.
CREATE OR REPLACE MACRO state.joined_spans(source) AS TABLE
SELECT
    system_id,
    max(dt) AS dt,
    station_id,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    CAST(sum(observations) AS BIGINT) AS observations,
    min(bikes_min) AS bikes_min,
    max(bikes_max) AS bikes_max,
    arg_max(newest, (last_seen, dt)) AS newest
FROM query_table(source)
GROUP BY system_id, station_id;
