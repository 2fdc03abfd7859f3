-- Whose a thing is. What was made before there were keys is the project's that needs none.
alter table files add column project text not null default 'default';
alter table jobs add column project text not null default 'default';
alter table uploads add column project text not null default 'default';
create index files_projects on files (project, row);
create index jobs_projects on jobs (project, row);

-- A row stays after its key was revoked: a server that has had a key is never open again.
create table keys (
    id text primary key,
    -- sha256 of the secret, in hex
    digest text not null,
    role text not null check (role in ('admin', 'submit', 'read')),
    -- null = all of them
    project text check (project is not null or role = 'admin'),
    name text not null,
    created_at integer not null,
    -- to the minute
    last_used_at integer,
    revoked_at integer
) strict, without rowid;

-- Pages that have signed in.
create table sessions (
    -- sha256 of what the cookie holds, in hex
    id text primary key,
    -- null = the key of the server's environment, whose digest the id then takes in
    key text references keys (id) on delete cascade,
    expires_at integer not null
) strict, without rowid;
create index sessions_expiring on sessions (expires_at);
