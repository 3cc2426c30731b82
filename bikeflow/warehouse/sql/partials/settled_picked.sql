-- The newest row of each station within the segment (is_latest), and all other rows of its newest snapshot (of two at the
-- same second, the one whose key sorts last).
SELECT * EXCLUDE (file_row_number)
FROM temp.picked_rows
