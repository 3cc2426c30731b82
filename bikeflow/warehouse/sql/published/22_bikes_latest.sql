-- The free bikes of each system's newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE VIEW analytics.bikes_latest AS
SELECT *
FROM analytics.current_rows
WHERE record_type = 'bike';
