-- What came of the forecasts of the last 28 finished days, as sums that add up: each day (UTC) was forecast at each quarter
-- of an hour, from the 56 days before it, and held against what then happened, as far as that is known and within the
-- day. The forecasts are kept apart by their probability.
CREATE OR REPLACE TABLE main.forecast_bins AS
SELECT
    system_id,
    dt AS date,
    target,
    horizon_minutes,
    bin,
    forecasts,
    probability,
    happened,
    had,
    kept,
    squared_error,
    climatology_squared_error
FROM working.state.forecast_bins
ORDER BY system_id, date, target, horizon_minutes, bin;
