-- How likely each station has a bike, and a dock.
SELECT *
FROM station_forecast
ORDER BY station_id
