-- Sums over each station's known time on sealed days. Part of station_summary.
CREATE OR REPLACE TABLE main.station_totals AS
FROM working.state.station_totals;
