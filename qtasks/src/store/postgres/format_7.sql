
    ALTER TABLE qtasks.jobs RENAME COLUMN trace TO more;
    CREATE TABLE qtasks.expiring (at bigint NOT NULL, job uuid NOT NULL, PRIMARY KEY (at, job))
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
    CREATE TABLE qtasks.keys (
        task text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        job uuid,
        until bigint,
        PRIMARY KEY (task, key)
    ) WITH (fillfactor = 70);
    CREATE INDEX keys_job ON qtasks.keys (job);
    CREATE INDEX keys_until ON qtasks.keys (until) WHERE until IS NOT NULL;
    -- With the rights of its owner: who may add a job may do this with it, and no more.
    CREATE FUNCTION qtasks.expire_later() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $expire$
    DECLARE
        expires numeric := NEW.more::json ->> 'expires';
    BEGIN
        IF expires IS NOT NULL THEN
            INSERT INTO qtasks.expiring (at, job) VALUES (least(NEW.due + expires, 9223372036854775807), NEW.id);
        END IF;
        RETURN NULL;
    END
    $expire$;
    CREATE TRIGGER expire_later AFTER INSERT ON qtasks.jobs FOR EACH ROW WHEN (left(NEW.more, 1) = '{')
        EXECUTE FUNCTION qtasks.expire_later();
    DO $rights$
    DECLARE
        known record;
    BEGIN
        FOR known IN
            SELECT r.grantee, p.rolname AS role
            FROM pg_class c, aclexplode(c.relacl) r LEFT JOIN pg_roles p ON p.oid = r.grantee
            WHERE c.oid = 'qtasks.jobs'::regclass AND r.grantee <> c.relowner AND r.privilege_type = 'UPDATE'
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON qtasks.expiring, qtasks.keys TO %s',
                CASE known.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(known.role) END);
        END LOOP;
    END
    $rights$;

