-- Each row of a station, by the number of its raw file: numbers sort in a fraction of the time that keys take.
SELECT
    sources.system_id,
    sources.dt,
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
