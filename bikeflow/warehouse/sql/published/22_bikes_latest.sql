-- The free bikes of each system's newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE VIEW main.bikes_latest AS
SELECT *
FROM main.current_rows
WHERE record_type = 'bike';
