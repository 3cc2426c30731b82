-- How good such forecasts were on the last days.
SELECT * EXCLUDE (date), (SELECT count(DISTINCT date) FROM forecast_scores) AS days
FROM forecast_scores
WHERE date IS NULL
ORDER BY target, horizon_minutes
