-- From the tables of the format 1 to those of the format 2.
ALTER TABLE qtasks.workers DROP COLUMN until, ADD COLUMN beat bigint, ADD COLUMN instance text,
    ADD COLUMN lost boolean NOT NULL DEFAULT false;
DELETE FROM qtasks.workers;
ALTER TABLE qtasks.jobs ADD COLUMN survived bigint, ADD COLUMN losses bigint, ADD COLUMN leased bigint,
    ADD COLUMN liable boolean;
CREATE INDEX jobs_suspects ON qtasks.jobs (queue, task, survived, (-(priority::int4)), id) WHERE state = 1 AND suspect;
UPDATE qtasks.jobs SET survived = 0, losses = 1 WHERE suspect;
UPDATE qtasks.format SET format = 2;
