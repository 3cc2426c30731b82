-- What came of the forecasts of the last 28 finished days, by probability, as sums: each day (UTC) was forecast at each
-- quarter of an hour, from the 56 days before it, and held against what then happened, as far as that is known and
-- within the day. If forecasts are calibrated, happened comes close to probability in each row.
CREATE OR REPLACE TABLE main.forecast_bins AS
FROM working.state.forecast_bins
ORDER BY system_id, target, horizon_minutes, bin;
