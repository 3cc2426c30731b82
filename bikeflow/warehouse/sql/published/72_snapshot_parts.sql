-- How long what the snapshots of a system say lasted, cut at the hours (UTC): each until the next one that has a station or
-- a bike, or until the end of the next day. Only the time counts in which the state of the system is known (see coverage).
-- A snapshot without any station tells nothing of stations: what the one before said of them lasts on. So a part names two
-- snapshots: the one that tells of stations, and the one that tells of bikes. Snapshots in the folder of another day than
-- their own are left out. fleet_hourly and station_density_hourly add these parts up. A filter on date or system_id reads
-- little.
CREATE OR REPLACE VIEW main.snapshot_parts AS
WITH snapshots AS (
    SELECT
        system_id,
        dt AS date,
        next_dt,
        file_timestamp AS began_at,
        s3_source_key,
        {'key': s3_source_key, 'bikes': free_bikes, 'outside': free_bikes_outside} AS free,
        if(stations > 0, {'key': s3_source_key, 'bikes': station_bikes, 'outside': station_bikes_outside}, NULL) AS docked
    FROM (
        FROM {raw_files}
        UNION ALL BY NAME
        SELECT *, dt + 1 AS next_dt
        FROM main.open_raw_files
    )
    WHERE stations + bikes > 0
        AND CAST(file_timestamp AS DATE) = dt
),
states AS (
    SELECT
        system_id,
        date,
        began_at,
        coalesce(lead(began_at) OVER in_time, CAST(date + 1 AS TIMESTAMP)) AS ended_at,
        free,
        last_value(docked IGNORE NULLS) OVER in_time AS docked
    FROM (
        SELECT * EXCLUDE (next_dt)
        FROM snapshots
        UNION ALL BY NAME
        SELECT
            system_id,
            next_dt AS date,
            CAST(next_dt AS TIMESTAMP) AS began_at,
            '' AS s3_source_key,
            arg_max(free, (began_at, s3_source_key)) AS free,
            arg_max(docked, (began_at, s3_source_key)) FILTER (WHERE docked IS NOT NULL) AS docked
        FROM snapshots
        GROUP BY system_id, next_dt
    )
    WINDOW in_time AS (PARTITION BY system_id, date ORDER BY began_at, s3_source_key)
),
parts_of_hours AS (
    SELECT
        * REPLACE (
            greatest(began_at, hour_at) AS began_at,
            least(ended_at, hour_at + INTERVAL 1 HOUR) AS ended_at
        )
    FROM (
        SELECT
            *,
            unnest(generate_series(date_trunc('hour', began_at), ended_at - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR))
                AS hour_at
        FROM states
        WHERE began_at < ended_at
    )
)
SELECT
    system_id,
    date,
    hour_at,
    began_at,
    ended_at,
    known_us,
    CAST(sum(known_us) OVER (PARTITION BY system_id, date, hour_at) AS BIGINT) AS hour_us,
    docked.key AS stations_key,
    coalesce(docked.bikes, 0) AS station_bikes,
    coalesce(docked.outside, 0) AS station_bikes_outside,
    free.key AS bikes_key,
    free.bikes AS free_bikes,
    free.outside AS free_bikes_outside
FROM (
    SELECT
        told.*,
        CAST(
            coalesce(
                at_end.known_us
                + if(at_end.known, least(epoch_us(ended_at) - epoch_us(at_end.since), at_end.here_us), 0),
                0
            )
            - coalesce(
                at_begin.known_us
                + if(at_begin.known, least(epoch_us(began_at) - epoch_us(at_begin.since), at_begin.here_us), 0),
                0
            ) AS BIGINT
        ) AS known_us
    FROM parts_of_hours AS told
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_begin
        ON at_begin.system_id = told.system_id
        AND at_begin.since <= told.began_at
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_end
        ON at_end.system_id = told.system_id
        AND at_end.since <= told.ended_at
)
WHERE known_us > 0;
