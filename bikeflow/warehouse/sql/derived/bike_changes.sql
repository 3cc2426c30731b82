-- What changed among the free bikes of a partition from one snapshot to the next: a bike "came", or it "left" the place where
-- it stood. One that moves does both at once. Of the day's first snapshot, each bike is a row ("first"). A vehicle that
-- stands still seems to move, as GPS jitters: of 2,801 new positions that TIER's e-scooters in Wolfsburg gave from one poll
-- to the next, 81 % were 10 m off at most, 97.5 % 50 m and 98.3 % 100 m; nine in ten of the others stayed where they then
-- were. So within 100 m, the place is the same.
-- Where fewer than half of the bikes are at the same place in both snapshots, of ten or more, the ids may not mean the same
-- bikes any more: one row without a bike ("reset") stands for all of these.
WITH snapshots AS (
    -- Those in the folder of their own day that are not dated in the future and have a row of a station or a bike (an empty
    -- document tells nothing); of several at the same second, the last one by its key.
    SELECT
        *,
        row_number() OVER in_time AS moment,
        coalesce(lag(file_timestamp) OVER in_time, former_at) AS before_at,
        coalesce(lag(bike_rows) OVER in_time, former_bikes) AS bikes_before
    FROM (
        SELECT partition_number, number, system_id, dt, s3_source_key, file_timestamp, bike_rows
        FROM temp.sources
        WHERE NOT is_future
            AND station_rows + bike_rows > 0
            AND CAST(file_timestamp AS DATE) = dt
        QUALIFY lead(file_timestamp) OVER (PARTITION BY partition_number ORDER BY number) IS DISTINCT FROM file_timestamp
    )
    LEFT JOIN (
        SELECT
            system_id,
            dt,
            any_value(file_timestamp) AS former_at,
            count(*) FILTER (WHERE record_type = 'bike') AS former_bikes
        FROM temp.former_rows
        GROUP BY system_id, dt
    ) USING (system_id, dt)
    WINDOW in_time AS (PARTITION BY partition_number ORDER BY number)
),
stays AS (
    -- Mostly a bike is where it was in many snapshots in a row: that is one stay, from the first to the last of these
    -- moments. Where a bike comes back to just the same position, each snapshot is a stay of its own.
    SELECT * EXCLUDE (moments), unnest(moments, recursive := true)
    FROM (
        SELECT
            partition_number,
            bike_id,
            vehicle_type,
            lat,
            lon,
            battery_level,
            range_meters,
            if(
                max(moment) - min(moment) + 1 = count(*),
                [{'first': min(moment), 'last': max(moment)}],
                list_transform(list(moment), lambda one: {'first': one, 'last': one})
            ) AS moments
        FROM (
            SELECT partition_number, moment, station_id AS bike_id, vehicle_type, lat, lon, battery_level, range_meters
            FROM temp.read_rows AS rows_read
            JOIN snapshots ON rows_read.s3_source_key = snapshots.s3_source_key
            WHERE record_type = 'bike'
            UNION ALL
            SELECT partition_number, 0, station_id, vehicle_type, lat, lon, battery_level, range_meters
            FROM temp.former_rows AS former
            JOIN snapshots ON former.system_id = snapshots.system_id AND former.dt = snapshots.dt AND moment = 1
            WHERE record_type = 'bike'
        )
        GROUP BY ALL
    )
),
changes AS (
    SELECT
        *,
        before_at IS NOT NULL
            AND greatest(bike_rows, bikes_before) >= 10
            AND 2 * (bike_rows - count(came.bike_id) OVER (PARTITION BY partition_number, moment))
                < greatest(bike_rows, bikes_before) AS is_reset
    FROM (
        SELECT
            coalesce(came.partition_number, gone.partition_number) AS partition_number,
            coalesce(came.first, gone.last + 1) AS moment,
            came,
            gone
        FROM stays AS came
        FULL JOIN stays AS gone
            ON gone.partition_number = came.partition_number
            AND gone.bike_id = came.bike_id
            AND gone.last = came.first - 1
        WHERE came.bike_id IS NULL
            OR gone.bike_id IS NULL
            OR state.metres_between(gone.lat, gone.lon, came.lat, came.lon) > 100
    )
    JOIN snapshots USING (partition_number, moment)
)
SELECT
    system_id,
    dt,
    bike.bike_id AS bike_id,
    bike.vehicle_type AS vehicle_type,
    file_timestamp AS changed_at,
    change,
    if(change = 'left', before_at, NULL) AS seen_at,
    bike.lat AS lat,
    bike.lon AS lon,
    bike.battery_level AS battery_level,
    bike.range_meters AS range_meters
FROM (
    SELECT
        *,
        unnest([came, gone]) AS bike,
        unnest([if(before_at IS NULL, 'first', 'came'), 'left']) AS change
    FROM changes
    WHERE NOT is_reset
)
WHERE bike.bike_id IS NOT NULL
UNION ALL BY NAME
SELECT DISTINCT system_id, dt, file_timestamp AS changed_at, 'reset' AS change
FROM changes
WHERE is_reset
