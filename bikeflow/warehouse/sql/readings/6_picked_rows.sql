-- Those rows, whole: one pass over all columns serves both.
SELECT picked.*, is_latest, is_newest
FROM read_parquet($file, hive_partitioning = false, file_row_number = true) AS picked
JOIN temp.places USING (file_row_number)
