-- What was seen of each station, over all history. Part of station_summary.
CREATE OR REPLACE TABLE main.station_spans AS
SELECT system_id, * EXCLUDE (system_id, dt)
FROM working.state.joined_spans('working.state.open_spans');
