-- Coverage: the intervals in which the state of a system is known, and those in which it is not, with the reason. They follow
-- each other without a gap, over midnight too, from the first poll or snapshot of a system to its newest one.
-- What a good poll saw (outcome stored, unchanged or not_modified) is known from the second of its answer until the next poll: until the
-- answer to that one if it is good as well, else until it was due, and for two intervals at most. The reason why the state
-- is not known is the outcome of the polls with their reason, such as "failed: timeout" or "missed: not_running", or "late":
-- no poll came within two intervals. Where there is no record of polls (before it begins, where it is lost with a disk, after
-- it ends), raw files tell, whoever fetched them, and the source is "raw files": a snapshot is known until the next one, for
-- twice the median distance between the snapshots of its partition at most, and for 30 minutes at most; then the reason is
-- "no_snapshot". Snapshots that are dated in the future do not count yet.
CREATE OR REPLACE TABLE main.coverage AS
WITH polled AS (
    -- a day's last run lasts until the next one, wherever that is; the newest of all until its last poll
    SELECT
        system_id,
        began_at,
        coalesce(ended_at, lead(began_at) OVER in_time, last_at) AS ended_at,
        if(known AND ended_at IS NULL, last_at + to_microseconds(hold_us), NULL) AS known_until,
        last_at,
        known,
        reason
    FROM working.state.poll_runs
    WINDOW in_time AS (PARTITION BY system_id ORDER BY began_at, last_at)
),
filed AS (
    SELECT system_id, began_at, least(ended_at, max(last_at) OVER (PARTITION BY system_id)) AS ended_at
    FROM working.state.file_runs
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
        WHERE began_at < ended_at
    )
    WHERE until_now < began_at
)
SELECT
    system_id,
    min(began_at) AS began_at,
    max(ended_at) AS ended_at,
    known,
    reason,
    source,
    (epoch_us(max(ended_at)) - epoch_us(min(began_at))) / 1e6 AS seconds
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
ORDER BY system_id, began_at;
