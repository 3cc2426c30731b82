-- Each row of a station, by the numbers of its partition, raw file and snapshot (ordinal is null where the raw file does
-- not tell of stations): they sort in a fraction of the time that names and keys take.
SELECT
    sources.partition_number,
    station_id,
    sources.number,
    ordinal,
    is_future,
    observed.file_timestamp,
    bikes,
    spaces,
    total_docks,
    row_number
FROM temp.read_rows AS observed
JOIN temp.sources ON observed.s3_source_key = sources.s3_source_key
LEFT JOIN temp.snapshots ON snapshots.number = sources.number
WHERE record_type = 'station'
