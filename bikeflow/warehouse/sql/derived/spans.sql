-- What a partition saw of each station: how often, the first and last time, extremes, and what its newest row says it
-- is; and the last state that a snapshot tells, at ended_at. Snapshots dated in the future do not count yet.
SELECT
    system_id,
    dt,
    spans.* EXCLUDE (partition_number, newest_row),
    {'name': name, 'lat': lat, 'lon': lon, 'total_docks': total_docks} AS newest
FROM (
    SELECT
        partition_number,
        station_id,
        min(file_timestamp) AS first_seen,
        max(file_timestamp) AS last_seen,
        arg_max(row_number, number) AS newest_row,
        count(*) AS observations,
        min(bikes) AS bikes_min,
        max(bikes) AS bikes_max,
        max(file_timestamp) FILTER (WHERE ordinal IS NOT NULL) AS ended_at,
        arg_max({'bikes': bikes, 'spaces': spaces, 'total_docks': total_docks}, number) FILTER (WHERE ordinal IS NOT NULL)
            AS last_state
    FROM temp.observations
    WHERE NOT is_future
    GROUP BY partition_number, station_id
) AS spans
JOIN temp.read_rows AS rows_read ON newest_row = rows_read.row_number
