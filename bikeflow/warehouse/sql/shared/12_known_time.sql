-- Each interval of coverage (a relation's name) with how much of all time before it is known, in microseconds: so what is
-- known between two times is the difference of two sums.
CREATE OR REPLACE MACRO {schema}.known_time(coverage) AS TABLE
SELECT
    system_id,
    began_at AS since,
    known,
    coalesce(sum(if(known, epoch_us(ended_at) - epoch_us(began_at), 0)) OVER earlier, 0) AS known_us,
    epoch_us(ended_at) - epoch_us(began_at) AS here_us
FROM query_table(coverage)
WINDOW earlier AS (
    PARTITION BY system_id
    ORDER BY began_at
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
);
