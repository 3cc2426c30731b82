-- The free bikes of the newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE VIEW wrm_analytics.wrm_bikes_latest AS
SELECT *
FROM wrm_analytics.wrm_current_rows
WHERE record_type = 'bike';
