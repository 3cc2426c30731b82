-- What each raw file gave: its record, counts of its rows, and how many bikes these tell of.
SELECT
    system_id,
    dt,
    s3_source_key,
    coalesce(
        file_timestamp,
        try_strptime(
            regexp_extract(s3_source_key, '_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})\.[^./]+$', 1),
            '%Y-%m-%d_%H-%M-%S'
        )
    ) AS file_timestamp,
    size AS size_bytes,
    md5,
    "lines",
    "rows",
    rejected,
    coalesce(station_rows, 0) AS stations,
    coalesce(bike_rows, 0) AS bikes,
    coalesce(flagged, 0) AS flagged,
    coalesce(station_bikes, 0) AS station_bikes,
    coalesce(station_bikes_outside, 0) AS station_bikes_outside,
    coalesce(free_bikes, 0) AS free_bikes,
    coalesce(free_bikes_outside, 0) AS free_bikes_outside
FROM temp.sources
