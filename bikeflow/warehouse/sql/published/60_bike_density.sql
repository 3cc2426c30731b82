-- Grid cells of 1000 m² that hold a station or a free bike in the newest snapshot, inside the service area. The grid
-- begins where the equator meets the prime meridian and never moves, so that a cell keeps its id. Rows are
-- 31.62 m high at the latitude of Wrocław (less than 1 % off anywhere else), columns 31.62 m wide at the middle of
-- their row. Metres per degree are those of the WGS 84 ellipsoid (Snyder, Map Projections: A Working Manual, USGS
-- Professional Paper 1395, chapter 4): pi / 180 times the meridian's radius of curvature a (1 - e²) / w³ for latitude,
-- and times the radius of the parallel a cos(lat) / w for longitude, where w² = 1 - e² sin²(lat).
CREATE OR REPLACE TABLE wrm_analytics.bike_density AS
WITH ellipsoid AS (
    SELECT 6378137.0 AS a, 0.00669437999014 AS e2, sqrt(1000.0) AS side, radians(51.1) AS wroclaw
),
spacing AS (
    SELECT *, side / (radians(1) * a * (1 - e2) / (1 - e2 * sin(wroclaw) ** 2) ** 1.5) AS row_degrees
    FROM ellipsoid
),
things AS (
    SELECT *, CAST(floor(lat / row_degrees) AS BIGINT) AS grid_row, radians((grid_row + 0.5) * row_degrees) AS middle
    FROM working.partials.segment_newest, spacing
    WHERE segment = getvariable('newest_segment')
        AND record_type IN ('station', 'bike')
        AND NOT list_contains(quality_flags, 'outside_service_area')
),
placed AS (
    SELECT
        *,
        side / (radians(1) * a * cos(middle) / sqrt(1 - e2 * sin(middle) ** 2)) AS column_degrees,
        CAST(floor(lon / column_degrees) AS BIGINT) AS grid_column
    FROM things
)
SELECT
    grid_row || ':' || grid_column AS cell_id,
    (grid_row + 0.5) * any_value(row_degrees) AS grid_lat,
    (grid_column + 0.5) * any_value(column_degrees) AS grid_lon,
    grid_row * any_value(row_degrees) AS min_lat,
    (grid_row + 1) * any_value(row_degrees) AS max_lat,
    grid_column * any_value(column_degrees) AS min_lon,
    (grid_column + 1) * any_value(column_degrees) AS max_lon,
    CAST(least(sum(bikes), 9223372036854775807) AS BIGINT) AS bike_count,
    count(*) FILTER (WHERE record_type = 'station') AS station_count,
    count(*) FILTER (WHERE record_type = 'bike') AS mobile_bike_count,
    CAST(sum(bikes) AS DOUBLE) AS density_per_1000m2,
    coalesce(list(station_id ORDER BY station_id) FILTER (WHERE record_type = 'station'), []) AS stations
FROM placed
GROUP BY grid_row, grid_column
ORDER BY bike_count DESC, cell_id;
