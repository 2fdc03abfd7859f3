use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::webhooks::Webhooks;

/// What the server must know of its surroundings.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address it listens on; its IP address is a name under which the server may be called.
    pub bound: SocketAddr,
    /// Further names under which it may be called, without ports.
    pub allow_hosts: Vec<String>,
    /// A key for everything that is not in the store; `None` = there is none.
    pub token: Option<Token>,
    /// The most bytes that an uploaded file may have.
    pub upload_limit: u64,
    /// How often a silent event stream shows that it lives.
    pub keep_alive: Duration,
    /// How much callers may ask.
    pub traffic: Traffic,
    /// Where ends of jobs are told; `None` = nowhere.
    pub webhooks: Option<Webhooks>,
}

impl ServerConfig {
    /// OpenAI's limit on one file.
    pub const UPLOAD_LIMIT: u64 = 512 << 20;
    /// Shorter than the patience of usual proxies.
    pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

    /// A server without a token, called only by its address.
    pub fn new(bound: SocketAddr) -> Self {
        Self {
            bound,
            allow_hosts: Vec::new(),
            token: None,
            upload_limit: Self::UPLOAD_LIMIT,
            keep_alive: Self::KEEP_ALIVE,
            traffic: Traffic::default(),
            webhooks: None,
        }
    }

    /// Tells whether a client shows the token.
    pub(crate) fn is_token(&self, shown: &str) -> bool {
        self.token
            .as_ref()
            .is_some_and(|token| token.matches(shown))
    }

    /// The digest of the token; empty without one.
    pub(crate) fn token_digest(&self) -> &[u8] {
        self.token.as_ref().map_or(&[], |token| &token.0)
    }
}

/// How much one caller, and all together, may ask of the server. An address of IPv6 stands for its network of 2⁶⁴.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Connections in all; further ones wait.
    pub connections: NonZeroUsize,
    /// Connections of one address, further ones are closed; `None` = as many as in all.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Requests a second of one address, and of one key; `None` = as many as may come.
    pub requests_per_second: Option<NonZeroU32>,
    /// Whether that holds for this machine too, apart from the connections in all, which always count.
    pub on_loopback: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            connections: const { NonZeroUsize::new(4096).expect("not 0") },
            connections_per_address: NonZeroUsize::new(64),
            requests_per_second: NonZeroU32::new(100),
            on_loopback: false,
        }
    }
}

/// A secret that clients show; only its digest is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Tells whether `secret` is the token, in a time that tells nothing of where the two differ.
    fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::new(secret).0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
