-- The newest row of each station within the segment.
SELECT * EXCLUDE (file_row_number, is_latest, is_newest)
FROM temp.picked_rows
WHERE is_latest
