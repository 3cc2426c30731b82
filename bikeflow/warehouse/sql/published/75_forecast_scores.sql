-- How good the forecasts of the last 28 finished days were, by day (UTC), and of all these days together (date is null).
-- The Brier score is the mean squared error of a probability. A skill is how much smaller it is than that of another
-- forecast: 0.2 is a fifth smaller, below 0 is worse. Persistence says that what is now, stays; calibrated persistence
-- says how often it stays, for all stations alike, fitted in hindsight to the very forecasts that are scored;
-- climatology says the station's share of time at that hour of the week.
CREATE OR REPLACE TABLE main.forecast_scores AS
FROM working.state.forecast_scores
ORDER BY system_id, date DESC NULLS FIRST, target, horizon_minutes;
