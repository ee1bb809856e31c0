
    -- The door of format 9, with the time after which a call expires. What the card of a task says of that is for calls that do not.
    -- What stands on the cards that are still good, as far as it can be meant.
    CREATE VIEW qtasks_cards (task, queue, priority, expires, is_unique) AS
        SELECT name,
            CASE json_type(value, '$.queue') WHEN 'text' THEN json_extract(value, '$.queue') END,
            CASE json_type(value, '$.priority') WHEN 'integer' THEN json_extract(value, '$.priority') END,
            CASE WHEN json_type(value, '$.expires') IN ('integer', 'real') AND json_extract(value, '$.expires') >= 0
                THEN json_extract(value, '$.expires') END,
            json_type(value, '$.unique') IS 'object'
        FROM qtasks_notes
        WHERE kind = 'task' AND (until IS NULL OR until > CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER));

    -- What a call says is looked at here, and then handed on as values of their own, for a trigger has no variables.
    CREATE VIEW qtasks_named_call (name, task, args, queue, priority, now, wait, at, max_time, expires, trace) AS
        SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;
    CREATE VIEW qtasks_checked_call (id, task, args, queue, priority, now, due, max_time, expires, trace) AS
        SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;

    CREATE TRIGGER qtasks_check_call INSTEAD OF INSERT ON qtasks_enqueue BEGIN
        SELECT RAISE(ABORT, 'the options are JSON, as a text')
            WHERE typeof(NEW.options) NOT IN ('text', 'null') OR NOT json_valid(coalesce(NEW.options, 'null'));
        SELECT RAISE(ABORT, 'the options are an object by name')
            WHERE json_type(NEW.options) <> 'object';
        SELECT RAISE(ABORT, 'an option is not known; there are `queue`, `priority`, `delay`, `at`, `max_time`, `expires`, `traceparent` and `id`')
            FROM json_each(NEW.options)
            WHERE json_type(NEW.options) = 'object'
                AND key NOT IN ('queue', 'priority', 'delay', 'at', 'max_time', 'expires', 'traceparent', 'id');
        SELECT RAISE(ABORT, 'of this task there is one job at a time for each key, and a call in SQL has no key: enqueue it in Rust')
            FROM qtasks_cards AS card WHERE card.task = NEW.task AND card.is_unique;
        SELECT RAISE(ABORT, '`queue` is a text') WHERE json_type(NEW.options, '$.queue') NOT IN ('text', 'null');
        SELECT RAISE(ABORT, 'this is no name of a task or a queue: they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`')
            FROM (SELECT NEW.task AS name UNION ALL SELECT coalesce(json_extract(NEW.options, '$.queue'), 'default'))
            WHERE typeof(name) <> 'text' OR length(name) NOT BETWEEN 1 AND 128 OR name GLOB '*[^A-Za-z0-9_.:-]*'
                OR instr(name, char(0));
        SELECT RAISE(ABORT, 'the arguments are JSON, as a text')
            WHERE typeof(NEW.args) NOT IN ('text', 'null') OR NOT json_valid(coalesce(NEW.args, 'null'));
        SELECT RAISE(ABORT, 'the arguments are an object by parameter name') WHERE json_type(NEW.args) <> 'object';
        SELECT RAISE(ABORT, 'the arguments are larger than 1 MiB') WHERE length(CAST(NEW.args AS BLOB)) > 1048576;
        -- Without as many brackets it is not as deep; a key in quotes may have some of its own.
        SELECT RAISE(ABORT, 'the arguments are more than 128 arrays and objects deep')
            WHERE length(replace(replace(NEW.args, '[', ''), '{', '')) < length(NEW.args) - 128
                AND EXISTS (SELECT 1 FROM json_tree(NEW.args)
                    WHERE type IN ('object', 'array') AND instr(fullkey, '"') = 0
                        AND length(replace(replace(fullkey, '[', ''), '.', '')) <= length(fullkey) - 128);
        SELECT RAISE(ABORT, '`priority` is a whole number from -32768 to 32767')
            FROM (SELECT json_type(NEW.options, '$.priority') AS type, json_extract(NEW.options, '$.priority') AS value)
            WHERE type NOT IN ('integer', 'real', 'null')
                OR type <> 'null' AND (value <> CAST(value AS INTEGER) OR value NOT BETWEEN -32768 AND 32767);
        SELECT RAISE(ABORT, '`at` and `delay` both say when the job is due; leave one of them out')
            WHERE json_extract(NEW.options, '$.at') IS NOT NULL AND json_extract(NEW.options, '$.delay') IS NOT NULL;
        SELECT RAISE(ABORT, '`at` is a time like `2030-01-31T12:00:00Z`')
            FROM (SELECT json_type(NEW.options, '$.at') AS type, json_extract(NEW.options, '$.at') AS value)
            WHERE type NOT IN ('text', 'null') OR type = 'text'
                AND (value NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' OR julianday(value) IS NULL);
        SELECT RAISE(ABORT, '`delay` is a number of seconds, from 0 on')
            WHERE json_type(NEW.options, '$.delay') NOT IN ('integer', 'real', 'null')
                OR json_extract(NEW.options, '$.delay') < 0;
        SELECT RAISE(ABORT, '`max_time` is a number of seconds, from 0 on')
            WHERE json_type(NEW.options, '$.max_time') NOT IN ('integer', 'real', 'null')
                OR json_extract(NEW.options, '$.max_time') < 0;
        SELECT RAISE(ABORT, '`expires` is a number of seconds, from 0 on')
            WHERE json_type(NEW.options, '$.expires') NOT IN ('integer', 'real', 'null')
                OR json_extract(NEW.options, '$.expires') < 0;
        SELECT RAISE(ABORT, '`traceparent` is a text like `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`')
            FROM (SELECT json_type(NEW.options, '$.traceparent') AS type, json_extract(NEW.options, '$.traceparent') AS value)
            WHERE type NOT IN ('text', 'null') OR type = 'text'
                AND (length(value) <> 55 OR value GLOB '*[^0-9a-f-]*' OR instr(value, char(0))
                    OR value NOT GLOB '??-????????????????????????????????-????????????????-??'
                    OR length(replace(value, '-', '')) <> 52);
        SELECT RAISE(ABORT, 'the id is given twice, as `id` and in the options; leave one of them out')
            WHERE NEW.id IS NOT NULL AND json_extract(NEW.options, '$.id') IS NOT NULL;
        SELECT RAISE(ABORT, '`id` is a UUID, as a text')
            FROM (SELECT coalesce(NEW.id, json_extract(NEW.options, '$.id')) AS id)
            WHERE json_type(NEW.options, '$.id') NOT IN ('text', 'null')
                OR typeof(id) NOT IN ('text', 'blob', 'null')
                OR typeof(id) = 'blob' AND length(id) <> 16
                OR typeof(id) = 'text' AND (length(replace(id, '-', '')) <> 32
                    OR replace(lower(id), '-', '') GLOB '*[^0-9a-f]*' OR instr(id, char(0)));
        -- Bytes cannot be joined there.
        SELECT RAISE(ABORT, 'this file keeps text as UTF-16, so give the id as a blob of 16 bytes')
            WHERE length(CAST('x' AS BLOB)) > 1 AND typeof(NEW.id) <> 'blob';
        INSERT INTO qtasks_named_call (name, task, args, queue, priority, now, wait, at, max_time, expires, trace)
            SELECT
                CASE typeof(NEW.id) WHEN 'blob' THEN NEW.id ELSE replace(lower(coalesce(
                    NEW.id, json_extract(NEW.options, '$.id'), (SELECT id FROM qtasks_new_id))), '-', '') END,
                NEW.task,
                coalesce(NEW.args, '{}'),
                coalesce(json_extract(NEW.options, '$.queue'), (SELECT card.queue FROM qtasks_cards AS card WHERE card.task = NEW.task),
                    'default'),
                CAST(coalesce(json_extract(NEW.options, '$.priority'),
                    (SELECT card.priority FROM qtasks_cards AS card WHERE card.task = NEW.task), 0) AS INTEGER),
                CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER),
                -- Milliseconds; what is less than a thousandth of one is none.
                round(json_extract(NEW.options, '$.delay') * 1000, 3),
                CAST(round((julianday(json_extract(NEW.options, '$.at')) - 2440587.5) * 86400000) AS INTEGER),
                round(json_extract(NEW.options, '$.max_time') * 1000, 3),
                round(coalesce(json_extract(NEW.options, '$.expires'),
                    (SELECT card.expires FROM qtasks_cards AS card WHERE card.task = NEW.task)) * 1000, 3),
                json_extract(NEW.options, '$.traceparent');
    END;

    -- Rounds up, and makes bytes of the id: older SQLites have neither `ceil` nor `unhex`.
    CREATE TRIGGER qtasks_name_call INSTEAD OF INSERT ON qtasks_named_call BEGIN
        INSERT INTO qtasks_checked_call (id, task, args, queue, priority, now, due, max_time, expires, trace)
            SELECT
                CASE typeof(NEW.name) WHEN 'blob' THEN NEW.name ELSE CAST(substr(bytes, 16 * instr(digits, substr(hex, 1, 1)) + instr(digits, substr(hex, 2, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 3, 1)) + instr(digits, substr(hex, 4, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 5, 1)) + instr(digits, substr(hex, 6, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 7, 1)) + instr(digits, substr(hex, 8, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 9, 1)) + instr(digits, substr(hex, 10, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 11, 1)) + instr(digits, substr(hex, 12, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 13, 1)) + instr(digits, substr(hex, 14, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 15, 1)) + instr(digits, substr(hex, 16, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 17, 1)) + instr(digits, substr(hex, 18, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 19, 1)) + instr(digits, substr(hex, 20, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 21, 1)) + instr(digits, substr(hex, 22, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 23, 1)) + instr(digits, substr(hex, 24, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 25, 1)) + instr(digits, substr(hex, 26, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 27, 1)) + instr(digits, substr(hex, 28, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 29, 1)) + instr(digits, substr(hex, 30, 1)) - 16, 1)
                    || substr(bytes, 16 * instr(digits, substr(hex, 31, 1)) + instr(digits, substr(hex, 32, 1)) - 16, 1) AS BLOB) END,
                NEW.task, NEW.args, NEW.queue, NEW.priority, NEW.now,
                -- Up to the end of the year 9999.
                CASE
                    WHEN NEW.at IS NOT NULL THEN min(NEW.at, 253402207200000)
                    WHEN NEW.wait > 253402207200000 THEN 253402207200000
                    ELSE min(NEW.now + coalesce(CAST(NEW.wait AS INTEGER) + (NEW.wait > CAST(NEW.wait AS INTEGER)), 0),
                        253402207200000)
                END,
                CASE
                    WHEN NEW.max_time > 9e18 THEN 9223372036854775807
                    ELSE CAST(NEW.max_time AS INTEGER) + (NEW.max_time > CAST(NEW.max_time AS INTEGER))
                END,
                CASE
                    WHEN NEW.expires > 9e18 THEN 9223372036854775807
                    ELSE CAST(NEW.expires AS INTEGER) + (NEW.expires > CAST(NEW.expires AS INTEGER))
                END,
                NEW.trace
            FROM (SELECT NEW.name AS hex, '0123456789abcdef' AS digits,
                x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff' AS bytes);
    END;

    -- `INSERT OR REPLACE INTO qtasks_enqueue` would replace here too: so nothing is inserted that is there.
    CREATE TRIGGER qtasks_enqueue_call INSTEAD OF INSERT ON qtasks_checked_call BEGIN
        SELECT RAISE(ABORT, 'a job of this id is there, and is one of another task; an id names one call, so give this one another')
            FROM qtasks_jobs AS j JOIN qtasks_lanes AS l ON l.id = j.lane WHERE j.id = NEW.id AND l.task <> NEW.task;
        SELECT RAISE(ABORT, 'a job of this id is there with other arguments; an id names one call, so give this one another')
            FROM (SELECT coalesce(j.args, (SELECT a.args FROM qtasks_args AS a WHERE a.job = j.id)) AS args
                FROM qtasks_jobs AS j WHERE j.id = NEW.id) AS found
            WHERE json(found.args) <> json(NEW.args) AND (
                EXISTS (SELECT fullkey, type, atom FROM json_tree(found.args)
                    EXCEPT SELECT fullkey, type, atom FROM json_tree(NEW.args))
                OR EXISTS (SELECT fullkey, type, atom FROM json_tree(NEW.args)
                    EXCEPT SELECT fullkey, type, atom FROM json_tree(found.args)));
        INSERT INTO qtasks_lanes (queue, task) SELECT NEW.queue, NEW.task
            WHERE NOT EXISTS (SELECT 1 FROM qtasks_lanes WHERE queue = NEW.queue AND task = NEW.task);
        INSERT INTO qtasks_args (job, args) SELECT NEW.id, NEW.args
            WHERE length(CAST(NEW.args AS BLOB)) > 1024 AND NOT EXISTS (SELECT 1 FROM qtasks_jobs WHERE id = NEW.id)
                AND NOT EXISTS (SELECT 1 FROM qtasks_args WHERE job = NEW.id);
        UPDATE qtasks_lanes SET waiting = waiting + 1
            WHERE queue = NEW.queue AND task = NEW.task AND NOT EXISTS (SELECT 1 FROM qtasks_jobs WHERE id = NEW.id);
        INSERT INTO qtasks_expiring (at, job) SELECT min(NEW.due + min(NEW.expires, 253402207200000), 253402207200000), NEW.id
            WHERE NEW.expires IS NOT NULL AND NOT EXISTS (SELECT 1 FROM qtasks_jobs WHERE id = NEW.id);
        INSERT INTO qtasks_jobs (id, lane, rank, state, counted, due, max_time, enqueued, args, more)
            SELECT NEW.id, l.id, -NEW.priority, NEW.due <= NEW.now, NEW.due <= NEW.now, NEW.due, NEW.max_time, NEW.now,
                CASE WHEN length(CAST(NEW.args AS BLOB)) <= 1024 THEN NEW.args END,
                CASE
                    WHEN NEW.expires IS NULL THEN NEW.trace
                    WHEN NEW.trace IS NULL THEN json_object('expires', NEW.expires)
                    ELSE json_object('trace', NEW.trace, 'expires', NEW.expires)
                END
            FROM qtasks_lanes AS l
            WHERE l.queue = NEW.queue AND l.task = NEW.task AND NOT EXISTS (SELECT 1 FROM qtasks_jobs WHERE id = NEW.id);
    END;
