-- The states of the stations that were there at the end of a partition, as rows of its log.
CREATE OR REPLACE MACRO state.last_states(spans) AS TABLE
SELECT
    system_id,
    dt,
    station_id,
    ended_at AS began_at,
    last_state.bikes AS bikes,
    last_state.spaces AS spaces,
    last_state.total_docks AS total_docks,
    true AS is_there,
    true AS is_last
FROM (
    SELECT *, max(ended_at) OVER (PARTITION BY system_id, dt) AS last_at
    FROM query_table(spans)
)
WHERE ended_at = last_at;
