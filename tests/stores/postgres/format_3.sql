-- From the tables of the format 2 to those of the format 3.
ALTER TABLE qtasks.format ADD COLUMN store uuid NOT NULL DEFAULT gen_random_uuid();
UPDATE qtasks.format SET format = 3;
