-- Whether there is a forecast, and what it is made from.
SELECT status, days, CAST(before_date AS VARCHAR) AS before_date
FROM forecast_status
