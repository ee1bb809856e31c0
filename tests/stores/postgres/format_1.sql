-- What the format 1 was made by, and some jobs in it.
CREATE SCHEMA qtasks;
CREATE TABLE qtasks.format (format bigint NOT NULL);
CREATE TABLE qtasks.jobs (
    id uuid PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    state smallint NOT NULL,
    suspect boolean NOT NULL DEFAULT false,
    due bigint NOT NULL,
    max_time bigint,
    enqueued bigint NOT NULL,
    attempt bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    steps bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    memos bigint NOT NULL DEFAULT 0,
    progress_done bigint,
    progress_total bigint,
    ended bigint,
    worker uuid,
    shape text,
    outcome text,
    args text NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX jobs_later ON qtasks.jobs (queue, task, due) WHERE state = 0;
CREATE INDEX jobs_ready ON qtasks.jobs (queue, task, suspect, (-(priority::int4)), id) WHERE state = 1;
CREATE INDEX jobs_running ON qtasks.jobs (worker) WHERE state = 2;
CREATE INDEX jobs_ended ON qtasks.jobs (state, ended) WHERE state >= 3;
CREATE TABLE qtasks.steps (
    job uuid NOT NULL,
    seq bigint NOT NULL,
    hash bigint NOT NULL,
    skipped boolean NOT NULL,
    reply text NOT NULL,
    PRIMARY KEY (job, seq)
);
CREATE TABLE qtasks.memos (
    job uuid NOT NULL,
    step bigint NOT NULL,
    number bigint NOT NULL,
    name text NOT NULL,
    nth bigint NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (job, step, number)
);
CREATE TABLE qtasks.attempts (
    job uuid NOT NULL,
    number bigint NOT NULL,
    worker uuid NOT NULL,
    started bigint,
    ended bigint NOT NULL,
    ending text NOT NULL,
    PRIMARY KEY (job, number)
);
CREATE TABLE qtasks.workers (
    id uuid PRIMARY KEY,
    until bigint NOT NULL,
    sign bigint NOT NULL,
    signed boolean NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE qtasks.pruned (job uuid PRIMARY KEY);
CREATE FUNCTION qtasks.enqueue(task text, args jsonb DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql AS $enqueue$
DECLARE
    clock timestamptz := clock_timestamp();
    now bigint := floor(extract(epoch FROM clock) * 1000);
    fine int := floor(extract(epoch FROM clock) * 1000000)::bigint % 1000 * 4096 / 1000;
    bytes bytea := uuid_send(gen_random_uuid());
    queue text := coalesce(options ->> 'queue', 'default');
    due bigint := now;
    max_time bigint;
    id uuid;
    wrong text;
BEGIN
    SELECT key INTO wrong FROM jsonb_object_keys(options) AS key
        WHERE key NOT IN ('queue', 'priority', 'delay', 'at', 'max_time', 'id') LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'no option `%`; there are `queue`, `priority`, `delay`, `at`, `max_time` and `id`', wrong;
    END IF;
    FOREACH wrong IN ARRAY ARRAY[coalesce(task, ''), queue] LOOP
        IF wrong !~ '^[A-Za-z0-9_.:-]{1,128}$' THEN
            RAISE EXCEPTION '`%` is no name of a task or a queue: they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`', wrong;
        END IF;
    END LOOP;
    IF args IS NULL OR jsonb_typeof(args) <> 'object' THEN
        RAISE EXCEPTION 'the arguments of `%` are an object by parameter name', task;
    END IF;
    IF octet_length(args::text) > 1048576 THEN
        RAISE EXCEPTION 'the arguments of `%` are larger than 1 MiB', task;
    END IF;
    IF options ? 'at' AND options ? 'delay' THEN
        RAISE EXCEPTION '`at` and `delay` both say when the job is due; leave one of them out';
    ELSIF options ? 'at' THEN
        due := floor(extract(epoch FROM (options ->> 'at')::timestamptz) * 1000);
    ELSIF options ? 'delay' THEN
        due := now + ceil((options ->> 'delay')::numeric * 1000);
    END IF;
    IF options ? 'max_time' THEN
        max_time := greatest(ceil((options ->> 'max_time')::numeric * 1000), 0);
    END IF;
    -- A UUID of version 7, with the microseconds behind the milliseconds, so that ids sort by age.
    bytes := overlay(bytes PLACING substring(int8send(now) FROM 3) FROM 1 FOR 6);
    bytes := set_byte(set_byte(bytes, 6, 112 + (fine >> 8)), 7, fine & 255);
    id := coalesce((options ->> 'id')::uuid, encode(bytes, 'hex')::uuid);
    INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args)
        VALUES (id, queue, task, coalesce((options ->> 'priority')::smallint, 0),
            CASE WHEN due <= now THEN 1 ELSE 0 END, due, max_time, now, args::text)
        ON CONFLICT DO NOTHING;
    -- Heard when the transaction commits.
    PERFORM pg_notify('qtasks.news', '- work');
    RETURN id;
END
$enqueue$;
INSERT INTO qtasks.format VALUES (1);
INSERT INTO qtasks.jobs
    (id, queue, task, priority, state, suspect, due, max_time, enqueued, attempt, failures, steps, skipped, memos,
        progress_done, progress_total, ended, worker, shape, outcome, args)
VALUES
    ('01900000-0000-7000-8000-000000000001', 'default', 'task', 0, 2, false, 1700000000000, 90000, 1700000000000, 1, 2, 2, 1, 1,
        1, 3, NULL, '01900000-0000-7000-8000-00000000000a', NULL, NULL, '{"a": 1}'),
    ('01900000-0000-7000-8000-000000000002', 'default', 'task', 0, 1, true, 1700000000000, NULL, 1700000000000, 3, 2, 0, 0, 0,
        NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
    ('01900000-0000-7000-8000-000000000003', 'default', 'task', 7, 0, true, 1700000000000, NULL, 1700000000000, 2, 0, 0, 0, 0,
        NULL, NULL, NULL, NULL, NULL, NULL, '{}'),
    ('01900000-0000-7000-8000-000000000004', 'default', 'task', 0, 2, true, 1700000000000, NULL, 1700000000000, 2, 0, 0, 0, 0,
        NULL, NULL, NULL, '01900000-0000-7000-8000-00000000000a', NULL, NULL, '{}'),
    ('01900000-0000-7000-8000-000000000005', 'default', 'task', 0, 3, false, 1700000000000, NULL, 1700000000000, 1, 0, 0, 0, 0,
        NULL, NULL, 1700000005000, NULL, NULL, '"done"', '{}'),
    ('01900000-0000-7000-8000-000000000006', 'default', 'task', 0, 4, false, 1700000000000, NULL, 1700000000000, 4, 4, 0, 0, 0,
        NULL, NULL, 1700000005000, NULL, NULL, '"no"', '{}');
INSERT INTO qtasks.steps VALUES
    ('01900000-0000-7000-8000-000000000001', 0, -1, false, '10'),
    ('01900000-0000-7000-8000-000000000001', 1, 5, true, '"skipped"');
INSERT INTO qtasks.memos VALUES ('01900000-0000-7000-8000-000000000001', -1, 0, '"now"', 0, '7');
INSERT INTO qtasks.attempts VALUES
    ('01900000-0000-7000-8000-000000000006', 4, '01900000-0000-7000-8000-00000000000a', NULL, 1700000005000, '"lost"');
INSERT INTO qtasks.workers VALUES ('01900000-0000-7000-8000-00000000000a', 1700000003000, 10, true);
