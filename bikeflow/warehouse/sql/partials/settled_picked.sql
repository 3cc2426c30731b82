-- All rows of the segment's newest snapshot (of two at the same second, the one whose key sorts last). One that is dated in
-- the future is not the newest before its time comes.
SELECT * EXCLUDE (file_row_number)
FROM temp.segment_rows
WHERE s3_source_key = (
    SELECT arg_max(s3_source_key, number) FROM temp.sources WHERE file_timestamp IS NOT NULL AND NOT is_future
)
