-- The scores of some systems, by day and over all days: see published/75_forecast_scores.sql.
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
            dt AS date,
            target,
            horizon_minutes,
            bin,
            sum(COLUMNS(* EXCLUDE (system_id, dt, target, horizon_minutes, bin)))
        FROM state.forecast_day_bins
        WHERE system_id IN (SELECT unnest($1))
        GROUP BY GROUPING SETS (
            (system_id, dt, target, horizon_minutes, bin),
            (system_id, target, horizon_minutes, bin)
        )
    )
    GROUP BY system_id, date, target, horizon_minutes
)
