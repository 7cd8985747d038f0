//! Where archives come from: each that is not here is asked for, as a start would do it, and not brought.

use std::{io, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use weir_clients::{DownloadError, DownloadOptions, Downloader, Location, RetryPolicy, Sink};
use weir_serving::ArchiveConfig;
use weir_types::{Clock, SystemClock};

use super::finding::Finding;
use crate::{environment, settings::Settings};

/// Longest wait for a connection, and again for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks for every archive that is missing, all at once.
pub(super) async fn look(settings: &Settings, missing: Vec<ArchiveConfig>) -> Vec<Finding> {
    // What is wrong with the tables is told with the configuration.
    let Ok(downloader) = downloader(settings) else { return Vec::new() };
    let mut asked = JoinSet::new();
    for (index, archive) in missing.into_iter().enumerate() {
        let Ok(from) = Location::parse(&archive.url) else { continue };
        let downloader = downloader.clone();
        asked.spawn(async move { (index, ask(&downloader, from, &archive).await) });
    }
    let mut findings = asked.join_all().await;
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

fn downloader(settings: &Settings) -> Result<Downloader, ()> {
    let fetch = &settings.fetch;
    let options = DownloadOptions {
        connect_timeout: fetch.connect_timeout.get().min(PATIENCE),
        stall_timeout: fetch.stall_timeout.get().min(PATIENCE),
        min_rate: 0,
        max_bytes: fetch.max_archive.get(),
        retry: RetryPolicy { most: 0, ..RetryPolicy::default() },
        ca_file: fetch.ca_file.clone(),
        s3: settings.s3.clone(),
        s3_keys: environment::s3_keys(),
        now: Arc::new(|| SystemClock.wall()),
    };
    Downloader::new(options).map_err(drop)
}

async fn ask(downloader: &Downloader, from: Location, archive: &ArchiveConfig) -> Finding {
    let mut taste = Taste { came: false };
    let answer = downloader.fetch(&from, archive.token_file.as_deref(), &mut taste).await;
    match answer {
        Err(DownloadError::Write(_)) if taste.came => {
            Finding::ok("archives", format!("{from} can be had; it is fetched when the server starts"))
        }
        Ok(_) => Finding::fail("archives", format!("{from} is empty"), "put the archive there"),
        Err(error) => Finding::fail(
            "archives",
            format!("{from} cannot be had: {error}"),
            "check `url`, who may read it (`token_file`, [s3], AWS_ACCESS_KEY_ID), the network policy and TLS \
             between here and there (`fetch.ca_file`); until it is here, the server is not ready",
        ),
    }
}

/// Takes the first bytes as the proof that there are some. A GET and not a HEAD: an address that was signed
/// in advance is signed for GET alone.
struct Taste {
    came: bool,
}

impl Sink for Taste {
    fn bytes(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        self.came = true;
        Err(io::Error::other("that is enough"))
    }

    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }
}
