-- Each row of a station, by the numbers of its partition and raw file: they sort in a fraction of the time that names and
-- keys take.
SELECT
    partition_number,
    station_id,
    number,
    is_future,
    observed.file_timestamp,
    bikes,
    spaces,
    total_docks,
    row_number
FROM temp.read_rows AS observed
JOIN temp.sources ON observed.s3_source_key = sources.s3_source_key
WHERE record_type = 'station'
