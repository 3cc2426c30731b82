-- The newest row of each station within the segment (is_latest), and all other rows of its newest snapshot (of two at the
-- same second, the one whose key sorts last). A station is in one raw file once at most, so that timestamp and number
-- leave no tie. First where those rows lie, then all of their columns.
SELECT picked.* EXCLUDE (file_row_number), is_latest
FROM temp.segment_rows AS picked
JOIN (
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
        WHERE s3_source_key = (SELECT arg_max(s3_source_key, number) FROM temp.sources WHERE file_timestamp IS NOT NULL)
    )
    GROUP BY file_row_number
) USING (file_row_number)
