-- The fleet hour by hour (UTC): bikes at stations and free ones, inside the service area and outside, in the mean of the
-- time in which the state of the system is known (see coverage). What a snapshot says lasts until the next one that has a
-- station or a bike, or until the end of the next day. A vehicle that stands at a station counts there, if the feed says
-- so. Hours of which nothing is known have no row. A filter on date or system_id reads little.
CREATE OR REPLACE VIEW main.fleet_hourly AS
WITH snapshots AS (
    SELECT
        system_id,
        dt AS date,
        next_dt,
        file_timestamp,
        s3_source_key,
        station_bikes,
        station_bikes_outside,
        free_bikes,
        free_bikes_outside
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
        *,
        coalesce(
            lead(file_timestamp) OVER (PARTITION BY system_id, date ORDER BY file_timestamp, s3_source_key),
            CAST(date + 1 AS TIMESTAMP)
        ) AS ended_at
    FROM (
        SELECT * EXCLUDE (next_dt)
        FROM snapshots
        UNION ALL BY NAME
        SELECT
            system_id,
            next_dt AS date,
            CAST(next_dt AS TIMESTAMP) AS file_timestamp,
            '' AS s3_source_key,
            unnest(arg_max(
                {
                    'station_bikes': station_bikes,
                    'station_bikes_outside': station_bikes_outside,
                    'free_bikes': free_bikes,
                    'free_bikes_outside': free_bikes_outside
                },
                (file_timestamp, s3_source_key)
            ))
        FROM snapshots
        GROUP BY system_id, next_dt
    )
),
pieces AS (
    SELECT
        * REPLACE (
            greatest(file_timestamp, hour_at) AS file_timestamp,
            least(ended_at, hour_at + INTERVAL 1 HOUR) AS ended_at
        )
    FROM (
        SELECT
            *,
            unnest(
                generate_series(date_trunc('hour', file_timestamp), ended_at - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)
            ) AS hour_at
        FROM states
        WHERE file_timestamp < ended_at
    )
)
SELECT
    system_id,
    date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    sum(station_bikes * known_us) / sum(known_us) AS mean_station_bikes,
    sum(station_bikes_outside * known_us) / sum(known_us) AS mean_station_bikes_outside,
    sum(free_bikes * known_us) / sum(known_us) AS mean_free_bikes,
    sum(free_bikes_outside * known_us) / sum(known_us) AS mean_free_bikes_outside,
    sum((station_bikes + station_bikes_outside + free_bikes + free_bikes_outside) * known_us) / sum(known_us)
        AS mean_bikes,
    sum(known_us) / 1e6 AS known_seconds
FROM (
    SELECT
        pieces.*,
        coalesce(
            at_end.known_us + if(at_end.known, least(epoch_us(ended_at) - epoch_us(at_end.since), at_end.here_us), 0),
            0
        )
        - coalesce(
            at_begin.known_us
            + if(at_begin.known, least(epoch_us(file_timestamp) - epoch_us(at_begin.since), at_begin.here_us), 0),
            0
        ) AS known_us
    FROM pieces
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_begin
        ON at_begin.system_id = pieces.system_id
        AND at_begin.since <= pieces.file_timestamp
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_end
        ON at_end.system_id = pieces.system_id
        AND at_end.since <= pieces.ended_at
)
LEFT JOIN main.systems USING (system_id)
GROUP BY system_id, date, hour_at, timezone
HAVING sum(known_us) > 0;
