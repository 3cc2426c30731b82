-- What each partition holds: raw files, lines, rows, how many have which flag, and its snapshots. data_quality is made of
-- it.
CREATE OR REPLACE TABLE main.pipeline_partitions AS
SELECT
    system_id,
    dt AS date,
    * EXCLUDE (system_id, dt, newest_source_key, newest_stations_at, newest_stations_key, future_at)
FROM working.state.partitions
ORDER BY system_id, dt;
