-- One row a partition: what its raw files gave, how many rows have which flag, and its newest snapshot (of two at the same
-- second, the one whose key sorts last), also among those that have stations. Snapshots that are dated in the future are counted apart: when the time of the
-- first of them comes, the partition is read again.
SELECT
    system_id,
    dt,
    count(*) AS files,
    CAST(coalesce(sum("lines"), 0) AS BIGINT) AS "lines",
    CAST(coalesce(sum(rejected), 0) AS BIGINT) AS rejected,
    CAST(coalesce(sum(counted_rows), 0) AS BIGINT) AS "rows",
    CAST(coalesce(sum(station_rows), 0) AS BIGINT) AS station_rows,
    CAST(coalesce(sum(bike_rows), 0) AS BIGINT) AS bike_rows,
    count(*) FILTER (WHERE coalesce(station_rows, 0) = 0) AS files_without_stations,
    CAST(coalesce(sum({flag}), 0) AS BIGINT) AS {flag},
    count(snapshot_at) AS snapshots,
    count(*) FILTER (WHERE is_future) AS future_snapshots,
    min(snapshot_at) AS oldest_snapshot,
    max(snapshot_at) AS newest_snapshot,
    arg_max(s3_source_key, number) FILTER (WHERE snapshot_at IS NOT NULL) AS newest_source_key,
    max(snapshot_at) FILTER (WHERE station_rows > 0) AS newest_stations_at,
    arg_max(s3_source_key, number) FILTER (WHERE snapshot_at IS NOT NULL AND station_rows > 0) AS newest_stations_key,
    min(file_timestamp) FILTER (WHERE is_future) AS future_at
FROM (SELECT *, if(is_future, NULL, file_timestamp) AS snapshot_at FROM temp.sources)
GROUP BY system_id, dt
