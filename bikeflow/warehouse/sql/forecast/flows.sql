-- What the forecast learns from: what left and came at each station on some days (UTC), and for how long, by local hour and
-- by how many bikes and spaces there were ($plenty stands for itself and more). A change counts in the hour that shows
-- it, with the state before it. `temp.day_changes` is the log of these days and `temp.forecast_coverage` the coverage of
-- one system in the time zone $zone.
WITH parts AS (
    SELECT *, state.local_time(hour_at, $zone) AS local_at
    FROM state.station_parts('temp.day_changes', 'temp.forecast_coverage')
),
before AS (
    SELECT
        station_id,
        date,
        began_at AS state_began_at,
        bikes_before,
        lag(spaces) OVER in_time AS spaces_before,
        lag(total_docks) OVER in_time AS docks_before
    FROM state.station_states('temp.day_changes')
    WINDOW in_time AS (PARTITION BY station_id, date ORDER BY began_at, first_snapshot)
),
seen AS (
    SELECT
        date,
        station_id,
        local_at,
        bikes,
        spaces,
        total_docks,
        0 AS change,
        epoch_us(ended_at) - epoch_us(began_at) AS us
    FROM parts
    WHERE known
        AND began_at < ended_at
    UNION ALL
    SELECT date, station_id, local_at, bikes_before, spaces_before, docks_before, change, 0
    FROM parts
    JOIN (FROM before WHERE bikes_before IS NOT NULL) USING (station_id, date, state_began_at)
    WHERE change <> 0
)
SELECT
    date AS dt,
    station_id,
    CAST(isodow(local_at) AS TINYINT) AS weekday,
    CAST(hour(local_at) AS TINYINT) AS hour,
    CAST(greatest(least(bikes, $plenty), 0) AS TINYINT) AS bikes,
    CAST(
        if(
            state.is_full(bikes, spaces, total_docks),
            0,
            greatest(least($plenty, spaces, if(total_docks > 0, total_docks - bikes, NULL)), 1)
        ) AS TINYINT
    ) AS spaces,
    CAST(-sum(least(change, 0)) AS DOUBLE) AS departures,
    CAST(sum(greatest(change, 0)) AS DOUBLE) AS arrivals,
    round(sum(us) / 1e6) AS seconds
FROM seen
WHERE bikes IS NOT NULL
    AND state.is_out_of_service(bikes, spaces) IS NOT TRUE
GROUP BY ALL
