//! Whose certificates the targets of webhooks may show.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Authorities that sign certificates.
#[derive(Clone)]
pub struct TrustStore(RootCertStore);

/// A file that was to name authorities.
#[derive(Debug, thiserror::Error)]
#[error("{} must hold certificates of authorities in PEM: {reason}", .path.display())]
pub struct InvalidAuthorities {
    path: PathBuf,
    reason: String,
}

impl TrustStore {
    /// Those that the system knows; where it knows none, as in a bare container, those of Mozilla's list.
    pub fn of_system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "some of the system's certificates cannot be read");
        }
        // Systems keep some that are out of use.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self(roots)
    }

    /// These, and those of a file.
    ///
    /// # Errors
    /// A file that cannot be read, holds none, or something else.
    pub fn and(mut self, path: &Path) -> Result<Self, InvalidAuthorities> {
        let unfit = |reason: String| InvalidAuthorities {
            path: path.to_owned(),
            reason,
        };
        let known = self.0.len();
        let found =
            CertificateDer::pem_file_iter(path).map_err(|error| unfit(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unfit(error.to_string()))?;
            let added = self.0.add(certificate);
            added.map_err(|error| unfit(error.to_string()))?;
        }
        if self.0.len() == known {
            return Err(unfit("there is none".to_owned()));
        }
        Ok(self)
    }

    /// How a client of theirs speaks TLS.
    pub(crate) fn into_config(self) -> ClientConfig {
        let provider = Arc::new(ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_root_certificates(self.0)
            .with_no_client_auth()
    }
}

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustStore({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, text) in [
            ("empty.pem", ""),
            ("key.pem", "no PEM"),
            ("broken.pem", broken),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let refused = TrustStore::of_system().and(&path).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
        assert!(
            TrustStore::of_system()
                .and(Path::new("/nowhere.pem"))
                .is_err()
        );
    }
}
