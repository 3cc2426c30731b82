-- One row about this database: when and by which bikeflow it was published, the newest snapshot in it, how many segments and
-- rows it holds, and how many stations and free bikes the newest snapshot has inside the service area, and outside. Empty
-- and full mean what they mean in station_summary.
CREATE OR REPLACE TABLE wrm_analytics.publication AS
SELECT
    CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP) AS published_at,
    getvariable('bikeflow_version') AS bikeflow_version,
    history.*,
    city.*
FROM (
    SELECT
        max(newest_snapshot) AS newest_snapshot,
        CAST(coalesce(sum(future_snapshots), 0) AS BIGINT) AS future_snapshots,
        count(DISTINCT segment) AS segments,
        CAST(coalesce(sum("rows"), 0) AS BIGINT) AS "rows"
    FROM working.partials.segments
) AS history
CROSS JOIN (
    SELECT
        count(*) FILTER (WHERE is_station AND is_inside) AS stations,
        count(*) FILTER (WHERE is_station AND NOT is_inside) AS stations_outside,
        count(*) FILTER (WHERE is_station AND is_inside AND working.partials.is_empty(bikes, spaces)) AS stations_empty,
        count(*) FILTER (
            WHERE is_station AND is_inside AND working.partials.is_full(bikes, spaces, total_docks)
        ) AS stations_full,
        count(*) FILTER (WHERE record_type = 'bike' AND is_inside) AS bikes,
        count(*) FILTER (WHERE record_type = 'bike' AND NOT is_inside) AS bikes_outside
    FROM (
        SELECT
            *,
            record_type = 'station' AS is_station,
            NOT list_contains(quality_flags, 'outside_service_area') AS is_inside
        FROM wrm_analytics.wrm_current_rows
    )
) AS city;
