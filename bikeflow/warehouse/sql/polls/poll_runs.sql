-- What polls tell about a day of a system, as runs of polls that tell the same: known from a good poll's answer (whole
-- seconds, as in the names of raw files), else unknown from when it was due, with the reason. Each lasts until the next
-- run; the day's last one has no `ended_at`, and what its last poll saw, at `last_at`, holds for `hold_us` at most.
-- `{polls}` are the polls.
SELECT
    system_id,
    dt,
    min(began_at) AS began_at,
    if(bool_or(ended_at IS NULL), NULL, max(ended_at)) AS ended_at,
    max(last_at) AS last_at,
    arg_max(hold_us, last_at) AS hold_us,
    known,
    reason
FROM (
    SELECT
        *,
        count(*) FILTER (WHERE is_change) OVER (PARTITION BY system_id, dt ORDER BY began_at, number) AS run
    FROM (
        SELECT
            *,
            row_number() OVER in_time AS number,
            coalesce((known, reason) IS DISTINCT FROM lag((known, reason)) OVER in_time, true) AS is_change
        FROM (
            SELECT
                system_id,
                dt,
                unnest(
                    if(
                        known AND next_at > last_at + to_microseconds(hold_us),
                        [
                            {'began_at': last_at, 'ended_at': last_at + to_microseconds(hold_us), 'known': true, 'reason': NULL},
                            {'began_at': last_at + to_microseconds(hold_us), 'ended_at': next_at, 'known': false, 'reason': 'late'}
                        ],
                        [{'began_at': last_at, 'ended_at': next_at, 'known': known, 'reason': reason}]
                    ),
                    recursive := true
                ),
                last_at,
                hold_us
            FROM (
                SELECT *, lead(last_at) OVER (PARTITION BY system_id, dt ORDER BY last_at, due_at) AS next_at
                FROM (
                    SELECT
                        system_id,
                        dt,
                        due_at,
                        outcome IN ('stored', 'unchanged', 'not_modified') AS known,
                        if(known, date_trunc('second', coalesce(finished_at, due_at)), due_at) AS last_at,
                        if(known, NULL, outcome || coalesce(': ' || reason, '')) AS reason,
                        CAST(2 * interval_seconds * 1000000 AS BIGINT) AS hold_us
                    FROM {polls}
                )
            )
        )
        WINDOW in_time AS (PARTITION BY system_id, dt ORDER BY began_at, last_at)
    )
)
GROUP BY system_id, dt, run, known, reason
