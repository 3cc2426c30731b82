-- Those rows, whole: one pass over all columns serves both.
SELECT picked.*, is_latest
FROM temp.segment_rows AS picked
JOIN temp.places USING (file_row_number)
