-- One row a station: its spans from the rows of a table between two segments, put together in the order of time. The last
-- observation of a span lasts until the first one of the next, whatever lies between. Spans that overlap can't be put
-- together: those of a day whose segments do are left out, and are replaced by the ones of the whole day. One window over
-- all stations takes a third of the time that one for each station takes.
CREATE OR REPLACE MACRO partials.joined_spans(source, first_segment, next_segment) AS TABLE
SELECT
    station_id,
    arg_min(first_date, number) AS first_date,
    arg_min(began_at, number) AS began_at,
    arg_max(ended_at, number) AS ended_at,
    min(first_seen) AS first_seen,
    max(last_seen) AS last_seen,
    arg_max(last_state, number) AS last_state,
    CAST(sum(observations) AS BIGINT) AS observations,
    sum(bikes_us + border_us * CAST(last_state.bikes AS HUGEINT)) AS bikes_us,
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
            lead(station_id) OVER in_time = station_id,
            working.partials.lasting_us(ended_at, lead(began_at) OVER in_time),
            0
        ) AS border_us
    FROM query_table(source)
    WHERE segment > first_segment
        AND segment < next_segment
        AND segment NOT IN (SELECT segment FROM working.partials.overlapping)
    WINDOW in_time AS (ORDER BY station_id, first_date, began_at)
)
GROUP BY station_id;
