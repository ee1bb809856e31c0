
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
