//! F2, F21, F26, F27: servers that are killed, ended, stopped and cut off at random times while clients go on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fastrand::Rng;
use rustix::process::Signal;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    check::{Part, Passed, Progress, Size},
    clients::{Whim, fulfil},
    promises::{self, Allowed},
    specs::{Kind, References, wishes},
    world::World,
};

/// Runs that go on beside one another.
const BESIDE: usize = 2;

/// What is done to a server.
#[derive(Debug, Clone, Copy)]
enum Act {
    Kill,
    Terminate,
    /// It sleeps for some milliseconds.
    Freeze(u64),
    /// Every connection breaks.
    Cut,
}

/// Acts, each after a wait in milliseconds; a seed gives always the same.
fn plan(random: &mut Rng) -> Vec<(u64, Act)> {
    let kills = random.usize(1..=3);
    let mut acts = vec![Act::Kill; kills];
    for other in [Act::Terminate, Act::Freeze(random.u64(50..400)), Act::Cut] {
        if random.u8(0..3) == 0 {
            acts.push(other);
        }
    }
    random.shuffle(&mut acts);
    acts.into_iter()
        .map(|act| (random.u64(20..900), act))
        .collect()
}

/// Runs of many seeds, each with one to three kills.
pub(crate) async fn at_random_times(size: Size) -> Result<Passed> {
    let seeds = match size {
        Size::Reduced => Part::WHOLE.take(0..8),
        Size::Full(part) => part.take(0..200),
    };
    let count = seeds.len();
    let references = Arc::new(References::make().await?);
    let room = Arc::new(Semaphore::new(BESIDE));
    let mut runs = JoinSet::new();
    for seed in seeds {
        let (references, room) = (references.clone(), room.clone());
        runs.spawn(async move {
            let _place = room.acquire().await?;
            let run = one(seed, &references).await;
            run.with_context(|| format!("seed {seed}"))
        });
    }
    let mut progress = Progress::new("seeds", count as u64);
    let mut sum = Sum::default();
    while let Some(run) = runs.join_next().await {
        sum.add(run??);
        progress.step();
    }
    Ok(Passed::new(format!(
        "{count} seeds, {} kills, {} other faults, {} jobs: {} with the same weights and curves as in peace, {} cancelled, {} given up after three crashes without a new checkpoint",
        sum.kills, sum.others, sum.jobs, sum.same, sum.cancelled, sum.crashed
    )))
}

/// What came of runs.
#[derive(Default)]
struct Sum {
    kills: usize,
    others: usize,
    jobs: usize,
    same: usize,
    cancelled: usize,
    crashed: usize,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.others += other.others;
        self.jobs += other.jobs;
        self.same += other.same;
        self.cancelled += other.cancelled;
        self.crashed += other.crashed;
    }
}

async fn one(seed: u64, references: &References) -> Result<Sum> {
    let mut world = World::running().await?;
    match disturbed(&mut world, seed, references).await {
        Ok(sum) => Ok(sum),
        Err(error) => Err(error.context(format!("everything lies in {}", world.keep()))),
    }
}

async fn disturbed(world: &mut World, seed: u64, references: &References) -> Result<Sum> {
    let mut random = Rng::with_seed(seed);
    let acts = plan(&mut random);
    let mut wishes = wishes(&[Kind::Lora, Kind::Best, Kind::Full]);
    let mut whims = Vec::new();
    if random.bool() {
        wishes.insert("doomed".to_owned(), Kind::Full);
        whims.push(("doomed", random.u64(0..1500), Whim::Cancel));
    }
    if random.bool() {
        whims.push(("lora", random.u64(0..1500), Whim::Rest));
    }
    let (site, all) = (world.site.clone(), wishes.clone());
    let clients = tokio::spawn(async move { fulfil(site, all, &whims).await });
    for (wait, act) in &acts {
        sleep(Duration::from_millis(*wait)).await;
        perform(world, *act).await?;
    }
    let ends = clients.await??;
    promises::assert(world, &wishes, references, Allowed::CRASHES).await?;
    let count = |state: &str| ends.iter().filter(|end| *end == state).count();
    let kills = acts
        .iter()
        .filter(|(_, act)| matches!(act, Act::Kill))
        .count();
    Ok(Sum {
        kills,
        others: acts.len() - kills,
        jobs: ends.len(),
        same: count("succeeded"),
        cancelled: count("cancelled"),
        crashed: count("failed"),
    })
}

async fn perform(world: &mut World, act: Act) -> Result<()> {
    match act {
        Act::Kill => {
            world.kill().await?;
            world.start().await
        }
        Act::Terminate => {
            world.terminate().await?;
            world.start().await
        }
        Act::Freeze(milliseconds) => {
            world.signal(Signal::STOP)?;
            sleep(Duration::from_millis(milliseconds)).await;
            world.signal(Signal::CONT)
        }
        Act::Cut => {
            world.note("cut")?;
            world.proxy.cut();
            Ok(())
        }
    }
}
