-- The grid's cells hour by hour, as bike_density has them now: bikes at stations and free ones, in the mean of the hour's
-- snapshots, those included that saw nothing in the cell. The date is the partition's, the hour (0 to 23, UTC) the
-- snapshot's. A filter on date reads little.
CREATE OR REPLACE VIEW wrm_analytics.station_density_hourly AS
SELECT *
FROM (
    SELECT
        cell_id,
        dt AS date,
        hour,
        any_value(grid_lat) AS grid_lat,
        any_value(grid_lon) AS grid_lon,
        any_value(min_lat) AS min_lat,
        any_value(max_lat) AS max_lat,
        any_value(min_lon) AS min_lon,
        any_value(max_lon) AS max_lon,
        sum(bikes_sum) / sum(sum(snapshots)) OVER in_hour AS mean_bike_count,
        sum(mobile_bikes_sum) / sum(sum(snapshots)) OVER in_hour AS mean_mobile_bike_count
    FROM {cell_hours}
    GROUP BY dt, hour, cell_id
    WINDOW in_hour AS (PARTITION BY dt, hour)
)
WHERE cell_id IS NOT NULL;
