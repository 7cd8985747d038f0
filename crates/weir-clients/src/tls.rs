//! Whom Weir trusts over TLS: the authorities of the machine, and those of a file.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use weir_config::files;

/// Largest PEM file that is read, bytes: the authorities that a distribution ships are a tenth of it.
pub(crate) const PEM_BYTES: u64 = 4 << 20;

/// Authorities whose word for a server's certificate counts.
#[derive(Debug, Clone)]
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// The machine's authorities, and those of `file`, in PEM.
    ///
    /// # Errors
    /// As [`certificates`].
    pub fn new(file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // What of the machine's cannot be read is left out: an image may have none, and plain http needs none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = file {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        Ok(Self(Arc::new(roots)))
    }

    /// How a client speaks TLS to servers that these vouch for.
    ///
    /// # Errors
    /// What the library finds wrong with its own defaults, which is nothing.
    pub(crate) fn config(&self) -> Result<ClientConfig, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        Ok(config.with_root_certificates(self.0.clone()).with_no_client_auth())
    }
}

/// The certificates of a PEM file, of which there is one at least.
///
/// # Errors
/// A file that cannot be read, is too large, holds no certificate or one that is none; the text names it.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("{} {why}", file.display());
    let bytes = files::read(file, PEM_BYTES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| wrong(format!("is no PEM file: {e}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let nowhere = folder.path().join("nowhere.pem");
        let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        for (path, why) in [
            (nowhere, "cannot be read"),
            (at("empty.pem", ""), "holds no certificate"),
            (at("text.pem", "hello"), "holds no certificate"),
            (at("cut.pem", cut), "is no PEM file"),
            ("/dev/zero".into(), "no regular file"),
        ] {
            let error = certificates(&path).unwrap_err();
            assert!(error.starts_with(&path.display().to_string()) && error.contains(why), "{error}");
            assert!(Trust::new(Some(&path)).is_err());
        }
        // PEM, and nothing that anybody could have signed by.
        let hollow = at("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(Trust::new(Some(&hollow)).unwrap_err().contains("hollow.pem"));
    }

    #[test]
    fn a_file_of_authorities_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = weir_testbed::Certificates::new(folder.path());
        assert_eq!(certificates(&made.ca).unwrap().len(), 1);
        assert!(Trust::new(Some(&made.ca)).unwrap().config().is_ok());
    }
}
