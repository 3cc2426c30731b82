-- Each row of a station, by the number of its raw file: numbers sort in a fraction of the time that keys take.
SELECT
    station_id,
    number,
    is_future,
    observed.file_timestamp,
    observed."date",
    bikes,
    spaces,
    total_docks,
    file_row_number
FROM temp.segment_rows AS observed
JOIN temp.sources ON observed.s3_source_key = sources.s3_source_key
WHERE record_type = 'station'
