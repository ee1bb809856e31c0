
    CREATE OR REPLACE FUNCTION qtasks.enqueue(task text, args jsonb DEFAULT '{}', options jsonb DEFAULT '{}') RETURNS uuid
    LANGUAGE plpgsql AS $enqueue$
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
        expires numeric;
        traceparent text;
        card jsonb;
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
            WHERE key NOT IN ('queue', 'priority', 'delay', 'at', 'max_time', 'expires', 'id', 'traceparent') LIMIT 1;
        IF wrong IS NOT NULL THEN
            RAISE EXCEPTION 'no option `%`; there are `queue`, `priority`, `delay`, `at`, `max_time`, `expires`, `id` and `traceparent`', wrong;
        END IF;
        -- An option that is null is left out.
        options := jsonb_strip_nulls(options);
        IF jsonb_typeof(options -> 'queue') <> 'string' THEN
            RAISE EXCEPTION '`queue` is a text';
        END IF;
        -- What a call leaves out, the card of its task says, if there is one.
        SELECT c.value::jsonb INTO card FROM qtasks.cards c WHERE c.task = task;
        IF jsonb_typeof(card) = 'object' THEN
            IF jsonb_typeof(card -> 'unique') = 'object' THEN
                RAISE EXCEPTION 'of `%` there is one job at a time for each key, and a call in SQL has no key: enqueue it in Rust', task;
            END IF;
            options := jsonb_strip_nulls(jsonb_build_object(
                'queue', card -> 'queue', 'priority', card -> 'priority', 'expires', card -> 'expires')) || options;
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
        IF options ? 'expires' THEN
            IF jsonb_typeof(options -> 'expires') = 'number' THEN
                expires := least(ceil((options -> 'expires')::numeric * 1000), 9223372036854775807);
            END IF;
            IF expires IS NULL OR (options -> 'expires')::numeric < 0 THEN
                RAISE EXCEPTION '`expires` is a number of seconds, from 0 on';
            END IF;
        END IF;
        IF options ? 'id' THEN
            own := replace(lower(options ->> 'id'), '-', '');
            IF jsonb_typeof(options -> 'id') <> 'string' OR own !~ '^[0-9a-f]{32}$' THEN
                RAISE EXCEPTION '`id` is a UUID, as a text';
            END IF;
        END IF;
        IF options ? 'traceparent' THEN
            traceparent := options ->> 'traceparent';
            IF jsonb_typeof(options -> 'traceparent') <> 'string' OR traceparent !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' THEN
                RAISE EXCEPTION '`traceparent` is a text like `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`';
            END IF;
        END IF;
        -- A UUID of version 7, with the microseconds behind the milliseconds, so that ids sort by age.
        bytes := overlay(bytes PLACING substring(int8send(now) FROM 3) FROM 1 FOR 6);
        bytes := set_byte(set_byte(bytes, 6, 112 + (fine >> 8)), 7, fine & 255);
        id := coalesce(own, encode(bytes, 'hex'))::uuid;
        -- Up to the end of the year 9999.
        is_due := due <= now;
        is_fresh := is_due AND coalesce(priority, 0) = 0;
        INSERT INTO qtasks.jobs (id, queue, task, priority, state, list, fresh, due, max_time, enqueued, args, more)
            VALUES (id, queue, task, coalesce(priority, 0), is_due::int, CASE WHEN NOT is_fresh THEN is_due::int END,
                is_fresh, least(due, 253402207200000), max_time, now, stored,
                CASE WHEN expires IS NULL THEN traceparent
                    ELSE jsonb_strip_nulls(jsonb_build_object('trace', traceparent, 'expires', expires))::text END)
            ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO qtasks.deltas (queue, task, waiting) VALUES (queue, task, 1);
        ELSE
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
    $enqueue$;
