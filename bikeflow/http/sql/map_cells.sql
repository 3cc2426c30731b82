-- The grid's cells that hold something now.
SELECT cell_id, min_lat, min_lon, max_lat, max_lon, bike_count AS bikes
FROM bike_density
