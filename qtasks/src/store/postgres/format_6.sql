
    SET LOCAL enable_seqscan = on;
    ALTER TABLE qtasks.jobs RENAME COLUMN line TO list;
    ALTER TABLE qtasks.pruned RENAME TO remains;
    ALTER TABLE qtasks.jobs ADD COLUMN trace text;
    UPDATE qtasks.jobs SET list = 3 WHERE state = 4;
    CREATE INDEX jobs_dead ON qtasks.jobs (uuid_send(id)) WHERE list = 3;
    CREATE TABLE qtasks.counts (
        queue text COLLATE "C" NOT NULL,
        task text COLLATE "C" NOT NULL,
        waiting bigint NOT NULL,
        running bigint NOT NULL,
        done bigint NOT NULL,
        dead bigint NOT NULL,
        cancelled bigint NOT NULL,
        PRIMARY KEY (queue, task)
    ) WITH (fillfactor = 50);
    INSERT INTO qtasks.counts
        SELECT queue, task, count(*) FILTER (WHERE state <= 1), count(*) FILTER (WHERE state = 2),
            count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4), count(*) FILTER (WHERE state = 5)
        FROM qtasks.jobs GROUP BY queue, task;
    CREATE TABLE qtasks.deltas (
        waiting int,
        running int,
        done int,
        dead int,
        cancelled int,
        queue text COLLATE "C" NOT NULL,
        task text COLLATE "C" NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
    ALTER TABLE qtasks.deltas REPLICA IDENTITY FULL;
    CREATE TABLE qtasks.notes (
        kind text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        version uuid NOT NULL,
        value text NOT NULL,
        until bigint,
        PRIMARY KEY (kind, name)
    );
    ALTER TABLE qtasks.attempts ADD COLUMN steps bigint;
    CREATE TABLE qtasks.rates (
        span smallint NOT NULL,
        start bigint NOT NULL,
        queue text COLLATE "C" NOT NULL,
        task text COLLATE "C" NOT NULL,
        numbers bigint[] NOT NULL,
        PRIMARY KEY (span, start, queue, task)
    ) WITH (fillfactor = 50);
    CREATE VIEW qtasks.cards WITH (security_barrier = true) AS
        SELECT name AS task, value FROM qtasks.notes
        WHERE kind = 'task' AND coalesce(until > extract(epoch FROM clock_timestamp()) * 1000, true);
    DO $rights$
    DECLARE
        known record;
        who text;
    BEGIN
        FOR known IN
            SELECT r.grantee, p.rolname AS role, r.privilege_type AS may, true AS whole
            FROM pg_class c, aclexplode(c.relacl) r LEFT JOIN pg_roles p ON p.oid = r.grantee
            WHERE c.oid = 'qtasks.jobs'::regclass AND r.grantee <> c.relowner
            UNION
            SELECT r.grantee, p.rolname, r.privilege_type, false
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) r
                LEFT JOIN pg_roles p ON p.oid = r.grantee
            WHERE c.oid = 'qtasks.jobs'::regclass AND r.grantee <> c.relowner
        LOOP
            who := CASE known.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(known.role) END;
            IF known.may = 'INSERT' THEN
                EXECUTE format('GRANT INSERT ON qtasks.deltas TO %s', who);
                EXECUTE format('GRANT SELECT ON qtasks.cards TO %s', who);
                EXECUTE format('GRANT INSERT (trace) ON qtasks.jobs TO %s', who);
            ELSIF known.may = 'SELECT' AND known.whole THEN
                EXECUTE format('GRANT SELECT ON qtasks.counts, qtasks.deltas, qtasks.notes, qtasks.cards, qtasks.rates TO %s', who);
            ELSIF known.may = 'UPDATE' AND known.whole THEN
                EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON qtasks.counts, qtasks.deltas, qtasks.notes, qtasks.rates TO %s', who);
            END IF;
        END LOOP;
    END
    $rights$;
