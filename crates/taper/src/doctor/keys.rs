//! Who would be served.

use taper_core::Role;
use taper_store::{ApiKey, known_keys};

use super::Finding;
use crate::settings::Settings;

const WHAT: &str = "keys";

pub(super) async fn examine(settings: &Settings) -> Finding {
    if let Err(error) = settings.require_key().await {
        return Finding::bad(WHAT, error.to_string());
    }
    match known_keys(&settings.data_dir).await {
        Ok(known) => judge(&known, settings.api_key.is_some()),
        Err(error) => Finding::bad(WHAT, error.to_string()),
    }
}

/// What the keys of a data directory mean, together with the one of the environment, if there is one.
fn judge(known: &[ApiKey], environment: bool) -> Finding {
    let in_force: Vec<_> = known
        .iter()
        .filter(|key| key.revoked_at.is_none())
        .collect();
    if known.is_empty() && !environment {
        let says = "none: whoever uses this machine is served, and nobody else";
        return Finding::good(WHAT, says);
    }
    if in_force.is_empty() && !environment {
        let says = "all are revoked, so nobody is served; taper keys create makes another";
        return Finding::doubtful(WHAT, says);
    }
    let mut parts = Vec::new();
    for role in Role::ALL {
        match in_force.iter().filter(|key| key.role == role).count() {
            0 => {}
            count => parts.push(format!("{count} {role}")),
        }
    }
    if environment {
        parts.push("TAPER_API_KEY (admin)".to_owned());
    }
    Finding::good(WHAT, parts.join(", "))
}
