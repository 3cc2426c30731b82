-- Coverage by what polls tell (`{runs}`: runs of polls that follow each other, `is_last` on a day) and by what raw
-- files do (`{file_runs}`), for all time. What coverage means is said in published/58_coverage.sql.
WITH polled AS (
    SELECT
        system_id,
        began_at,
        ended_at,
        if(known AND is_last, last_at + to_microseconds(hold_us), NULL) AS known_until,
        last_at,
        known,
        reason
    FROM {runs}
),
filed AS (
    SELECT system_id, began_at, least(ended_at, max(last_at) OVER (PARTITION BY system_id)) AS ended_at
    FROM {file_runs}
),
-- where polls tell nothing
windows AS (
    SELECT system_id, TIMESTAMP '-infinity' AS began_at, min(began_at) AS ended_at
    FROM polled
    GROUP BY system_id
    UNION ALL
    SELECT system_id, max(last_at), TIMESTAMP 'infinity'
    FROM polled
    GROUP BY system_id
    UNION ALL
    SELECT system_id, began_at, ended_at
    FROM polled
    WHERE reason LIKE 'unrecorded%'
    UNION ALL
    SELECT DISTINCT system_id, TIMESTAMP '-infinity', TIMESTAMP 'infinity'
    FROM filed
    WHERE system_id NOT IN (SELECT system_id FROM polled)
),
told AS (
    SELECT system_id, began_at, least(ended_at, known_until) AS ended_at, known, reason, 'polls' AS source
    FROM polled
    WHERE reason IS NULL OR reason NOT LIKE 'unrecorded%'
    UNION ALL
    SELECT system_id, known_until, ended_at, false, 'late', 'polls'
    FROM polled
    WHERE known_until < ended_at
    UNION ALL
    SELECT
        system_id,
        greatest(filed.began_at, windows.began_at),
        least(filed.ended_at, windows.ended_at),
        true,
        NULL,
        'raw files'
    FROM filed
    JOIN windows USING (system_id)
    WHERE filed.began_at < windows.ended_at
        AND filed.ended_at > windows.began_at
),
-- what lies between these is what neither polls nor raw files tell of
whole AS (
    SELECT system_id, began_at, ended_at, known, reason, source
    FROM told
    WHERE began_at < ended_at
    UNION ALL
    SELECT system_id, until_now, began_at, false, 'no_snapshot', 'raw files'
    FROM (
        SELECT
            system_id,
            began_at,
            max(ended_at) OVER (
                PARTITION BY system_id
                ORDER BY began_at, ended_at
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS until_now
        FROM told
    )
    WHERE until_now < began_at
)
SELECT
    system_id,
    min(began_at) AS began_at,
    max(ended_at) AS ended_at,
    known,
    reason,
    source
FROM (
    SELECT *, count(*) FILTER (WHERE is_change) OVER (PARTITION BY system_id ORDER BY began_at, ended_at) AS run
    FROM (
        SELECT
            *,
            coalesce((known, reason, source) IS DISTINCT FROM lag((known, reason, source)) OVER in_time, true) AS is_change
        FROM whole
        WINDOW in_time AS (PARTITION BY system_id ORDER BY began_at, ended_at)
    )
)
GROUP BY system_id, run, known, reason, source
