//! The file of the embedded store: a redb database with two tables.
//!
//! `weir.meta` has `format`, which is 1. `weir.state` has keys, and values behind their expiry
//! (8 bytes little endian, microseconds since the epoch; the greatest number is never).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};

use super::{Changes, OpenError};
use crate::{
    encoding::Reader,
    store::{StoreError, Stored},
    value::EventTime,
};

const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("weir.state");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("weir.meta");
const FORMAT: u64 = 1;

/// What redb may keep of the file in memory: all is in a map already.
const CACHE_BYTES: usize = 4 << 20;

pub(super) struct File {
    path: PathBuf,
    /// `None` after an error of the disk, upon which redb does nothing more: opened again for
    /// the next commit.
    database: Option<Database>,
}

/// Any error of redb, as text.
type Failed = redb::Error;

impl File {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let wrong = |why| OpenError::new(path, why);
        let database = open(path, |builder, path| builder.create(path)).map_err(wrong)?;
        guarded(|| adopt(&database, path)).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), database: Some(database) })
    }

    /// Hands over every entry that is live at `now`, and removes the others.
    pub(super) fn load(&self, now: EventTime, mut each: impl FnMut(Bytes, Stored)) -> Result<(), OpenError> {
        let Some(database) = &self.database else { return Ok(()) };
        let load = || {
            let mut expired = Changes::new();
            read_all(database, |key, stored| match stored.is_live(now) {
                true => each(key, stored),
                false => drop(expired.insert(key, None)),
            })?;
            write(database, &expired).map_err(|e| format!("cannot be written: {e}"))
        };
        guarded(load).map_err(|why| OpenError::new(&self.path, why))
    }

    /// Writes `changes` and returns when they are on the disk, all or none.
    pub(super) fn commit(&mut self, changes: &Changes) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopened().map_err(StoreError::Failed)?,
        };
        guarded(|| write(&database, changes).map_err(|e| e.to_string())).map_err(StoreError::Failed)?;
        self.database = Some(database);
        Ok(())
    }

    /// Opens the file again, which has to be there: a new one in its place would have only what is
    /// written from now on, and nobody would know before the next start.
    fn reopened(&self) -> Result<Database, String> {
        let database = open(&self.path, |builder, path| builder.open(path))?;
        match guarded(|| format(&database).map_err(|e| damaged(&e)))? {
            Format::Ours(FORMAT) => Ok(database),
            _ => Err("was exchanged while it was in use: start the server again".into()),
        }
    }
}

/// redb checks a file's pages against their checksums here.
fn open(
    path: &Path,
    how: fn(&Builder, &Path) -> Result<Database, DatabaseError>,
) -> Result<Database, String> {
    guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        how(&builder, path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                "is in use by another process: give each server a `[state] path` of its own, or let them share \
                 a Redis"
                    .into()
            }
            DatabaseError::Storage(StorageError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
                "is no state file of Weir: choose another `[state] path`".into()
            }
            DatabaseError::Storage(StorageError::Io(e)) => format!("cannot be opened: {e}"),
            error => damaged(&error),
        })
    })
}

fn damaged(why: &dyn std::fmt::Display) -> String {
    format!("is damaged ({why}): restore a copy, or move it away to begin with nothing")
}

/// A damaged file can make redb panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(&"its pages contradict each other")))
}

/// Makes the tables in a new file; refuses the file of another program.
fn adopt(database: &Database, path: &Path) -> Result<(), String> {
    match format(database).map_err(|e| damaged(&e))? {
        Format::Ours(FORMAT) => Ok(()),
        Format::Ours(newer) => {
            Err(format!("has format {newer}, this version reads {FORMAT}: use the Weir that wrote it"))
        }
        Format::Foreign => Err("belongs to another program: choose another `[state] path`".into()),
        Format::New => {
            make(database).map_err(|e| format!("cannot be written: {e}"))?;
            keep_name(path).map_err(|e| format!("cannot be written: {e}"))
        }
    }
}

/// Brings the folder to the disk: a file whose name is not there is lost with the machine, whatever
/// was written into it.
fn keep_name(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

enum Format {
    New,
    Ours(u64),
    Foreign,
}

fn format(database: &Database) -> Result<Format, Failed> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map_or(Format::Foreign, |format| Format::Ours(format.value()))),
        Err(TableError::TableDoesNotExist(_))
            if read.list_tables()?.next().is_none() && read.list_multimap_tables()?.next().is_none() =>
        {
            Ok(Format::New)
        }
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(Format::Foreign),
    }
}

fn make(database: &Database) -> Result<(), Failed> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(STATE)?;
    Ok(transaction.commit()?)
}

fn read_all(database: &Database, mut each: impl FnMut(Bytes, Stored)) -> Result<(), String> {
    let table = || -> Result<_, Failed> { Ok(database.begin_read()?.open_table(STATE)?) };
    let table = table().map_err(|e| damaged(&e))?;
    for entry in table.iter().map_err(|e| damaged(&e))? {
        let (key, value) = entry.map_err(|e| damaged(&e))?;
        let stored = without_expiry(value.value()).ok_or_else(|| damaged(&"an entry has no expiry"))?;
        each(Bytes::copy_from_slice(key.value()), stored);
    }
    Ok(())
}

fn write(database: &Database, changes: &Changes) -> Result<(), Failed> {
    if changes.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(STATE)?;
        for (key, stored) in changes {
            match stored {
                Some(stored) => drop(table.insert(&key[..], &with_expiry(stored)[..])?),
                None => drop(table.remove(&key[..])?),
            }
        }
    }
    Ok(transaction.commit()?)
}

fn with_expiry(stored: &Stored) -> Vec<u8> {
    let expires = stored.expires.map_or(i64::MAX, EventTime::micros);
    [&expires.to_le_bytes()[..], &stored.value].concat()
}

fn without_expiry(value: &[u8]) -> Option<Stored> {
    let mut from = Reader(value);
    let expires = from.i64()?;
    Some(Stored { value: Bytes::copy_from_slice(from.0), expires: EventTime::from_micros(expires) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_error_the_next_commit_opens_the_file_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("state.redb");
        let mut file = File::open(&path).unwrap();
        let put = |value: &'static str| {
            let stored = Stored { value: value.into(), expires: None };
            Changes::from([(Bytes::from("a"), Some(stored))])
        };
        file.commit(&put("1")).unwrap();
        file.database = None; // as an error leaves it
        std::fs::rename(&path, folder.path().join("away")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(file.commit(&put("2")), Err(StoreError::Failed(_))));
        std::fs::remove_dir(&path).unwrap();
        assert!(matches!(file.commit(&put("2")), Err(StoreError::Failed(_))));
        assert!(!path.exists(), "a new file would lack what the old one has");
        drop(redb::Database::create(&path).unwrap());
        assert!(matches!(file.commit(&put("2")), Err(StoreError::Failed(_))));
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(folder.path().join("away"), &path).unwrap();
        file.commit(&put("3")).unwrap();
        let mut found = Vec::new();
        file.load(EventTime::default(), |_, stored| found.push(stored.value)).unwrap();
        assert_eq!(found, ["3"]);
    }
}
