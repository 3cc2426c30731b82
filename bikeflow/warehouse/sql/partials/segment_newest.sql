-- All rows of the segment's newest snapshot (of two at the same second, the one whose key sorts last).
SELECT * EXCLUDE (file_row_number, is_latest, is_newest)
FROM temp.picked_rows
WHERE is_newest
