//! What is kept, what is removed, and what somebody else may be using.

use tempfile::TempDir;
use weir_artifact::{archive::Compression, discover};
use weir_types::SystemClock;

use super::*;

struct Place {
    store: Store,
    archive: Vec<u8>,
    sha256: String,
    _folder: TempDir,
}

impl Place {
    /// A store, and an archive that is not in it.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/housing");
        let found = discover(&model).complete().unwrap();
        let members = archive::members(&model, &found).unwrap();
        let mut bytes = Vec::new();
        let packed = archive::pack(&members, Vec::new(), Compression::None, &mut bytes, &|_| {}).unwrap();
        let store = Store {
            folder: folder.path().join("cache"),
            limits: ArchiveLimits::default(),
            keep: 0,
            clock: Arc::new(SystemClock),
        };
        Self { store, archive: bytes, sha256: packed.sha256, _folder: folder }
    }

    fn put(&self) -> Result<Kept, NotFetched> {
        let mut coming = self.store.receive().unwrap();
        coming.write(&self.archive).unwrap();
        self.store.put(coming, &self.sha256)
    }

    fn find(&self) -> Found {
        self.store.find(&self.sha256)
    }

    fn at(&self) -> PathBuf {
        self.store.place(&self.sha256)
    }

    fn change(&self) {
        fs::write(self.at().join("stray"), "x").unwrap();
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.store.entries().map(|(name, _)| name).collect();
        names.sort();
        names
    }
}

#[test]
fn what_was_changed_is_removed_once_nobody_uses_it_and_never_by_looking() {
    let place = Place::new();
    let used = place.put().unwrap();
    assert!(matches!(place.find(), Found::Here(_)));
    place.change();
    assert!(matches!(place.find(), Found::Changed(_)));
    let refused = place.store.clear(&place.sha256).unwrap_err();
    assert!(
        refused.reason.to_string().contains("another server uses it") && place.at().is_dir(),
        "{refused}"
    );
    assert!(refused.passing);
    assert!(place.put().is_err(), "what differs is not served, wherever it came from");
    drop(used);
    assert!(matches!(place.find(), Found::Changed(_)) && place.at().is_dir(), "looking removes nothing");
    place.store.clear(&place.sha256).unwrap();
    assert!(matches!(place.find(), Found::Absent));
    place.store.clear(&place.sha256).unwrap();
    place.put().unwrap();
    place.store.clear(&place.sha256).unwrap();
    assert!(matches!(place.find(), Found::Here(_)), "what is whole is not removed");
}

#[test]
fn what_cannot_be_read_now_stays() {
    let place = Place::new();
    drop(place.put().unwrap());
    let listing = place.at().join(archive::PACKAGE_FILE);
    fs::remove_file(&listing).unwrap();
    // The system refuses to follow it, for root too: an error of reading, as EMFILE and ESTALE are.
    std::os::unix::fs::symlink(&listing, &listing).unwrap();
    assert!(matches!(place.find(), Found::Unreadable(_)));
    place.store.clear(&place.sha256).unwrap();
    assert!(place.at().is_dir());
    let io = |kind: io::ErrorKind| ArchiveError::Io { what: String::new(), source: kind.into() };
    assert!(
        !differs(&io(io::ErrorKind::PermissionDenied))
            && !differs(&io(io::ErrorKind::StaleNetworkFileHandle))
    );
    assert!(differs(&io(io::ErrorKind::NotFound)));
}

#[test]
fn what_killed_servers_left_behind_goes_and_what_comes_stays() {
    let place = Place::new();
    let coming = place.store.receive().unwrap();
    let (unpacking, lock) = place.store.new_folder().unwrap();
    let left = |name: &str| place.store.folder.join(name);
    fs::write(left(".part-dead"), "half").unwrap();
    fs::create_dir(left(".new-dead")).unwrap();
    fs::write(left(".new-dead/.lock"), "").unwrap();
    fs::create_dir(left(".new-young")).unwrap();
    fs::create_dir(left(".new-old")).unwrap();
    let old = SystemClock.wall() - 2 * LEFT_BEHIND;
    File::open(left(".new-old")).unwrap().set_modified(old).unwrap();
    place.store.sweep_leftovers();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut stay = vec![".new-young".to_owned(), name(&unpacking), name(&coming.path)];
    stay.sort();
    assert_eq!(place.names(), stay);
    drop((coming, lock));
    place.store.sweep_leftovers();
    assert_eq!(place.names(), [".new-young"]);
}

#[test]
fn a_lock_counts_only_on_the_file_that_still_has_the_name() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("lock");
    let before = File::create(&path).unwrap();
    assert!(is_at(&before, &path));
    fs::remove_file(&path).unwrap();
    assert!(!is_at(&before, &path));
    // Kept open, so that the number of its inode is not given again.
    let _now = File::create(&path).unwrap();
    assert!(alone(before, &path).is_none());
    assert!(free(&path).is_some());
}

#[test]
fn archives_that_are_used_are_not_swept() {
    let place = Place::new();
    let used = place.put().unwrap();
    place.store.sweep();
    assert!(matches!(place.find(), Found::Here(_)));
    drop(used);
    place.store.sweep();
    assert!(place.names().is_empty());
}

/// Locks are of open files, not of processes: threads with stores of their own are to each other what servers are.
#[test]
fn what_others_sweep_is_put_there_again_and_what_is_used_stays() {
    const ROUNDS: usize = 10;
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let Store { folder, limits, keep, clock } = &place.store;
                let (folder, clock) = (folder.clone(), clock.clone());
                let own = Store { folder, limits: *limits, keep: *keep, clock };
                for _ in 0..ROUNDS {
                    let kept = loop {
                        let mut coming = own.receive().unwrap();
                        coming.write(&place.archive).unwrap();
                        match own.put(coming, &place.sha256) {
                            Ok(kept) => break kept,
                            // No file system is fair to eight tries against two who do nothing but sweep.
                            Err(why) => assert!(
                                why.passing && why.reason.to_string().contains("removed at once"),
                                "{why}"
                            ),
                        }
                    };
                    archive::verify(&kept.folder).unwrap();
                    // Whoever has it keeps it, however often others sweep.
                    own.sweep();
                    archive::verify(&kept.folder).unwrap();
                    drop(kept);
                    own.sweep();
                }
            });
        }
    });
    place.store.sweep();
    assert!(place.names().is_empty(), "{:?}", place.names());
}
