-- One row a system about this database: when and by which bikeflow it was published, the newest snapshot in it, how many
-- segments and rows it holds, and how many stations and free bikes the newest snapshot has inside the service area, and
-- outside. Empty and full mean what they mean in station_summary.
CREATE OR REPLACE TABLE main.publication AS
SELECT
    system_id,
    CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP) AS published_at,
    getvariable('bikeflow_version') AS bikeflow_version,
    history.newest_snapshot,
    coalesce(history.future_snapshots, 0) AS future_snapshots,
    coalesce(files.segments, 0) AS segments,
    coalesce(history."rows", 0) AS "rows",
    coalesce(city.stations, 0) AS stations,
    coalesce(city.stations_outside, 0) AS stations_outside,
    coalesce(city.stations_empty, 0) AS stations_empty,
    coalesce(city.stations_full, 0) AS stations_full,
    coalesce(city.bikes, 0) AS bikes,
    coalesce(city.bikes_outside, 0) AS bikes_outside
FROM (SELECT unnest(CAST(getvariable('systems') AS VARCHAR[])) AS system_id) AS systems
LEFT JOIN (
    SELECT
        system_id,
        max(newest_snapshot) AS newest_snapshot,
        CAST(sum(future_snapshots) AS BIGINT) AS future_snapshots,
        CAST(sum("rows") AS BIGINT) AS "rows"
    FROM working.state.partitions
    GROUP BY system_id
) AS history USING (system_id)
LEFT JOIN (
    SELECT system_id, count(*) AS segments
    FROM working.state.applied
    GROUP BY system_id
) AS files USING (system_id)
LEFT JOIN (
    SELECT
        system_id,
        count(*) FILTER (WHERE is_station AND is_inside) AS stations,
        count(*) FILTER (WHERE is_station AND NOT is_inside) AS stations_outside,
        count(*) FILTER (WHERE is_station AND is_inside AND working.state.is_empty(bikes, spaces)) AS stations_empty,
        count(*) FILTER (
            WHERE is_station AND is_inside AND working.state.is_full(bikes, spaces, total_docks)
        ) AS stations_full,
        count(*) FILTER (WHERE record_type = 'bike' AND is_inside) AS bikes,
        count(*) FILTER (WHERE record_type = 'bike' AND NOT is_inside) AS bikes_outside
    FROM (
        SELECT
            *,
            record_type = 'station' AS is_station,
            NOT list_contains(quality_flags, 'outside_service_area') AS is_inside
        FROM working.state.current_rows
    )
    GROUP BY system_id
) AS city USING (system_id)
ORDER BY system_id;
