//! F1, F3, F8, F9: every point at which something becomes durable is a system call. The server dies at the first one, at the
//! second one and so on, or the call fails, until a run passes without reaching the next one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    check::{Passed, Progress, Size},
    clients::fulfil,
    inject::{self, Fault, wrapper},
    promises::{self, Allowed},
    specs::{Kind, References, wishes},
    world::World,
};

const BESIDE: usize = 2;
const CALLS: [&str; 5] = ["fsync", "rename", "pwrite64", "unlinkat", "mkdir"];

/// One run: which call goes wrong, and how.
#[derive(Debug, Clone, Copy)]
struct Point {
    call: &'static str,
    nth: u32,
    fault: Fault,
    onwards: bool,
}

/// The server dies at the n-th call of a thread.
pub(crate) async fn deaths(size: Size) -> Result<Passed> {
    let points = points(size, &CALLS, Fault::Death);
    all(points, Allowed::NOTHING).await
}

/// The n-th fsync of a thread fails, as on a failing disk. (SQLite as it is linked in knows no fdatasync.)
pub(crate) async fn failing_fsyncs(size: Size) -> Result<Passed> {
    let points = points(size, &["fsync"], Fault::Error("EIO"));
    all(points, Allowed(&["io", "internal"])).await
}

/// The n-th write of the database fails, as on a full disk.
pub(crate) async fn full_database(size: Size) -> Result<Passed> {
    let points = points(size, &["pwrite64"], Fault::Error("ENOSPC"));
    all(points, Allowed(&["io", "internal"])).await
}

fn points(size: Size, calls: &[&'static str], fault: Fault) -> Vec<Point> {
    let numbers: Vec<u32> = match size {
        Size::Reduced => vec![2, 9],
        // Close together where uploads, jobs and the first checkpoints are made, then thinner.
        Size::Full(_) => (1..=40).chain((43..=120).step_by(7)).collect(),
    };
    let point = |call| {
        numbers.iter().map(move |nth| Point {
            call,
            nth: *nth,
            fault,
            onwards: false,
        })
    };
    let points = calls.iter().copied().flat_map(point);
    match size {
        Size::Reduced => points.collect(),
        Size::Full(part) => part.take(points),
    }
}

async fn all(points: Vec<Point>, allowed: Allowed) -> Result<Passed> {
    if let Some(reason) = inject::missing().await {
        return Ok(Passed::Skipped(reason));
    }
    let references = Arc::new(References::make().await?);
    let room = Arc::new(Semaphore::new(BESIDE));
    let mut runs = JoinSet::new();
    let mut progress = Progress::new("points", points.len() as u64);
    for point in points {
        let (references, room) = (references.clone(), room.clone());
        runs.spawn(async move {
            let _place = room.acquire().await?;
            let run = one(point, &references, allowed).await;
            run.with_context(|| format!("{point:?}"))
                .map(|it| (point.call, it))
        });
    }
    let mut reached = BTreeMap::<&str, (u32, u32)>::new();
    let mut failed = 0;
    while let Some(run) = runs.join_next().await {
        let (call, it) = run??;
        let count = reached.entry(call).or_default();
        count.0 += u32::from(it.died);
        count.1 += 1;
        failed += it.failed;
        progress.step();
    }
    let reached: Vec<_> = reached
        .iter()
        .map(|(call, (died, all))| format!("{call} {died} of {all}"))
        .collect();
    Ok(Passed::new(format!(
        "points with a death: {}; {failed} jobs failed with a reason",
        reached.join(", ")
    )))
}

struct Run {
    died: bool,
    failed: usize,
}

async fn one(point: Point, references: &References, allowed: Allowed) -> Result<Run> {
    let mut world = World::new().await?;
    match disturbed(&mut world, point, references, allowed).await {
        Ok(run) => Ok(run),
        Err(error) => Err(error.context(format!("everything lies in {}", world.keep()))),
    }
}

async fn disturbed(
    world: &mut World,
    point: Point,
    references: &References,
    allowed: Allowed,
) -> Result<Run> {
    let words = wrapper(point.call, point.fault, point.nth, point.onwards);
    let command = world.folders.command_under(&words)?;
    let wishes = wishes(&[Kind::Short]);
    let clients = tokio::spawn(fulfil(world.site.clone(), wishes.clone(), &[]));
    // It may die before it listens.
    let mut died = world.start_as(command).await.is_err();
    while !died && !clients.is_finished() {
        sleep(Duration::from_millis(20)).await;
        died = world.server()?.has_ended()?.is_some();
    }
    if died {
        world.note("has died")?;
        drop(world.take());
        world.start().await?;
    }
    let ends = clients.await??;
    promises::assert(world, &wishes, references, allowed).await?;
    Ok(Run {
        died,
        failed: ends.iter().filter(|end| *end == "failed").count(),
    })
}
