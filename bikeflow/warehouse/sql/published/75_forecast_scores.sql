-- How good the forecasts of the last 28 finished days were, by day (UTC), and of all these days together (date is null).
-- The Brier score is the mean squared error of a probability. A skill is how much smaller it is than that of another
-- forecast: 0.2 is a fifth smaller, below 0 is worse. Persistence says that what is now, stays; calibrated persistence
-- says how often it stays, for all stations alike, fitted in hindsight to the very forecasts that are scored;
-- climatology says the station's share of time at that hour of the week.
CREATE OR REPLACE VIEW main.forecast_scores AS
SELECT
    system_id,
    date,
    target,
    horizon_minutes,
    forecasts,
    happened / forecasts AS base_rate,
    squared_error / forecasts AS brier,
    1 - squared_error / nullif(had + happened - 2 * kept, 0) AS skill_persistence,
    1 - squared_error / nullif(
        coalesce(kept * (had - kept) / nullif(had, 0), 0)
            + coalesce((happened - kept) * (forecasts - had - happened + kept) / nullif(forecasts - had, 0), 0),
        0
    ) AS skill_calibrated_persistence,
    1 - squared_error / nullif(climatology_squared_error, 0) AS skill_climatology,
    distance / forecasts AS calibration_error
FROM (
    SELECT
        system_id,
        date,
        target,
        horizon_minutes,
        CAST(sum(forecasts) AS BIGINT) AS forecasts,
        CAST(sum(happened) AS DOUBLE) AS happened,
        CAST(sum(had) AS DOUBLE) AS had,
        CAST(sum(kept) AS DOUBLE) AS kept,
        sum(squared_error) AS squared_error,
        sum(climatology_squared_error) AS climatology_squared_error,
        sum(abs(probability - happened)) AS distance
    FROM (
        SELECT
            system_id,
            date,
            target,
            horizon_minutes,
            bin,
            sum(COLUMNS(* EXCLUDE (system_id, date, target, horizon_minutes, bin)))
        FROM main.forecast_bins
        GROUP BY GROUPING SETS (
            (system_id, date, target, horizon_minutes, bin),
            (system_id, target, horizon_minutes, bin)
        )
    )
    GROUP BY system_id, date, target, horizon_minutes
)
ORDER BY system_id, date DESC NULLS FIRST, target, horizon_minutes;
