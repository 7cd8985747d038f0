//! Archives: the same bytes from the same folder, back as they were, and nothing from hostile ones.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::{Compression as Level, read::GzDecoder, write::GzEncoder};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;
use weir_artifact::{
    archive::{
        ArchiveLimits, Compression, PACKAGE_FILE, PackagedModel, members, pack, unpack, verify, write_image,
    },
    discover,
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models")
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/model_archive")
}

/// A copy of the housing model with what people keep beside one.
fn housing(place: &Path) -> PathBuf {
    let folder = place.join("housing");
    fs::create_dir_all(folder.join(".git")).unwrap();
    for name in ["model.onnx", "model.toml", "samples.jsonl", "train.py", "README.md"] {
        fs::copy(examples().join("housing").join(name), folder.join(name)).unwrap();
    }
    fs::write(folder.join("training.csv"), "a,b\n1,2\n").unwrap();
    folder
}

fn model() -> Vec<PackagedModel> {
    vec![PackagedModel { name: "housing".into(), version: "1".into(), digest: Some("d".into()) }]
}

fn packed(folder: &Path, compression: Compression) -> (Vec<u8>, weir_artifact::archive::Packed) {
    let found = discover(folder).complete().unwrap();
    let members = members(folder, &found).unwrap();
    let mut bytes = Vec::new();
    let packed = pack(&members, model(), compression, &mut bytes, &|_| {}).unwrap();
    assert_eq!(packed.bytes, bytes.len() as u64);
    (bytes, packed)
}

/// What unpacking says, and what lies in the folder then.
fn unpacked(bytes: &[u8], limits: &ArchiveLimits) -> (Result<(), String>, TempDir) {
    let place = TempDir::new().unwrap();
    let into = place.path().join("in");
    fs::create_dir(&into).unwrap();
    let result = unpack(bytes, &into, limits).map(|_| ()).map_err(|e| e.to_string());
    let beside: Vec<_> = place.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["in"], "something was written beside the folder");
    assert!(!has_link(&into));
    (result, place)
}

fn has_link(folder: &Path) -> bool {
    folder.read_dir().unwrap().map(|e| e.unwrap().path()).any(|path| {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() { has_link(&path) } else { !meta.is_file() }
    })
}

#[test]
fn the_same_folder_makes_the_same_bytes_and_comes_back() {
    let place = TempDir::new().unwrap();
    let folder = housing(place.path());
    let other = housing(&place.path().join("elsewhere"));
    fs::File::open(other.join("model.onnx"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    for compression in [Compression::Gzip, Compression::None] {
        let (bytes, first) = packed(&folder, compression);
        assert_eq!((&bytes, &first), (&packed(&other, compression).0, &packed(&other, compression).1));
        let (result, back) = unpacked(&bytes, &ArchiveLimits::default());
        result.unwrap();
        let back = back.path().join("in");
        let names: Vec<_> = first.manifest.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(names, ["housing/model.onnx", "housing/model.toml", "housing/samples.jsonl"]);
        for name in names {
            assert_eq!(fs::read(back.join(name)).unwrap(), fs::read(place.path().join(name)).unwrap());
        }
        assert_eq!(verify(&back).unwrap(), first.manifest);
        assert_eq!(discover(&back).complete().unwrap()[0].name.as_str(), "housing");
    }
}

#[test]
fn what_was_unpacked_and_changed_since_is_seen() {
    let place = TempDir::new().unwrap();
    let (bytes, _) = packed(&housing(place.path()), Compression::Gzip);
    let changes: [fn(&Path); 4] = [
        |folder| fs::write(folder.join("housing/model.toml"), "name = \"other\"").unwrap(),
        |folder| fs::remove_file(folder.join("housing/samples.jsonl")).unwrap(),
        |folder| fs::write(folder.join("housing/more.onnx"), "").unwrap(),
        |folder| fs::write(folder.join(PACKAGE_FILE), "{}").unwrap(),
    ];
    for change in changes {
        let (result, back) = unpacked(&bytes, &ArchiveLimits::default());
        result.unwrap();
        let back = back.path().join("in");
        verify(&back).unwrap();
        change(&back);
        assert!(verify(&back).is_err());
    }
}

#[test]
fn every_layout_is_packed_whole() {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let mut seen = 0;
    for group in ["hf", "mlflow"] {
        for entry in formats.join(group).read_dir().unwrap() {
            let folder = entry.unwrap().path();
            let Ok(found) = discover(&folder).complete() else { continue };
            let digest = |candidate| weir_artifact::load(candidate).ok().map(|model| model.spec.digest);
            let Some(before) = found.first().and_then(digest) else { continue };
            let (bytes, _) = packed(&folder, Compression::Gzip);
            let (result, back) = unpacked(&bytes, &ArchiveLimits::default());
            result.unwrap();
            let again = discover(&back.path().join("in")).complete().unwrap();
            assert_eq!(digest(&again[0]), Some(before), "{}", folder.display());
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} layouts");
}

#[test]
fn links_and_files_elsewhere_are_not_packed() {
    let place = TempDir::new().unwrap();
    let secret = place.path().join("secret.jsonl");
    fs::write(&secret, "{}").unwrap();
    let refused = |change: &dyn Fn(&Path)| {
        let place = TempDir::new().unwrap();
        let folder = housing(place.path());
        change(&folder);
        let found = discover(&folder).complete().unwrap();
        match members(&folder, &found) {
            Err(problems) => problems[0].message.clone(),
            Ok(members) => {
                pack(&members, model(), Compression::None, &mut io::sink(), &|_| {}).unwrap_err().to_string()
            }
        }
    };
    let replaced = |with: fn(&Path, &Path) -> io::Result<()>| {
        refused(&|folder| {
            let path = folder.join("samples.jsonl");
            fs::rename(&path, folder.join("real")).unwrap();
            with(&folder.join("real"), &path).unwrap();
        })
    };
    assert!(replaced(|real, path| symlink(real, path)).contains("link"));
    assert!(replaced(|real, path| fs::hard_link(real, path)).contains("hard links"));
    let outside = refused(&|folder| {
        fs::remove_file(folder.join("samples.jsonl")).unwrap();
        symlink(&secret, folder.join("samples.jsonl")).unwrap();
    });
    assert!(outside.contains("outside") || outside.contains("link"), "{outside}");
    let version = examples().join("housing/model.onnx");
    let found = discover(&version).complete().unwrap();
    assert!(members(&version, &found).unwrap_err()[0].message.contains("name the model's folder"));
}

#[test]
fn a_cut_archive_is_refused_at_every_length_and_a_flipped_bit_too() {
    let place = TempDir::new().unwrap();
    let (bytes, _) = packed(&housing(place.path()), Compression::Gzip);
    for part in 1..64 {
        let cut = bytes.len() * part / 64;
        assert!(unpacked(&bytes[..cut], &ArchiveLimits::default()).0.is_err(), "cut at {cut}");
        let mut flipped = bytes.clone();
        flipped[cut] ^= 0x10;
        assert!(unpacked(&flipped, &ArchiveLimits::default()).0.is_err(), "flipped at {cut}");
    }
    let behind = [&bytes[..], b"x"].concat();
    assert!(unpacked(&behind, &ArchiveLimits::default()).0.unwrap_err().contains("behind"));
}

#[test]
fn bounds_hold() {
    let place = TempDir::new().unwrap();
    let (bytes, made) = packed(&housing(place.path()), Compression::Gzip);
    let refused = |limits| unpacked(&bytes, &limits).0.unwrap_err();
    let sum: u64 = made.manifest.files.iter().map(|f| f.bytes).sum();
    assert!(refused(ArchiveLimits { entries: 2, ..Default::default() }).contains("more than 2 entries"));
    assert!(refused(ArchiveLimits { bytes: sum, ..Default::default() }).contains("max_unpacked"));
    // 64 MiB of zeros are some 64 kB in gzip.
    fs::write(place.path().join("housing/samples.jsonl"), vec![b'\n'; 64 << 20]).unwrap();
    let (bomb, _) = packed(&place.path().join("housing"), Compression::Gzip);
    let (result, left) = unpacked(&bomb, &ArchiveLimits { ratio: 2, ..Default::default() });
    assert!(result.unwrap_err().contains("times its size"));
    let written = left.path().join("in/housing/samples.jsonl").metadata().unwrap().len();
    assert!(written < 20 << 20, "{written} bytes were written first");
}

/// `python -c`, with the tar on its standard output.
fn python(script: &str) -> Vec<u8> {
    let output = Command::new("python3").args(["-c", script]).output();
    let output = output.expect("python3 is not installed: apt-get install python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn archives_of_other_programs_are_unpacked_if_they_hold_files_and_folders() {
    let place = TempDir::new().unwrap();
    housing(place.path());
    fs::remove_dir(place.path().join("housing/.git")).unwrap();
    for format in ["gnu", "posix", "ustar"] {
        let tar = Command::new("tar")
            .args([
                "-C",
                place.path().to_str().unwrap(),
                "-czf",
                "-",
                &format!("--format={format}"),
                "./housing",
            ])
            .output()
            .unwrap();
        let (result, back) = unpacked(&tar.stdout, &ArchiveLimits::default());
        assert_eq!(result, Ok(()), "{format}");
        assert!(back.path().join("in/housing/train.py").exists());
    }
    let made = python(&format!(
        "import sys, tarfile\nwith tarfile.open(fileobj=sys.stdout.buffer, mode='w|gz') as t: t.add('{}', 'housing')",
        place.path().join("housing").display()
    ));
    assert_eq!(unpacked(&made, &ArchiveLimits::default()).0, Ok(()));
    // And theirs read ours.
    let (ours, _) = packed(&place.path().join("housing"), Compression::Gzip);
    let mut list = Command::new("tar")
        .args(["-tzvf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    list.stdin.take().unwrap().write_all(&ours).unwrap();
    let listed = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
    assert!(listed.lines().next().unwrap().ends_with(PACKAGE_FILE), "{listed}");
    assert!(listed.contains("-rw-r--r-- 0/0") && listed.contains("drwxr-xr-x 0/0"), "{listed}");
}

/// Archives that want to hurt, by `tests/corpus/make_archives.py`: what each is, stands in its name.
#[test]
fn hostile_archives_are_refused() {
    let mut seen = 0;
    for entry in corpus().read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let mut zipped = GzEncoder::new(Vec::new(), Level::fast());
        zipped.write_all(&bytes).unwrap();
        for bytes in [bytes, zipped.finish().unwrap()] {
            let (result, _place) = unpacked(&bytes, &ArchiveLimits::default());
            assert_eq!(result.is_ok(), name.starts_with("good-"), "{name}: {result:?}");
        }
        seen += 1;
    }
    assert!(seen >= 25, "the corpus is gone: {seen} files");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any corpus archive with some bytes changed and headers repaired: never outside, never a panic.
    #[test]
    fn damage_never_gets_out(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut paths: Vec<_> = corpus().read_dir().unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        let mut bytes = fs::read(which.get(&paths)).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for block in bytes.chunks_exact_mut(512) {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            if sum != 8 * 32 {
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            } else {
                block[148..156].fill(0);
            }
        }
        let _ = unpacked(&bytes, &ArchiveLimits { bytes: 1 << 20, entries: 50, ratio: 10 });
    }
}

/// The image, read back by the words of the OCI image-spec alone.
#[test]
fn an_image_is_what_the_spec_says() {
    let place = TempDir::new().unwrap();
    let folder = housing(place.path());
    for compression in [Compression::Gzip, Compression::None] {
        let (layer, made) = packed(&folder, compression);
        let mut image = Vec::new();
        let sums = write_image(("housing", "1"), &made, compression, &mut &layer[..], &mut image).unwrap();
        let again =
            write_image(("housing", "1"), &made, compression, &mut &layer[..], &mut Vec::new()).unwrap();
        assert_eq!(sums, again);
        let files = contents(&image);
        assert_eq!(sums.sha256, sha256(&image));
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(
                (sha256(bytes).as_str(), descriptor["size"].as_u64()),
                (digest, Some(bytes.len() as u64))
            );
            bytes.clone()
        };
        let top = json("index.json");
        assert_eq!(top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1");
        assert_eq!(top["manifests"][0]["digest"], sums.digest.as_str());
        let index: Value = serde_json::from_slice(&blob(&top["manifests"][0])).unwrap();
        let platforms: Vec<_> =
            index["manifests"].as_array().unwrap().iter().map(|m| &m["platform"]["architecture"]).collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        for listed in index["manifests"].as_array().unwrap() {
            let manifest: Value = serde_json::from_slice(&blob(listed)).unwrap();
            assert_eq!(
                (&manifest["schemaVersion"], &manifest["mediaType"]),
                (&2.into(), &listed["mediaType"])
            );
            let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
            assert_eq!(config["architecture"], listed["platform"]["architecture"]);
            let stored = blob(&manifest["layers"][0]);
            assert_eq!(stored, layer);
            let mut tar = Vec::new();
            match compression {
                Compression::Gzip => drop(GzDecoder::new(&stored[..]).read_to_end(&mut tar).unwrap()),
                Compression::None => tar.clone_from(&stored),
            }
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&tar)));
            assert_eq!(manifest["annotations"]["weir.digest/housing/1"], "d");
        }
        // What Docker before 25 loads by.
        let docker = json("manifest.json");
        assert_eq!(docker[0]["RepoTags"][0], "housing:1");
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
        assert_eq!(files[docker[0]["Layers"][0].as_str().unwrap()], layer);
        // Nothing but what is referred to: three files, two folders, index, two manifests and configs, the layer.
        assert_eq!(files.len(), 3 + 6, "{:?}", files.keys());
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The files of a tar, as Python reads them.
fn contents(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("a.tar"), tar).unwrap();
    let script = format!(
        "import tarfile; tarfile.open('{0}/a.tar').extractall('{0}/out', filter='data')",
        place.path().display()
    );
    python(&script);
    let mut files = BTreeMap::new();
    let mut folders = vec![place.path().join("out")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(place.path().join("out")).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}
