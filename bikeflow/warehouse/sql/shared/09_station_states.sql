-- The states of each station by a log of changes (a relation's name); see published/63_station_states.sql.
CREATE OR REPLACE MACRO {schema}.station_states(changes) AS TABLE
SELECT
    system_id,
    station_id,
    date,
    began_at,
    ended_at,
    bikes,
    spaces,
    total_docks,
    bikes_before,
    first_snapshot,
    next_snapshot
FROM (
    SELECT
        system_id,
        station_id,
        date,
        began_at,
        if(ordinal < 0, first_at, lead(began_at) OVER in_time) AS ended_at,
        bikes,
        spaces,
        total_docks,
        if(
            (ordinal > 0 AND lag(ordinal) OVER in_time < 0)
                OR {schema}.is_out_of_service(lag(bikes) OVER in_time, lag(spaces) OVER in_time),
            NULL,
            lag(bikes) OVER in_time
        ) AS bikes_before,
        ordinal AS first_snapshot,
        if(ordinal < 0, 0, lead(ordinal) OVER in_time) AS next_snapshot,
        is_there
    FROM (
        SELECT system_id, dt AS date, station_id, began_at, ordinal, bikes, spaces, total_docks, is_there
        FROM query_table(changes)
        WHERE station_id IS NOT NULL
            AND NOT is_last
        UNION ALL
        SELECT system_id, next_dt, station_id, CAST(next_dt AS TIMESTAMP), -1, bikes, spaces, total_docks, true
        FROM query_table(changes)
        WHERE is_last
    )
    JOIN (
        SELECT system_id, dt AS date, min(began_at) AS first_at
        FROM query_table(changes)
        WHERE ordinal = 0
            AND is_there
        GROUP BY ALL
    ) USING (system_id, date)
    WINDOW in_time AS (PARTITION BY system_id, date, station_id ORDER BY began_at, ordinal)
)
WHERE is_there;
