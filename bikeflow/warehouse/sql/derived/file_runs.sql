-- When the state of a system is known from the raw files of a partition, ours or of other programs: each snapshot is
-- valid for twice the median distance between the partition's snapshots, but at most 30 minutes. A row stands for
-- snapshots that follow each other within that time; it ends when the last one, at `last_at`, is no longer valid.
-- Snapshots dated in the future do not count yet.
SELECT
    system_id,
    dt,
    min(taken_at) AS began_at,
    max(taken_at) + to_microseconds(any_value(hold_us)) AS ended_at,
    max(taken_at) AS last_at
FROM (
    SELECT
        *,
        count(*) FILTER (WHERE gap_us IS NULL OR gap_us > hold_us) OVER (
            PARTITION BY system_id, dt
            ORDER BY taken_at
        ) AS run
    FROM (
        SELECT
            *,
            least(
                coalesce(
                    CAST(2 * median(gap_us) FILTER (WHERE gap_us > 0) OVER (PARTITION BY system_id, dt) AS BIGINT),
                    30 * 60 * 1000000
                ),
                30 * 60 * 1000000
            ) AS hold_us
        FROM (
            SELECT
                system_id,
                dt,
                file_timestamp AS taken_at,
                epoch_us(file_timestamp)
                    - lag(epoch_us(file_timestamp)) OVER (PARTITION BY system_id, dt ORDER BY file_timestamp) AS gap_us
            FROM temp.sources
            WHERE file_timestamp IS NOT NULL
                AND NOT is_future
        )
    )
)
GROUP BY system_id, dt, run
