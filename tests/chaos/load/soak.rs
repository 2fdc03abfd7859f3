//! L10: submissions, watchers, cancels and kills for ten minutes; memory, open files and the log stay where they are.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use tokio::time::sleep;

use crate::{
    check::{Passed, Size, say},
    clients::{Whim, fulfil},
    load::figures::{Usage, wal_bytes},
    promises::{self, Allowed},
    specs::{Kind, References},
    world::World,
};

const WAL_MIB: f64 = 64.0;
/// Growth of memory from the middle of a server's life to its end. The target of 1 MiB an hour is below what ten minutes can show.
const GROWTH_MIB: f64 = 8.0;

pub(crate) async fn soak(size: Size) -> Result<Passed> {
    let (minutes, kills) = match size {
        Size::Reduced => (0.3, 2),
        Size::Full(_) => (10.0, 4),
    };
    let references = References::make().await?;
    let mut world = World::running().await?;
    let mut wishes = BTreeMap::new();
    let mut random = Rng::with_seed(10);
    let mut life = Life::default();
    let (began, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut next_kill = length / (kills + 1);
    while began.elapsed() < length {
        let batch = batch(&mut random, wishes.len());
        wishes.extend(batch.clone());
        let whims: Vec<_> = batch
            .keys()
            .filter_map(|key| {
                whim(&mut random).map(|whim| (key.as_str(), random.u64(0..800), whim))
            })
            .collect();
        fulfil(world.site.clone(), batch.clone(), &whims).await?;
        let usage = Usage::of(world.server()?.pid()?)?;
        life.add(usage, wal_bytes(&world.folders.data()));
        if began.elapsed() > next_kill {
            next_kill += length / (kills + 1);
            say(format_args!(
                "  {:.0} s: {life}",
                began.elapsed().as_secs_f64()
            ));
            life.end_of_server();
            world.kill().await?;
            world.start().await?;
        }
        sleep(Duration::from_millis(10)).await;
    }
    life.end_of_server();
    promises::assert(&world, &wishes, &references, Allowed::CRASHES).await?;
    let figures = format!(
        "{minutes} minutes, {} jobs, {kills} kills, every promise kept: {life}",
        wishes.len()
    );
    let held = life.growth <= GROWTH_MIB && life.wal_mib <= WAL_MIB && life.files_grown <= 4;
    ensure!(
        held,
        "below the targets (log {WAL_MIB} MiB, +{GROWTH_MIB} MiB): {figures}"
    );
    Ok(Passed::new(figures))
}

/// Jobs that are wanted together.
fn batch(random: &mut Rng, number: usize) -> BTreeMap<String, Kind> {
    let mut batch = BTreeMap::new();
    for place in 0..random.usize(1..=4) {
        let kind = Kind::ALL[random.usize(0..Kind::ALL.len())];
        batch.insert(format!("{number}-{place}"), kind);
    }
    batch
}

fn whim(random: &mut Rng) -> Option<Whim> {
    match random.u8(0..8) {
        0 => Some(Whim::Cancel),
        1 => Some(Whim::Rest),
        _ => None,
    }
}

/// What the servers of a soak have used.
#[derive(Default)]
struct Life {
    /// Of the present server, by time.
    usages: Vec<Usage>,
    /// The most that a server has grown from the middle of its life to its end, in MiB.
    growth: f64,
    files_grown: usize,
    most_mib: f64,
    wal_mib: f64,
}

impl Life {
    fn add(&mut self, usage: Usage, wal_bytes: u64) {
        self.usages.push(usage);
        self.most_mib = self.most_mib.max(usage.rss_mib());
        self.wal_mib = self.wal_mib.max(wal_bytes as f64 / (1 << 20) as f64);
    }

    fn end_of_server(&mut self) {
        let usages = std::mem::take(&mut self.usages);
        let [.., last] = &usages[..] else { return };
        let middle = &usages[usages.len() / 2];
        self.growth = self.growth.max(last.rss_mib() - middle.rss_mib());
        self.files_grown = self
            .files_grown
            .max(last.files.saturating_sub(middle.files));
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "memory at most {:.0} MiB, {:+.1} MiB over the second half of a server's life, open files {:+}, log at most {:.1} MiB",
            self.most_mib, self.growth, self.files_grown, self.wal_mib
        )
    }
}
