-- When a file goes by itself; null = never.
alter table files add column expires_at integer;
create index files_expiring on files (expires_at) where expires_at is not null;

-- Files that come in several requests.
create table uploads (
    row integer primary key autoincrement,
    id text not null unique,
    created_at integer not null,
    -- when it ends by itself unless it is completed
    expires_at integer not null,
    state text not null check (state in ('pending', 'completed', 'cancelled', 'expired')),
    -- of the whole file
    bytes integer not null,
    filename text not null,
    purpose text not null,
    -- seconds that the file is to live
    expires_after integer,
    -- once completed: the file, and the parts it was put together from
    file text,
    parts text
) strict;
create index uploads_pending on uploads (expires_at) where state = 'pending';

create table upload_parts (
    row integer primary key autoincrement,
    id text not null unique,
    upload integer not null references uploads (row) on delete cascade,
    created_at integer not null,
    bytes integer not null
) strict;
create index upload_parts_uploads on upload_parts (upload);

-- What requests have made, so that a request sent twice makes one thing.
create table requests (
    row integer primary key autoincrement,
    -- who asks for which kind of thing
    scope text not null,
    -- the client's Idempotency-Key, if it sent one
    key text,
    -- of what was asked for
    digest text not null,
    -- id of what was made
    object text not null,
    created_at integer not null
) strict;
create unique index requests_keys on requests (scope, key) where key is not null;
create index requests_digests on requests (scope, digest, created_at);
create index requests_ages on requests (created_at);

-- A tuned model goes without its job; its name stays in the job's answer.
alter table jobs add column model_deleted_at integer;
-- The end of a job's id is the end of its model's name, whether it has succeeded or not.
create index jobs_marks on jobs (substr(id, -8));

-- Where ends of jobs are told, and up to which event that has been taken care of.
create table webhook_targets (
    url text primary key,
    event integer not null
) strict, without rowid;

-- What is yet to be told; a row goes once it has been.
create table webhooks (
    row integer primary key autoincrement,
    id text not null unique,
    url text not null references webhook_targets (url) on delete cascade,
    body text not null,
    attempts integer not null default 0,
    due_at integer not null
) strict;
create index webhooks_due on webhooks (due_at);
