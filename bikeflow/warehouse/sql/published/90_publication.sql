-- One row about this database: when and by which bikeflow it was published, the newest snapshot in it, and how many
-- segments, rows, stations and bikes it holds.
CREATE OR REPLACE TABLE wrm_analytics.publication AS
SELECT
    CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP) AS published_at,
    getvariable('bikeflow_version') AS bikeflow_version,
    max(newest_snapshot) AS newest_snapshot,
    count(DISTINCT segment) AS segments,
    CAST(coalesce(sum("rows"), 0) AS BIGINT) AS "rows",
    (SELECT count(*) FROM wrm_analytics.wrm_stations_latest) AS stations,
    (SELECT count(*) FROM wrm_analytics.wrm_bikes_latest) AS bikes
FROM working.partials.segments;
