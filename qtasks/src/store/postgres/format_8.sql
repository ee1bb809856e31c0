
    ALTER TABLE qtasks.jobs ADD COLUMN awaited boolean;
    CREATE INDEX expiring_job ON qtasks.expiring (job);
    CREATE TABLE qtasks.waits (
        parent uuid NOT NULL,
        job uuid NOT NULL,
        runs boolean NOT NULL,
        PRIMARY KEY (parent, job)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
    CREATE INDEX waits_job ON qtasks.waits (job);
    -- What the ends of jobs mean for those that wait for them, and for those that wait for the ones that are cancelled so.
    CREATE FUNCTION qtasks.release(over uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $release$
    DECLARE
        news text := '- work';
        changed uuid[];
        cancelled uuid[];
    BEGIN
        WHILE cardinality(over) > 0 LOOP
            -- In one order, and before anything is looked at: another transaction may be about to let them on.
            PERFORM FROM qtasks.jobs j WHERE j.id IN (SELECT w.job FROM qtasks.waits w WHERE w.parent = ANY (over))
                ORDER BY j.id FOR NO KEY UPDATE;
            WITH gone AS (
                DELETE FROM qtasks.waits w WHERE w.parent = ANY (over) RETURNING w.parent, w.job, w.runs
            ), parents AS (
                SELECT g.job, g.parent, coalesce(p.ended, 0) AS ended, NOT g.runs AND p.state > 3 AS fails,
                    CASE p.state WHEN 4 THEN 'dead' ELSE 'cancelled' END AS state
                FROM gone g LEFT JOIN qtasks.jobs p ON p.id = g.parent
            ), judged AS (
                SELECT p.job, max(p.ended) AS ended, min(p.parent::text || ' is ' || p.state) FILTER (WHERE p.fails) AS reason,
                    (SELECT count(*) FROM qtasks.waits w WHERE w.job = p.job AND w.parent <> ALL (over)) AS parents
                FROM parents p GROUP BY p.job
            ), let_on AS (
                UPDATE qtasks.jobs j SET
                    state = CASE WHEN n.reason IS NOT NULL THEN 5 WHEN n.parents > 0 THEN -1 ELSE (j.due <= n.ended)::int END,
                    list = CASE WHEN n.reason IS NULL AND n.parents = 0 THEN (j.due <= n.ended)::int END,
                    due = CASE WHEN n.reason IS NULL AND n.parents = 0 THEN greatest(j.due, n.ended) ELSE j.due END,
                    ended = CASE WHEN n.reason IS NOT NULL THEN n.ended END,
                    outcome = CASE WHEN n.reason IS NOT NULL THEN to_json(n.reason)::text WHEN n.parents > 0 THEN n.parents::text END,
                    awaited = CASE WHEN n.reason IS NULL THEN j.awaited END
                FROM judged n WHERE j.id = n.job AND j.state = -1
                RETURNING j.id, j.queue, j.task, j.state, j.due, j.more
            ), counted AS (
                INSERT INTO qtasks.deltas (queue, task, waiting, cancelled)
                SELECT l.queue, l.task, -count(*), count(*) FROM let_on l WHERE l.state = 5 GROUP BY l.queue, l.task
            ), expiring AS (
                INSERT INTO qtasks.expiring (at, job)
                SELECT least(l.due + (l.more::json ->> 'expires')::numeric, 9223372036854775807), l.id FROM let_on l
                WHERE l.state IN (0, 1) AND left(l.more, 1) = '{' AND l.more::json ->> 'expires' IS NOT NULL
                ON CONFLICT DO NOTHING
            )
            SELECT coalesce(array_agg(l.id) FILTER (WHERE l.state < 5), '{}'), coalesce(array_agg(l.id) FILTER (WHERE l.state = 5), '{}')
                INTO changed, cancelled FROM let_on l;
            IF cardinality(changed) + cardinality(cancelled) + length(news) / 40 > 150 THEN
                news := '- all';
            ELSIF news <> '- all' THEN
                news := concat_ws(' ', news, (SELECT string_agg('job:' || id, ' ') FROM unnest(changed || cancelled) AS id),
                    (SELECT string_agg('end:' || id, ' ') FROM unnest(cancelled) AS id));
            END IF;
            over := cancelled;
        END LOOP;
        PERFORM pg_notify('qtasks.news', news);
    END
    $release$;
    -- It takes the word of who calls it that these jobs have ended, and does so with the rights of its owner.
    REVOKE ALL ON FUNCTION qtasks.release(uuid[]) FROM PUBLIC;
    CREATE FUNCTION qtasks.let_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $let_on$
    BEGIN
        IF OLD.state = -1 THEN
            DELETE FROM qtasks.waits w WHERE w.job = NEW.id;
        END IF;
        IF NEW.awaited THEN
            PERFORM qtasks.release(ARRAY[NEW.id]);
        END IF;
        RETURN NULL;
    END
    $let_on$;
    CREATE TRIGGER let_on AFTER UPDATE OF state ON qtasks.jobs FOR EACH ROW
        WHEN (NEW.state >= 3 AND (NEW.awaited OR OLD.state = -1)) EXECUTE FUNCTION qtasks.let_on();
    -- At the commit, so that no transaction of the application holds up the writes of a job that another one is to wait for.
    CREATE FUNCTION qtasks.await() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $await$
    DECLARE
        state smallint;
    BEGIN
        -- Waits for those who write the job, for one of them may end it.
        SELECT j.state INTO state FROM qtasks.jobs j WHERE j.id = NEW.parent FOR NO KEY UPDATE;
        IF state <= 2 THEN
            UPDATE qtasks.jobs j SET awaited = true WHERE j.id = NEW.parent AND j.awaited IS NULL;
        ELSE
            PERFORM qtasks.release(ARRAY[NEW.parent]);
        END IF;
        RETURN NULL;
    END
    $await$;
    CREATE CONSTRAINT TRIGGER await AFTER INSERT ON qtasks.waits DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        EXECUTE FUNCTION qtasks.await();
    DO $rights$
    DECLARE
        known record;
    BEGIN
        FOR known IN
            SELECT r.grantee, p.rolname AS role
            FROM pg_class c, aclexplode(c.relacl) r LEFT JOIN pg_roles p ON p.oid = r.grantee
            WHERE c.oid = 'qtasks.jobs'::regclass AND r.grantee <> c.relowner AND r.privilege_type = 'UPDATE'
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON qtasks.waits TO %s',
                CASE known.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(known.role) END);
        END LOOP;
    END
    $rights$;
