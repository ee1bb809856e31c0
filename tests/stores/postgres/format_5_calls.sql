-- How the format 5 changed jobs: its statements as that version wrote them, with the types of some parameters.
-- enqueue
WITH added AS (
    INSERT INTO qtasks.jobs
        (id, queue, task, priority, state, due, max_time, enqueued, args, worker, attempt, fresh, line)
    SELECT n.*, CASE WHEN n.worker IS NULL THEN 0 ELSE 1 END, n.state = 1 AND n.priority = 0, CASE WHEN n.state = 0 OR n.state = 1 AND n.priority <> 0 THEN n.state END
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int8[], $7::int8[], $8::int8[],
        $9::text[], $10::uuid[]) AS n(id, queue, task, priority, state, due, max_time, enqueued, args, worker)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, worker
) INSERT INTO qtasks.leases (worker, jobs)
    SELECT worker, array_agg(id) FROM added WHERE worker IS NOT NULL GROUP BY worker
    RETURNING worker, number, jobs;
-- lease
WITH asked AS MATERIALIZED (
    SELECT q.queue, t.task, greatest(l.upto, $7::uuid) AS start, l.seen
    FROM unnest($2::text[]) AS q(queue) CROSS JOIN unnest($3::text[]) AS t(task)
    LEFT JOIN qtasks.lanes l ON l.queue = q.queue AND l.task = t.task
        AND pg_snapshot_xmax(l.seen) <= pg_snapshot_xmax(pg_current_snapshot())
), head AS MATERIALIZED (
    SELECT a.queue, a.task, (
        SELECT j.id FROM qtasks.jobs j WHERE j.queue = a.queue AND j.task = a.task AND j.fresh
            AND uuid_send(j.id) >= uuid_send(a.start) AND j.state = 1 AND j.line IS NULL
        ORDER BY uuid_send(j.id) LIMIT 1) AS head
    FROM asked a
), lane AS MATERIALIZED (
    SELECT h.queue, h.task, h.head FROM head h
    WHERE coalesce(h.head IS NOT NULL OR NULL,
        (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.line = 1 LIMIT 1),
        (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.line = 2 LIMIT 1),
        (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.line = 0 LIMIT 1))
), late AS MATERIALIZED (
    SELECT c.* FROM lane, LATERAL (
        SELECT j.id, j.priority, j.suspect, j.survived FROM qtasks.jobs j
        WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 0 AND j.due <= $5
        ORDER BY j.due LIMIT 4096 FOR UPDATE SKIP LOCKED) c
), fresh AS MATERIALIZED (
    SELECT c.* FROM lane, LATERAL (
        SELECT j.id, j.priority FROM qtasks.jobs j
        WHERE j.queue = lane.queue AND j.task = lane.task AND j.fresh
            AND uuid_send(j.id) >= uuid_send(lane.head) AND j.state = 1 AND j.line IS NULL AND j.due <= $5
        ORDER BY uuid_send(j.id) LIMIT $4 FOR UPDATE SKIP LOCKED) c
), ready AS MATERIALIZED (
    SELECT c.* FROM lane, LATERAL (
        SELECT j.id, j.priority FROM qtasks.jobs j
        WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 1 AND j.due <= $5
        ORDER BY -(j.priority::int4), j.id LIMIT $4 FOR UPDATE SKIP LOCKED) c
), recent AS MATERIALIZED (
    SELECT j.id, j.queue, j.task, j.due FROM qtasks.jobs j
    WHERE $8 AND j.fresh IS NOT FALSE AND j.state = 1 AND j.line IS NULL
        AND j.came >= (SELECT pg_snapshot_xmax(seen) FROM asked WHERE seen IS NOT NULL ORDER BY 1 LIMIT 1)
        AND uuid_send(j.id) < (SELECT uuid_send(start) FROM asked ORDER BY start DESC LIMIT 1)
    UNION
    SELECT j.id, j.queue, j.task, j.due FROM qtasks.jobs j
    WHERE $8 AND j.fresh IS NOT FALSE AND j.state = 1 AND j.line IS NULL
        AND j.came = ANY (ARRAY(SELECT pg_snapshot_xip(seen) FROM asked))
), came AS MATERIALIZED (
    SELECT r.id FROM recent r JOIN asked a ON a.queue = r.queue AND a.task = r.task WHERE r.id < a.start AND r.due <= $5
), behind AS MATERIALIZED (
    SELECT j.id, j.priority FROM qtasks.jobs j
    WHERE j.id = ANY (ARRAY(SELECT id FROM came ORDER BY id LIMIT $4)) AND j.state = 1 AND j.line IS NULL
    ORDER BY j.id FOR UPDATE SKIP LOCKED
), suspect AS MATERIALIZED (
    SELECT c.* FROM lane, LATERAL (
        SELECT j.id, j.priority, j.survived FROM qtasks.jobs j
        WHERE $6 AND j.queue = lane.queue AND j.task = lane.task AND j.line = 2 AND j.due <= $5
        ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 1 FOR UPDATE SKIP LOCKED) c
), seat AS MATERIALIZED (
    SELECT id, priority FROM (
        SELECT id, priority, survived FROM suspect
        UNION ALL SELECT id, priority, survived FROM late WHERE suspect AND $6) s
    ORDER BY survived, priority DESC, id LIMIT 1
), found AS MATERIALIZED (
    SELECT id, priority FROM fresh UNION ALL SELECT id, priority FROM ready UNION ALL SELECT id, priority FROM behind
), chosen AS MATERIALIZED (
    SELECT id FROM (
        SELECT id, priority FROM found UNION ALL SELECT id, priority FROM late WHERE NOT suspect
        UNION ALL SELECT id, priority FROM seat) c
    ORDER BY priority DESC, id LIMIT $4
), taken AS (
    UPDATE qtasks.jobs j SET state = 2, line = NULL, worker = $1, attempt = j.attempt + 1,
        leased = CASE WHEN j.suspect THEN $5 END, liable = CASE WHEN j.suspect THEN $9::bool END
    WHERE j.id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING j.id, j.task, j.queue, j.priority, j.args, j.max_time, j.enqueued, j.state, j.due, j.worker, j.shape, j.outcome, j.attempt, j.failures, j.steps, j.skipped, j.progress_done, j.progress_total, CASE WHEN j.suspect THEN ARRAY[j.survived, j.losses, j.leased, j.liable::int::int8] END, j.memos
), noted AS (
    INSERT INTO qtasks.leases (worker, jobs) SELECT $1, array_agg(t.id) FROM taken t HAVING count(*) > 0 RETURNING number
), in_line AS (
    UPDATE qtasks.jobs j SET state = 1, line = CASE WHEN j.suspect THEN 2 ELSE 1 END
    WHERE j.id = ANY (ARRAY(SELECT id FROM late EXCEPT SELECT id FROM chosen))
), waits AS MATERIALIZED (
    SELECT c.id, c.due FROM lane, LATERAL (
        (SELECT j.id, j.due FROM qtasks.jobs j
        WHERE j.queue = lane.queue AND j.task = lane.task AND j.fresh
            AND uuid_send(j.id) >= uuid_send(lane.head) AND j.state = 1 AND j.line IS NULL
        ORDER BY uuid_send(j.id) LIMIT $4 + 64)
        UNION ALL
        (SELECT j.id, j.due FROM qtasks.jobs j WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 1
        ORDER BY -(j.priority::int4), j.id LIMIT $4 + 64)) c
    WHERE NOT EXISTS (SELECT FROM unnest(ARRAY(SELECT id FROM found)) AS f(id) WHERE f.id = c.id)
), rest AS MATERIALIZED (
    SELECT
        (SELECT min(c.due) FROM lane, LATERAL (
            (SELECT j.due FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 0 AND j.due > $5
            ORDER BY j.due LIMIT 1)
            UNION ALL
            (SELECT j.due FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 2
            ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 64)
            UNION ALL
            SELECT due FROM waits) c
        WHERE c.due > $5) AS next_due,
        EXISTS (SELECT FROM lane, LATERAL (
            SELECT j.id FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.line = 2 AND j.due <= $5
            LIMIT 2) s WHERE NOT EXISTS (SELECT FROM chosen c WHERE c.id = s.id))
        OR EXISTS (SELECT FROM late l
            WHERE l.suspect AND NOT EXISTS (SELECT FROM chosen c WHERE c.id = l.id)) AS suspects,
        (SELECT count(*) FROM found) < $4 AND EXISTS (SELECT FROM waits WHERE due <= $5) AS missed,
        EXISTS (SELECT FROM waits WHERE due > $5) AS left,
        (SELECT number FROM noted) AS number,
        set_config('synchronous_commit', 'off', true) AS durability
)
SELECT t.*, r.next_due, r.suspects, r.missed, r.left, r.number, r.durability FROM rest r LEFT JOIN taken t ON true;
-- record
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::int8[], $2::uuid[], $3::uuid[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
        $8::int8[], $9::int8[], $10::int8[])
        AS a(place, job, worker, attempt, first_step, next_step, first_memo, next_memo, done, total)
), held AS MATERIALIZED (
    SELECT a.*, j.steps, j.memos FROM asked a JOIN qtasks.jobs j ON j.id = a.job
    WHERE j.state = 2 AND j.worker = a.worker AND j.attempt = a.attempt
    FOR UPDATE OF j
), whole AS MATERIALIZED (
    SELECT coalesce(bool_and(steps >= first_step AND memos >= first_memo), true) AS yes FROM held
), new_steps AS MATERIALIZED (
    SELECT h.place, h.job, s.seq, s.hash, s.skipped, s.reply
    FROM unnest($11::int8[], $12::int8[], $13::int8[], $14::bool[], $15::text[]) AS s(place, seq, hash, skipped, reply)
    JOIN held h ON h.place = s.place WHERE s.seq >= h.steps AND (SELECT yes FROM whole)
), appended AS (
    INSERT INTO qtasks.steps (job, seq, hash, skipped, reply) SELECT job, seq, hash, skipped, reply FROM new_steps
), skipped AS MATERIALIZED (
    SELECT place, count(*) AS count FROM new_steps WHERE skipped GROUP BY place
), noted AS (
    INSERT INTO qtasks.memos (job, step, number, name, nth, value)
    SELECT h.job, m.step, m.number, m.name, m.nth, m.value
    FROM unnest($16::int8[], $17::int8[], $18::int8[], $19::text[], $20::int8[], $21::text[])
        AS m(place, step, number, name, nth, value)
    JOIN held h ON h.place = m.place WHERE m.number >= h.memos AND (SELECT yes FROM whole)
), enqueued AS (
    INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args, fresh, line)
    SELECT n.id, n.queue, n.task, n.priority, n.state, n.due, n.max_time, n.enqueued, n.args, n.state = 1 AND n.priority = 0, CASE WHEN n.state = 0 OR n.state = 1 AND n.priority <> 0 THEN n.state END
    FROM unnest($22::uuid[], $23::text[], $24::text[], $25::int2[], $26::int2[], $27::int8[], $28::int8[],
        $29::int8[], $30::text[], $31::int8[])
        AS n(id, queue, task, priority, state, due, max_time, enqueued, args, place)
    JOIN held h ON h.place = n.place WHERE (SELECT yes FROM whole)
    ON CONFLICT (id) DO NOTHING
), counted AS (
    UPDATE qtasks.jobs j SET steps = greatest(h.steps, h.next_step), memos = greatest(h.memos, h.next_memo),
        skipped = j.skipped + coalesce((SELECT s.count FROM skipped s WHERE s.place = h.place), 0),
        failures = CASE WHEN h.next_step > h.steps THEN 0 ELSE j.failures END,
        losses = CASE WHEN j.suspect AND h.next_step > h.steps THEN 0 ELSE j.losses END,
        liable = CASE WHEN j.suspect AND (h.next_step > h.steps OR h.place = ANY ($32::int8[])) THEN false
            ELSE j.liable END,
        progress_done = coalesce(h.done, j.progress_done), progress_total = coalesce(h.total, j.progress_total)
    FROM held h WHERE j.id = h.job AND (SELECT yes FROM whole)
)
SELECT h.place, w.yes FROM held h CROSS JOIN whole w;
-- prune
WITH page AS MATERIALIZED (
    SELECT j.came, j.id, j.enqueued, j.state >= 3 AND j.ended < CASE j.state WHEN 4 THEN $2::int8 ELSE $1::int8 END AS is_old
    FROM qtasks.jobs j WHERE (j.came, uuid_send(j.id)) > ($4::text::xid8, uuid_send($5))
    ORDER BY j.came, uuid_send(j.id) LIMIT 2000
), old AS MATERIALIZED (
    SELECT j.id FROM qtasks.jobs j WHERE j.id = ANY (ARRAY(SELECT id FROM page WHERE is_old LIMIT $3))
        AND j.state >= 3 AND j.ended < CASE j.state WHEN 4 THEN $2::int8 ELSE $1::int8 END
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM qtasks.jobs j USING old WHERE j.id = old.id RETURNING j.id, j.steps + j.memos AS more
), attempts AS (
    DELETE FROM qtasks.attempts a USING gone WHERE a.job = gone.id
), steps AS (
    DELETE FROM qtasks.steps s USING gone WHERE s.job = gone.id AND gone.more <= 1000
), memos AS (
    DELETE FROM qtasks.memos m USING gone WHERE m.job = gone.id AND gone.more <= 1000
), large AS (
    INSERT INTO qtasks.pruned SELECT id FROM gone WHERE more > 1000 ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM gone), last.came::text, last.id,
    (SELECT count(*) FROM page WHERE is_old) > $3,
    (SELECT count(*) = 2000 AND min(enqueued) < greatest($1::int8, $2::int8) FROM page)
FROM (SELECT) AS one LEFT JOIN (SELECT came, id FROM page ORDER BY came DESC, id DESC LIMIT 1) AS last ON true;
-- settle
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int2[], $4::int8[], $5::uuid[], $6::int8[], $7::int2[],
        $8::int2[], $9::int2[], $10::int8[], $11::int8[], $12::text[], $13::text[], $14::int8[], $15::int8[], $22::int8[],
        $23::int8[], $24::bool[], $25::int8[])
        AS a(place, job, hold, attempt, worker, beat, first, last, state, due, ended, shape, outcome, failures, survived,
            steps, losses, ends_well, started)
), holders AS MATERIALIZED (
    SELECT w.id, w.beat FROM qtasks.workers w WHERE w.id IN (SELECT a.worker FROM asked a WHERE a.hold = 1)
    ORDER BY w.id FOR SHARE
), settled AS (
    UPDATE qtasks.jobs j SET state = a.state, due = coalesce(a.due, j.due), ended = a.ended,
        line = CASE a.state WHEN 0 THEN 0 WHEN 1 THEN CASE WHEN a.survived IS NULL THEN 1 ELSE 2 END END,
        worker = CASE WHEN a.ends_well THEN j.worker END, started = CASE WHEN a.ends_well THEN a.started END,
        shape = a.shape, outcome = a.outcome, failures = a.failures, suspect = a.survived IS NOT NULL,
        survived = a.survived, losses = a.losses, leased = NULL, liable = NULL
    FROM asked a WHERE j.id = a.job AND j.attempt = a.attempt
        AND j.steps = coalesce(a.steps, j.steps) AND CASE a.hold
        WHEN 0 THEN j.state = 2 AND j.worker = a.worker
        WHEN 1 THEN j.state = 2 AND j.worker = a.worker
            AND (SELECT h.beat FROM holders h WHERE h.id = a.worker) IS NOT DISTINCT FROM a.beat
        ELSE j.state BETWEEN a.first AND a.last END
    RETURNING a.place, a.job
), history AS (
    INSERT INTO qtasks.attempts (job, number, worker, started, ended, ending)
    SELECT s.job, t.number, t.worker, t.started, t.ended, t.ending
    FROM unnest($16::int8[], $17::int8[], $18::uuid[], $19::int8[], $20::int8[], $21::text[])
        AS t(place, number, worker, started, ended, ending)
    JOIN settled s ON s.place = t.place
    UNION ALL
    SELECT j.id, j.attempt, j.worker, j.started, j.ended, '"done"'
    FROM asked a JOIN settled s ON s.place = a.place JOIN qtasks.jobs j ON j.id = a.job
    WHERE a.hold = 2 AND j.state = 3 AND j.worker IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT place FROM settled;
