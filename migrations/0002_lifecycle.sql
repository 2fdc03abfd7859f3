-- What a user wants of a job that cannot follow at once; a crash in between must not lose it.
alter table jobs add column wish text check (wish in ('pause', 'cancel'));
