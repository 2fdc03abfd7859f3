use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;
use serde::{Deserialize, Serialize};
use taper_server::Traffic;

/// Settings of what callers may ask of the server.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LimitsFlags {
    /// Connections in all; further ones wait [default: 4096, and at most half of the files that the process may open]
    #[arg(long, env = "TAPER_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<NonZeroUsize>,

    /// Connections of one address, or one network of IPv6; further ones are closed; 0 = no limit [default: 64]
    #[arg(long, env = "TAPER_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_address: Option<usize>,

    /// Requests a second of one address, and of one key; further ones get 429; 0 = no limit [default: 100]
    #[arg(long, env = "TAPER_REQUESTS_PER_SECOND", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<u32>,

    /// Limit callers on this machine, too
    #[arg(long, env = "TAPER_LIMIT_LOOPBACK", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_loopback: Option<bool>,
}

/// The same settings with their values in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    connections: NonZeroUsize,
    connections_per_address: usize,
    requests_per_second: u32,
    limit_loopback: bool,
}

impl Default for Limits {
    fn default() -> Self {
        let traffic = Traffic::default();
        Self {
            connections: traffic.connections,
            connections_per_address: traffic.connections_per_address.map_or(0, NonZeroUsize::get),
            requests_per_second: traffic.requests_per_second.map_or(0, NonZeroU32::get),
            limit_loopback: traffic.on_loopback,
        }
    }
}

impl Limits {
    /// `open_files`: the most files that this process may have open. Half of them are left to database, uploads and results.
    pub(crate) fn traffic(&self, open_files: usize) -> Traffic {
        let room = NonZeroUsize::new(open_files / 2).unwrap_or(NonZeroUsize::MIN);
        Traffic {
            connections: self.connections.min(room),
            connections_per_address: NonZeroUsize::new(self.connections_per_address),
            requests_per_second: NonZeroU32::new(self.requests_per_second),
            on_loopback: self.limit_loopback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        let limits = Limits::default();
        assert_eq!(limits.traffic(64).connections.get(), 32);
        assert_eq!(limits.traffic(1 << 20).connections.get(), 4096);
        assert_eq!(limits.traffic(0).connections.get(), 1);
    }

    #[test]
    fn no_requests_a_second_are_no_limit() {
        let limits = Limits {
            connections_per_address: 0,
            requests_per_second: 0,
            ..Limits::default()
        };
        let traffic = limits.traffic(1024);
        assert_eq!(traffic.connections_per_address, None);
        assert_eq!(traffic.requests_per_second, None);
    }
}
