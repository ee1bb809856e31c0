-- What the format 5 was made by, and jobs in it: a dump of what that version wrote.
CREATE SCHEMA qtasks;
CREATE FUNCTION qtasks.enqueue(task text, args jsonb DEFAULT '{}'::jsonb, options jsonb DEFAULT '{}'::jsonb) RETURNS uuid
    LANGUAGE plpgsql
    AS $_$
    #variable_conflict use_variable
    DECLARE
        clock timestamptz := clock_timestamp();
        now bigint := floor(extract(epoch FROM clock) * 1000);
        fine int := floor(extract(epoch FROM clock) * 1000000)::bigint % 1000 * 4096 / 1000;
        bytes bytea := uuid_send(gen_random_uuid());
        stored text := args::text;
        queue text;
        priority numeric;
        due numeric := now;
        max_time numeric;
        own text;
        id uuid;
        wrong text;
        there_task text;
        there_args text;
        is_same boolean;
        is_due boolean;
        is_fresh boolean;
    BEGIN
        IF jsonb_typeof(options) <> 'object' THEN
            RAISE EXCEPTION 'the options are an object by name';
        END IF;
        SELECT key INTO wrong FROM jsonb_object_keys(options) AS key
            WHERE key NOT IN ('queue', 'priority', 'delay', 'at', 'max_time', 'id') LIMIT 1;
        IF wrong IS NOT NULL THEN
            RAISE EXCEPTION 'no option `%`; there are `queue`, `priority`, `delay`, `at`, `max_time` and `id`', wrong;
        END IF;
        -- An option that is null is left out.
        options := jsonb_strip_nulls(options);
        IF jsonb_typeof(options -> 'queue') <> 'string' THEN
            RAISE EXCEPTION '`queue` is a text';
        END IF;
        queue := coalesce(options ->> 'queue', 'default');
        FOREACH wrong IN ARRAY ARRAY[coalesce(task, ''), queue] LOOP
            IF wrong !~ '^[A-Za-z0-9_.:-]{1,128}$' THEN
                RAISE EXCEPTION '`%` is no name of a task or a queue: they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`', wrong;
            END IF;
        END LOOP;
        IF args IS NULL OR jsonb_typeof(args) <> 'object' THEN
            RAISE EXCEPTION 'the arguments of `%` are an object by parameter name', task;
        END IF;
        IF octet_length(stored) > 1048576 THEN
            RAISE EXCEPTION 'the arguments of `%` are larger than 1 MiB', task;
        END IF;
        -- A shorter text is not as deep.
        IF octet_length(stored) > 256 AND jsonb_path_exists(args,
            'strict $.**{128 to last} ? (@.type() == "object" || @.type() == "array")') THEN
            RAISE EXCEPTION 'the arguments of `%` are more than 128 arrays and objects deep', task;
        END IF;
        IF options ? 'priority' THEN
            IF jsonb_typeof(options -> 'priority') = 'number' THEN
                priority := (options -> 'priority')::numeric;
            END IF;
            IF priority IS NULL OR priority <> trunc(priority) OR priority NOT BETWEEN -32768 AND 32767 THEN
                RAISE EXCEPTION '`priority` is a whole number from -32768 to 32767';
            END IF;
        END IF;
        IF options ? 'at' AND options ? 'delay' THEN
            RAISE EXCEPTION '`at` and `delay` both say when the job is due; leave one of them out';
        ELSIF options ? 'at' THEN
            BEGIN
                -- Words like `tomorrow` are times too, and an answer to when is not in them.
                IF jsonb_typeof(options -> 'at') = 'string' AND options ->> 'at' ~ '^\d{4}-\d\d-\d\d' THEN
                    due := floor(extract(epoch FROM (options ->> 'at')::timestamptz) * 1000);
                ELSE
                    due := NULL;
                END IF;
            EXCEPTION WHEN data_exception THEN
                due := NULL;
            END;
            IF due IS NULL THEN
                RAISE EXCEPTION '`at` is a time like `2030-01-31T12:00:00Z`';
            END IF;
        ELSIF options ? 'delay' THEN
            due := NULL;
            IF jsonb_typeof(options -> 'delay') = 'number' THEN
                due := now + ceil((options -> 'delay')::numeric * 1000);
            END IF;
            IF due IS NULL OR due < now THEN
                RAISE EXCEPTION '`delay` is a number of seconds, from 0 on';
            END IF;
        END IF;
        IF options ? 'max_time' THEN
            IF jsonb_typeof(options -> 'max_time') = 'number' THEN
                max_time := least(ceil((options -> 'max_time')::numeric * 1000), 9223372036854775807);
            END IF;
            IF max_time IS NULL OR (options -> 'max_time')::numeric < 0 THEN
                RAISE EXCEPTION '`max_time` is a number of seconds, from 0 on';
            END IF;
        END IF;
        IF options ? 'id' THEN
            own := replace(lower(options ->> 'id'), '-', '');
            IF jsonb_typeof(options -> 'id') <> 'string' OR own !~ '^[0-9a-f]{32}$' THEN
                RAISE EXCEPTION '`id` is a UUID, as a text';
            END IF;
        END IF;
        -- A UUID of version 7, with the microseconds behind the milliseconds, so that ids sort by age.
        bytes := overlay(bytes PLACING substring(int8send(now) FROM 3) FROM 1 FOR 6);
        bytes := set_byte(set_byte(bytes, 6, 112 + (fine >> 8)), 7, fine & 255);
        id := coalesce(own, encode(bytes, 'hex'))::uuid;
        -- Up to the end of the year 9999.
        is_due := due <= now;
        is_fresh := is_due AND coalesce(priority, 0) = 0;
        INSERT INTO qtasks.jobs (id, queue, task, priority, state, line, fresh, due, max_time, enqueued, args)
            VALUES (id, queue, task, coalesce(priority, 0), is_due::int, CASE WHEN NOT is_fresh THEN is_due::int END,
                is_fresh, least(due, 253402207200000), max_time, now, stored)
            ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT j.task, j.args INTO there_task, there_args FROM qtasks.jobs AS j WHERE j.id = id;
            IF there_task <> task THEN
                RAISE EXCEPTION 'job % is one of the task `%`, not of `%`', id, there_task, task
                    USING ERRCODE = 'unique_violation';
            END IF;
            BEGIN
                is_same := there_args::jsonb = args;
            EXCEPTION WHEN data_exception THEN
                -- It holds what `jsonb` cannot, and so the other does not.
                is_same := false;
            END;
            IF NOT is_same THEN
                RAISE EXCEPTION 'job % of the task `%` is there with other arguments; an id names one call, so give this one another',
                    id, task USING ERRCODE = 'unique_violation';
            END IF;
        END IF;
        -- Heard when the transaction commits.
        PERFORM pg_notify('qtasks.news', '- work' || CASE WHEN is_fresh THEN ':' || id ELSE '' END);
        RETURN id;
    END
    $_$;
CREATE TABLE qtasks.attempts (
    job uuid NOT NULL,
    number bigint NOT NULL,
    worker uuid NOT NULL,
    started bigint,
    ended bigint NOT NULL,
    ending text NOT NULL
);
CREATE TABLE qtasks.format (
    format bigint NOT NULL,
    store uuid DEFAULT gen_random_uuid() NOT NULL
);
CREATE TABLE qtasks.jobs (
    id uuid NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL COLLATE pg_catalog."C",
    priority smallint NOT NULL,
    fresh boolean DEFAULT false NOT NULL,
    max_time bigint,
    enqueued bigint NOT NULL,
    came xid8 DEFAULT pg_current_xact_id() NOT NULL,
    due bigint NOT NULL,
    failures bigint DEFAULT 0 NOT NULL,
    steps bigint DEFAULT 0 NOT NULL,
    skipped bigint DEFAULT 0 NOT NULL,
    memos bigint DEFAULT 0 NOT NULL,
    progress_done bigint,
    progress_total bigint,
    survived bigint,
    losses bigint,
    leased bigint,
    liable boolean,
    suspect boolean DEFAULT false NOT NULL,
    line smallint,
    state smallint NOT NULL,
    attempt bigint DEFAULT 0 NOT NULL,
    worker uuid,
    started bigint,
    ended bigint,
    shape text,
    outcome text,
    args text NOT NULL
)
WITH (fillfactor='40', toast_tuple_target='512', autovacuum_vacuum_scale_factor='0.05', vacuum_truncate='false');
CREATE TABLE qtasks.lanes (
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL COLLATE pg_catalog."C",
    upto uuid NOT NULL,
    seen pg_snapshot NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE qtasks.leases (
    worker uuid NOT NULL,
    number bigint NOT NULL,
    jobs uuid[] NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', vacuum_truncate='false');
ALTER TABLE qtasks.leases ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME qtasks.leases_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE qtasks.memos (
    job uuid NOT NULL,
    step bigint NOT NULL,
    number bigint NOT NULL,
    name text NOT NULL,
    nth bigint NOT NULL,
    value text NOT NULL
);
CREATE TABLE qtasks.pruned (
    job uuid NOT NULL
);
CREATE TABLE qtasks.steps (
    job uuid NOT NULL,
    seq bigint NOT NULL,
    hash bigint NOT NULL,
    skipped boolean NOT NULL,
    reply text NOT NULL
);
CREATE TABLE qtasks.workers (
    id uuid NOT NULL,
    sign bigint NOT NULL,
    signed boolean NOT NULL,
    beat bigint,
    instance text,
    lost boolean DEFAULT false NOT NULL
)
WITH (fillfactor='50', vacuum_truncate='false');
INSERT INTO qtasks.attempts (job, number, worker, started, ended, ending) VALUES
	('01900000-0000-7000-8000-000000000003', 1, '01900000-0000-7000-8000-00000000000f', 1700000000000, 1700000005000, '{"failed":{"error":"no"}}'),
	('01900000-0000-7000-8000-000000000004', 1, '01900000-0000-7000-8000-00000000000f', 1700000000000, 1700000005000, '{"cancelled":{"reason":"enough"}}'),
	('01900000-0000-7000-8000-000000000005', 1, '01900000-0000-7000-8000-00000000000f', 1700000000000, 1700000005000, '"lost"'),
	('01900000-0000-7000-8000-000000000006', 1, '01900000-0000-7000-8000-00000000000f', 1700000000000, 1700000005000, '"snoozed"');
INSERT INTO qtasks.format (format, store) VALUES
	(5, 'beb810e4-21b4-48ae-bd68-07797bd1ca28');
INSERT INTO qtasks.jobs (id, queue, task, priority, fresh, max_time, enqueued, came, due, failures, steps, skipped, memos, progress_done, progress_total, survived, losses, leased, liable, suspect, line, state, attempt, worker, started, ended, shape, outcome, args) VALUES
	('01900000-0000-7000-8000-000000000001', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000000000, 0, 2, 1, 1, 1, 3, NULL, NULL, NULL, NULL, false, NULL, 2, 1, '01900000-0000-7000-8000-00000000000f', NULL, NULL, NULL, NULL, '{}'),
	('01900000-0000-7000-8000-000000000002', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000000000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, 3, 1, '01900000-0000-7000-8000-00000000000f', 1700000000000, 1700000005000, NULL, '"done"', '{}'),
	('01900000-0000-7000-8000-000000000003', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000000000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, 4, 1, NULL, NULL, 1700000005000, NULL, '"no"', '{}'),
	('01900000-0000-7000-8000-000000000004', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000000000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, 5, 1, NULL, NULL, 1700000005000, NULL, '"enough"', '{}'),
	('01900000-0000-7000-8000-000000000005', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000000000, 0, 0, 0, 0, NULL, NULL, 5000, 1, NULL, NULL, true, 2, 1, 1, NULL, NULL, NULL, NULL, NULL, '{}'),
	('01900000-0000-7000-8000-000000000006', 'default', 'task', 0, true, NULL, 1700000000000, '727', 1700000060000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, '{}'),
	('01900000-0000-7000-8000-000000000007', 'default', 'task', 0, true, NULL, 1700000000000, '733', 1700000000000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, 1, 0, NULL, NULL, NULL, NULL, NULL, '{}'),
	('01900000-0000-7000-8000-000000000008', 'default', 'task', 0, false, NULL, 1700000000000, '733', 1700000090000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, '{}'),
	('01900000-0000-7000-8000-000000000009', 'mail', 'task', 7, false, 90000, 1700000000000, '733', 1700000000000, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, '{"a": 1}');
INSERT INTO qtasks.leases (worker, number, jobs) OVERRIDING SYSTEM VALUE VALUES
	('01900000-0000-7000-8000-00000000000f', 1, '{01900000-0000-7000-8000-000000000001,01900000-0000-7000-8000-000000000002,01900000-0000-7000-8000-000000000003,01900000-0000-7000-8000-000000000004,01900000-0000-7000-8000-000000000005,01900000-0000-7000-8000-000000000006}');
INSERT INTO qtasks.memos (job, step, number, name, nth, value) VALUES
	('01900000-0000-7000-8000-000000000001', -1, 0, '"now"', 0, '7');
INSERT INTO qtasks.steps (job, seq, hash, skipped, reply) VALUES
	('01900000-0000-7000-8000-000000000001', 0, -1, false, '10'),
	('01900000-0000-7000-8000-000000000001', 1, 5, true, '"skipped"');
SELECT pg_catalog.setval('qtasks.leases_number_seq', 1, true);
ALTER TABLE ONLY qtasks.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (job, number);
ALTER TABLE ONLY qtasks.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY qtasks.lanes
    ADD CONSTRAINT lanes_pkey PRIMARY KEY (queue, task);
ALTER TABLE ONLY qtasks.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (worker, number);
ALTER TABLE ONLY qtasks.memos
    ADD CONSTRAINT memos_pkey PRIMARY KEY (job, step, number);
ALTER TABLE ONLY qtasks.pruned
    ADD CONSTRAINT pruned_pkey PRIMARY KEY (job);
ALTER TABLE ONLY qtasks.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (job, seq);
ALTER TABLE ONLY qtasks.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (id);
CREATE INDEX jobs_came ON qtasks.jobs USING btree (came, uuid_send(id));
CREATE INDEX jobs_fresh ON qtasks.jobs USING btree (queue, task, uuid_send(id)) WHERE fresh;
CREATE INDEX jobs_later ON qtasks.jobs USING btree (queue, task, due) WHERE (line = 0);
CREATE INDEX jobs_ready ON qtasks.jobs USING btree (queue, task, ((- (priority)::integer)), id) WHERE (line = 1);
CREATE INDEX jobs_suspects ON qtasks.jobs USING btree (queue, task, survived, ((- (priority)::integer)), id) WHERE (line = 2);
