-- Where in the file the newest row of each station lies, and where the other rows of the newest snapshot do. A station is
-- in one raw file once at most, so that timestamp and number leave no tie.
SELECT
    file_row_number,
    bool_or(is_latest) AS is_latest
FROM (
    SELECT arg_max(file_row_number, ("timestamp", number)) AS file_row_number, true AS is_latest
    FROM temp.observations
    GROUP BY station_id
    UNION ALL
    SELECT file_row_number, false
    FROM temp.segment_rows
    WHERE s3_source_key = (SELECT arg_max(s3_source_key, number) FROM temp.snapshots)
)
GROUP BY file_row_number
