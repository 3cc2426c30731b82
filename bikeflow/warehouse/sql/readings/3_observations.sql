-- Each row of a station, by the number of its snapshot: numbers sort in a fraction of the time that keys take.
SELECT
    station_id,
    number,
    observed."timestamp",
    observed.file_timestamp,
    observed."date",
    bikes,
    spaces,
    file_row_number
FROM temp.segment_rows AS observed
JOIN temp.snapshots ON observed.s3_source_key = snapshots.s3_source_key
WHERE record_type = 'station'
