-- Bikes (and vehicles of GBFS) that stood free at one place and then, in the next snapshot that has them, at another one,
-- more than 100 m away: vehicles that stand still seem to move less than that, as GPS jitters. A bike makes no move when
-- it comes back to where it stood, when it is not seen again on the same day or the next one (UTC), or when its id is
-- changed meanwhile, as GBFS asks for after each trip. What a move was can only be suspected:
-- "jitter" where it went faster than 130 km/h, or where the bike was always in sight and another such move, an hour before
-- or after at most and on the same day, leads back;
-- "relocation" where its battery gained 5 points or its range 2 km, where it went faster than 30 km/h as the crow flies,
-- or where four bikes or more arrived at the same place (110 m) within ten minutes, all of the time known;
-- "trip" where it was none of these and took 90 minutes at most;
-- null where it took longer: there may have been many trips, and stays at stations, where bikes have no id in many feeds.
-- A filter on date or system_id reads little.
CREATE OR REPLACE VIEW main.bike_moves AS
WITH last_snapshots AS (
    SELECT system_id, next_dt, max(file_timestamp) AS last_at
    FROM (
        FROM {raw_files}
        UNION ALL BY NAME
        SELECT *, dt + 1 AS next_dt
        FROM main.open_raw_files
    )
    WHERE stations + bikes > 0
        AND CAST(file_timestamp AS DATE) = dt
    GROUP BY system_id, next_dt
),
-- where each bike was last on the day before
days_before AS (
    SELECT
        system_id,
        next_dt AS date,
        bike_id,
        CAST(next_dt AS TIMESTAMP) - INTERVAL 1 MICROSECOND AS changed_at,
        if(last.change = 'left', 'left', 'stayed') AS change,
        if(last.change = 'left', last.seen_at, last_at) AS seen_at,
        last.lat AS lat,
        last.lon AS lon,
        last.battery_level AS battery_level,
        last.range_meters AS range_meters
    FROM (
        SELECT system_id, next_dt, bike_id, arg_max(changes, (changed_at, change <> 'left')) AS last
        FROM (
            SELECT
                *,
                max(changed_at) FILTER (WHERE change = 'reset') OVER (PARTITION BY system_id, next_dt) AS reset_at
            FROM main.bike_changes
        ) AS changes
        WHERE bike_id IS NOT NULL
            AND coalesce(changed_at > reset_at, true)
        GROUP BY system_id, next_dt, bike_id
    )
    JOIN last_snapshots USING (system_id, next_dt)
),
placed AS (
    SELECT
        system_id,
        date,
        bike_id,
        vehicle_type,
        changed_at,
        change,
        {
            'at': coalesce(seen_at, changed_at),
            'lat': lat,
            'lon': lon,
            'battery': battery_level,
            'range': range_meters
        } AS place,
        reset_at
    FROM (
        SELECT
            *,
            max(changed_at) FILTER (WHERE change = 'reset') OVER (PARTITION BY system_id, date ORDER BY changed_at)
                AS reset_at
        FROM main.bike_changes
        UNION ALL BY NAME
        FROM days_before
    )
    WHERE bike_id IS NOT NULL
),
followed AS (
    SELECT
        *,
        lag({'changed_at': changed_at, 'change': change, 'place': place}) OVER (
            PARTITION BY system_id, date, bike_id
            ORDER BY changed_at, change <> 'left'
        ) AS before
    FROM placed
),
-- from where to where; `here` is null where the bike is not known to have been anywhere before
paired AS (
    SELECT
        system_id,
        date,
        bike_id,
        vehicle_type,
        change,
        if(
            change IN ('came', 'first')
                AND before.change IN ('left', 'stayed')
                AND coalesce(before.changed_at > reset_at, true),
            before.place,
            NULL
        ) AS here,
        place AS there,
        NOT (before.changed_at = changed_at OR (change = 'first' AND before.change = 'stayed')) AS out_of_sight,
        parts.metres_between(before.place.lat, before.place.lon, place.lat, place.lon) AS distance_meters
    FROM followed
),
counted AS (
    SELECT
        *,
        count(*) FILTER (WHERE change = 'stayed') OVER of_day AS bikes_before,
        count(*) FILTER (WHERE change = 'first') OVER of_day AS bikes_first,
        count(*) FILTER (WHERE change = 'first' AND NOT out_of_sight AND coalesce(distance_meters <= 100, true)) OVER of_day
            AS bikes_stayed
    FROM paired
    WINDOW of_day AS (PARTITION BY system_id, date)
),
moves AS (
    SELECT
        *,
        here.at AS began_at,
        there.at AS ended_at,
        epoch_us(there.at) - epoch_us(here.at) AS duration_us
    FROM counted
    WHERE here IS NOT NULL
        AND distance_meters > 100
        -- over midnight, bikes are compared as within a day
        AND (
            here.at >= date
            OR greatest(bikes_before, bikes_first) < 10
            OR 2 * bikes_stayed >= greatest(bikes_before, bikes_first)
        )
),
neighbours AS (
    SELECT
        *,
        lag({'out_of_sight': out_of_sight, 'at': ended_at, 'here': here}) OVER of_bike AS last_move,
        lead({'out_of_sight': out_of_sight, 'at': ended_at, 'there': there}) OVER of_bike AS next_move,
        count(*) OVER (
            PARTITION BY system_id, date, floor(1000 * there.lat), floor(1000 * there.lon)
            ORDER BY ended_at
            RANGE BETWEEN INTERVAL 5 MINUTE PRECEDING AND INTERVAL 5 MINUTE FOLLOWING
        ) AS arrivals
    FROM moves
    WINDOW of_bike AS (PARTITION BY system_id, date, bike_id ORDER BY ended_at)
)
SELECT
    system_id,
    bike_id,
    vehicle_type,
    began_at,
    ended_at,
    here.lat AS from_lat,
    here.lon AS from_lon,
    there.lat AS to_lat,
    there.lon AS to_lon,
    distance_meters,
    duration_us / 1e6 AS duration_seconds,
    unknown_us / 1e6 AS unknown_seconds,
    out_of_sight,
    here.battery AS battery_before,
    there.battery AS battery_after,
    here.range AS range_before,
    there.range AS range_after,
    CASE
        WHEN distance_meters > 130 / 3.6 * duration_us / 1e6 THEN 'jitter'
        WHEN NOT out_of_sight
            AND (
                (
                    NOT last_move.out_of_sight
                    AND last_move.at >= ended_at - INTERVAL 1 HOUR
                    AND parts.metres_between(last_move.here.lat, last_move.here.lon, there.lat, there.lon) <= 100
                )
                OR (
                    NOT next_move.out_of_sight
                    AND next_move.at <= ended_at + INTERVAL 1 HOUR
                    AND parts.metres_between(here.lat, here.lon, next_move.there.lat, next_move.there.lon) <= 100
                )
            ) THEN 'jitter'
        WHEN distance_meters > 30 / 3.6 * duration_us / 1e6
            OR there.battery - here.battery >= 5
            OR there.range - here.range >= 2000
            OR (arrivals >= 4 AND unknown_us = 0) THEN 'relocation'
        WHEN duration_us <= 90 * 60 * 1e6 THEN 'trip'
    END AS suspected,
    date,
    CAST(hour(ended_at) AS INTEGER) AS hour,
    CAST(parts.local_time(ended_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(ended_at, timezone)) AS INTEGER) AS local_hour
FROM (
    SELECT
        moves.*,
        duration_us
        - coalesce(at_end.known_us + if(at_end.known, epoch_us(ended_at) - epoch_us(at_end.since), 0), 0)
        + coalesce(at_begin.known_us + if(at_begin.known, epoch_us(began_at) - epoch_us(at_begin.since), 0), 0)
            AS unknown_us
    FROM neighbours AS moves
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_begin
        ON at_begin.system_id = moves.system_id
        AND at_begin.since <= moves.began_at
    ASOF LEFT JOIN parts.known_time('main.coverage') AS at_end
        ON at_end.system_id = moves.system_id
        AND at_end.since <= moves.ended_at
)
LEFT JOIN main.systems USING (system_id);
