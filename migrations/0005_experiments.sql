-- Jobs that are compared with each other.
create table experiments (
    row integer primary key autoincrement,
    id text not null unique,
    project text not null default 'default',
    created_at integer not null,
    -- what is compared and how, with every value in force
    spec text not null,
    -- a user has paused it as a whole: what waits at a rung is not decided upon
    paused integer not null default 0
) strict;

alter table jobs add column experiment_id text references experiments (id);
-- which of the experiment's configurations it runs
alter table jobs add column configuration integer;
-- the step at which it waits for the other runs of its experiment; null = it goes on to its end
alter table jobs add column pause_at_step integer;
-- why its experiment has stopped it; null = it was not its experiment
alter table jobs add column reason text check (reason in ('rung', 'stopped_early'));

create index jobs_experiments on jobs (experiment_id) where experiment_id is not null;
create index jobs_rungs on jobs (experiment_id) where reason = 'rung';
