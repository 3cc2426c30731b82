-- How likely each station of the newest snapshot has a bike to take (bike_15: in 15 minutes), and counts as not full
-- (dock_15), if it is in service then. A station that is out of service now has no row, and neither has a system without
-- two weeks of history (see forecast_status). How good such forecasts were is in forecast_scores.
CREATE OR REPLACE TABLE main.station_forecast AS
FROM working.state.station_forecast
ORDER BY system_id, station_id;
