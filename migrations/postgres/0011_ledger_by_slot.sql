-- What makes a slot run once, with the slot first: what is due at one instant is claimed side by side on a few pages of the index, and
-- not on a page for each job. It serves questions by time as well, so the index for those is one write less.
ALTER TABLE job_runs DROP CONSTRAINT job_runs_job_scheduled_for_key;
DROP INDEX job_runs_by_time;
ALTER TABLE job_runs ADD UNIQUE (scheduled_for, job);
