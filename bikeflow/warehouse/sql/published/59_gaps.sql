-- Gaps: times without coverage, each from when the state of a system was last known until it was known again, over
-- midnight too, whatever the reasons (coverage has them).
CREATE OR REPLACE VIEW main.gaps AS
SELECT
    system_id,
    min(began_at) AS began_at,
    max(ended_at) AS ended_at,
    (epoch_us(max(ended_at)) - epoch_us(min(began_at))) / 1e6 AS seconds,
    list(DISTINCT reason ORDER BY reason) AS reasons
FROM (
    SELECT *, count(*) FILTER (WHERE known) OVER (PARTITION BY system_id ORDER BY began_at) AS number
    FROM main.coverage
)
WHERE NOT known
GROUP BY system_id, number;
