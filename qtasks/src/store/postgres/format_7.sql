
    ALTER TABLE qtasks.jobs RENAME COLUMN trace TO more;
    CREATE TABLE qtasks.expiring (at bigint NOT NULL, job uuid NOT NULL, PRIMARY KEY (at, job))
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
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
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON qtasks.expiring TO %s',
                CASE known.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(known.role) END);
        END LOOP;
    END
    $rights$;

