-- Add later raw files.
INSERT INTO state.raw_files BY NAME ({added})
