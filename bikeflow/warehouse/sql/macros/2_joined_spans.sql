-- One row a station: its spans, of whole partitions each, put together in the order of time. The last observation of a
-- span lasts until the first one of the next, whatever lies between. One window over all stations takes a third of the
-- time that one for each station takes.
CREATE OR REPLACE MACRO state.joined_spans(source) AS TABLE
SELECT
    system_id,
    arg_min(dt, number) AS dt,
    station_id,
    arg_min(began_at, number) AS began_at,
    arg_max(ended_at, number) AS ended_at,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    arg_max(last_state, number) AS last_state,
    CAST(sum(observations) AS BIGINT) AS observations,
    sum(bikes_us + border_us * CAST(coalesce(last_state.bikes, 0) AS HUGEINT)) AS bikes_us,
    min(bikes_min) AS bikes_min,
    max(bikes_max) AS bikes_max,
    sum(occupancy_us + border_us * coalesce(last_state.occupancy, 0)) AS occupancy_us,
    CAST(sum(occupied_us + if(last_state.occupancy IS NULL, 0, border_us)) AS BIGINT) AS occupied_us,
    CAST(sum(observed_us + border_us) AS BIGINT) AS observed_us,
    CAST(sum(empty_us + if(last_state.is_empty, border_us, 0)) AS BIGINT) AS empty_us,
    CAST(sum(full_us + if(last_state.is_full, border_us, 0)) AS BIGINT) AS full_us,
    arg_max(newest, (last_seen, number)) AS newest
FROM (
    SELECT
        *,
        row_number() OVER in_time AS number,
        if(
            lead(station_id) OVER in_time = station_id AND lead(system_id) OVER in_time = system_id,
            working.state.lasting_us(last_state.bikes, ended_at, lead(began_at) OVER in_time),
            0
        ) AS border_us
    FROM query_table(source)
    WINDOW in_time AS (ORDER BY system_id, station_id, dt, began_at)
)
GROUP BY system_id, station_id;
