-- Times are Unix seconds. Columns named `row` are the row numbers that lists page by; ids are what clients see.

create table files (
    row integer primary key autoincrement,
    id text not null unique,
    bytes integer not null,
    created_at integer not null,
    filename text not null,
    purpose text not null,
    sha256 text not null
) strict;

create table jobs (
    row integer primary key autoincrement,
    id text not null unique,
    created_at integer not null,
    state text not null check (state in
        ('validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')),
    -- starts so far; raised by the claim, before the job runs
    attempt integer not null default 0,
    -- deaths of the server in a row under this job, back to 0 with each new checkpoint
    crashes integer not null default 0,
    priority integer not null default 0,
    spec text not null,
    training_file text not null generated always as (json_extract(spec, '$.training_file')) virtual,
    validation_file text generated always as (json_extract(spec, '$.validation_file')) virtual,
    plan text,
    -- last value of every figure
    metrics text not null default '{}',
    error text,
    started_at integer,
    finished_at integer,
    fine_tuned_model text,
    trained_tokens integer,
    result_files text not null default '[]'
) strict;

-- The claim reads one entry of this index; with the state as its first column it would sort the whole queue.
create index jobs_queue on jobs (priority desc, row) where state = 'queued';
-- Few jobs are open at a time, however many have ended.
create index jobs_open on jobs (state, row) where state in ('validating_files', 'queued', 'running', 'paused');
create index jobs_models on jobs (fine_tuned_model) where fine_tuned_model is not null;

create table events (
    -- grows over all jobs
    row integer primary key autoincrement,
    job integer not null references jobs (row) on delete cascade,
    -- grows by one per job, from 1
    seq integer not null,
    created_at integer not null,
    level text not null,
    kind text not null,
    message text not null,
    data text,
    unique (job, seq)
) strict;

create table metrics (
    job integer not null references jobs (row) on delete cascade,
    name text not null,
    step integer not null,
    -- null when not finite
    value real,
    primary key (job, name, step)
) strict, without rowid;

create table checkpoints (
    row integer primary key autoincrement,
    id text not null unique,
    job integer not null references jobs (row) on delete cascade,
    step integer not null,
    -- name of the folder in the job's checkpoints/
    folder text not null,
    created_at integer not null,
    bytes integer not null,
    metrics text not null,
    unique (job, step)
) strict;

create table artifacts (
    job integer not null references jobs (row) on delete cascade,
    -- relative to the job's output/
    path text not null,
    bytes integer not null,
    sha256 text not null,
    primary key (job, path)
) strict, without rowid;
