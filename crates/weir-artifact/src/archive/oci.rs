//! An archive as the one layer of an image: a tar of an OCI image layout
//! (<https://github.com/opencontainers/image-spec>, v1.1: image-layout.md, manifest.md, config.md).
//!
//! The layer is the archive itself, so that one digest names both. There is one image each for amd64 and
//! arm64, which differ in that word alone: container runtimes refuse images of another architecture, and
//! models run on any. `manifest.json` beside it is what `docker load` before version 25 reads.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use serde_json::{Map, Value, json};

use super::{
    ArchiveError, Compression, PackageManifest, Packed,
    entry::{self, What},
    sums::{self, Summed},
    write::{put, put_bytes},
};

/// Media type of a layer in gzip.
pub const OCI_LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of a layer that is a plain tar.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSums {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Digest of the image's index, `sha256:…`: what a registry will know it by.
    pub digest: String,
    /// Digest of its layer, `sha256:…`: the archive's.
    pub layer: String,
}

/// Something that lies in `blobs/sha256/`.
struct Blob {
    sha256: String,
    contents: Vec<u8>,
}

impl Blob {
    fn new(document: &Value) -> Self {
        // serde_json keeps the order in which keys were written: the same document, the same bytes.
        let contents = document.to_string().into_bytes();
        Self { sha256: sums::of(&contents), contents }
    }

    fn descriptor(&self, media_type: &str) -> Map<String, Value> {
        descriptor(media_type, &self.sha256, self.contents.len() as u64)
    }
}

fn descriptor(media_type: &str, sha256: &str, bytes: u64) -> Map<String, Value> {
    let pairs = [
        ("mediaType", media_type.into()),
        ("digest", format!("sha256:{sha256}").into()),
        ("size", bytes.into()),
    ];
    pairs.into_iter().map(|(key, value): (&str, Value)| (key.to_owned(), value)).collect()
}

/// Writes the image `name`:`tag` of an archive, whose bytes `layer` gives, to `output`.
///
/// # Errors
/// Either side fails, or `layer` gives other bytes than were packed.
pub fn write_image(
    (name, tag): (&str, &str),
    packed: &Packed,
    compression: Compression,
    layer: &mut impl Read,
    output: &mut impl Write,
) -> Result<ImageSums, ArchiveError> {
    let image = Image::new(name, tag, packed, compression);
    let mut tar = Summed::new(output);
    put_bytes(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put_bytes(&mut tar, "index.json", &image.top)?;
    put_bytes(&mut tar, "manifest.json", &image.docker)?;
    for folder in ["blobs", "blobs/sha256"] {
        put(&mut tar, &entry::header(folder, What::Folder, 0)?)?;
    }
    for (sha256, contents) in &image.blobs {
        put_bytes(&mut tar, &format!("blobs/sha256/{sha256}"), contents)?;
    }
    put_layer(&mut tar, packed, layer)?;
    put(&mut tar, &[0; 2 * entry::BLOCK])?;
    tar.flush().map_err(ArchiveError::writing)?;
    let layer = format!("sha256:{}", packed.sha256);
    Ok(ImageSums { bytes: tar.bytes, sha256: sums::hex(tar.hash), digest: image.digest, layer })
}

fn put_layer(tar: &mut impl Write, packed: &Packed, layer: &mut impl Read) -> Result<(), ArchiveError> {
    let path = format!("blobs/sha256/{}", packed.sha256);
    put(tar, &entry::header(&path, What::File, packed.bytes)?)?;
    let sum = sums::copy(layer, tar, packed.bytes).map_err(|failed| match failed {
        Ok(reading) => ArchiveError::reading(reading),
        Err(writing) => ArchiveError::writing(writing),
    })?;
    if sum != packed.sha256 {
        return Err(ArchiveError::refused("the archive changed while its image was written: try again"));
    }
    let padding = vec![0; entry::padding(packed.bytes) as usize];
    io::Write::write_all(tar, &padding).map_err(ArchiveError::writing)
}

/// The documents of an image.
struct Image {
    top: Vec<u8>,
    docker: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    digest: String,
}

impl Image {
    fn new(name: &str, tag: &str, packed: &Packed, compression: Compression) -> Self {
        let media_type = match compression {
            Compression::None => OCI_LAYER_TAR,
            Compression::Gzip => OCI_LAYER_TAR_GZIP,
        };
        let layer = descriptor(media_type, &packed.sha256, packed.bytes);
        let notes = annotations(&packed.manifest, name, tag);
        let configs = ARCHITECTURES.map(|architecture| Blob::new(&config(architecture, packed, &notes)));
        let manifests = configs.each_ref().map(|config| Blob::new(&manifest(config, &layer, &notes)));
        let listed = ARCHITECTURES.iter().zip(&manifests).map(|(architecture, manifest)| {
            let mut listed = manifest.descriptor(MANIFEST);
            listed.insert("platform".to_owned(), json!({"architecture": architecture, "os": "linux"}));
            Value::Object(listed)
        });
        let index = Blob::new(&json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": listed.collect::<Vec<_>>(), "annotations": notes,
        }));
        let mut named = index.descriptor(INDEX);
        let full = format!("docker.io/library/{name}:{tag}");
        named.insert(
            "annotations".to_owned(),
            json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": full}),
        );
        let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
        let path = |sha256: &str| format!("blobs/sha256/{sha256}");
        let docker = json!([{
            "Config": path(&configs[0].sha256),
            "RepoTags": [format!("{name}:{tag}")],
            "Layers": [path(&packed.sha256)],
        }]);
        let digest = format!("sha256:{}", index.sha256);
        let blobs = configs.into_iter().chain(manifests).chain([index]);
        let blobs = blobs.map(|blob| (blob.sha256, blob.contents)).collect();
        Self { top: top.to_string().into_bytes(), docker: docker.to_string().into_bytes(), blobs, digest }
    }
}

/// The configuration of an image that holds data and runs nothing. Without a time: the same model makes
/// the same image.
fn config(architecture: &str, packed: &Packed, notes: &Value) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": notes},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", packed.tar_sha256)]},
        "history": [{"created_by": "weir package"}],
    })
}

fn manifest(config: &Blob, layer: &Map<String, Value>, notes: &Value) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer],
        "annotations": notes,
    })
}

/// What the image says of itself: the predefined keys, and each version's serving digest.
fn annotations(manifest: &PackageManifest, name: &str, tag: &str) -> Value {
    let mut notes = Map::new();
    notes.insert("org.opencontainers.image.title".to_owned(), name.into());
    notes.insert("org.opencontainers.image.version".to_owned(), tag.into());
    for model in &manifest.models {
        let Some(digest) = &model.digest else { continue };
        notes.insert(format!("weir.digest/{}/{}", model.name, model.version), digest.as_str().into());
    }
    Value::Object(notes)
}
