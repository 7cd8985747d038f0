//! What an answer is stored under: everything that it depends on, byte for byte.
//!
//! ```text
//! identity = form, serving digest (32 bytes), tenant, rows, input tensors: type, shape of a row
//!            ; the elements of each tensor, little-endian, strings behind their length
//! key      = SipHash-1-3, 128 bits, of the identity
//! ```
//!
//! The key only finds an entry; what decides is the identity, which is stored and compared. Which
//! outputs a caller wants, and parameters of the V2 protocol, take no part: all outputs are
//! stored, and no parameter reaches a model.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use sha2::{Digest, Sha256};
use siphasher::sip128::SipHasher13;
use weir_types::{Batch, Principal, Tensor};

use crate::{
    Caller, ServedVersion,
    stored::{put_form, put_rows, put_size},
};

/// Changes whenever identities are written in another way.
const FORM: u8 = 1;

/// SHA-256 over all that answers of a version depend on besides the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServingDigest([u8; 32]);

impl ServingDigest {
    /// Of the model, its engine with version, and the same of the versions that it asks.
    pub(super) fn new(digest: &str, engine: (&str, &str), members: &[std::sync::Arc<ServedVersion>]) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(digest.as_bytes());
        part(engine.0.as_bytes());
        part(engine.1.as_bytes());
        for member in members {
            part(&Self::of(member).0);
        }
        Self(hash.finalize().into())
    }

    fn of(version: &ServedVersion) -> Self {
        let engine = (version.engine.name, version.engine.version.as_str());
        Self::new(&version.spec.digest, engine, &version.members)
    }

    /// Lower-case hex.
    pub(super) fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Identities of all entries of one request.
#[derive(Debug)]
pub(super) struct Identities {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Identities {
    /// Of each row of `batch`, or with `by_row` false of all its rows together. `None` where rows
    /// cannot be told apart: a tensor has not one entry a row.
    pub(super) fn new(digest: &ServingDigest, caller: &Caller, batch: &Batch, by_row: bool) -> Option<Self> {
        if by_row && batch.inputs.iter().any(|t| t.shape().is_empty() || t.rows() != batch.rows) {
            return None;
        }
        let entries = if by_row { batch.rows } else { 1 };
        let rows = if by_row { 1 } else { batch.rows };
        let head = head(digest, caller, rows, batch, by_row);
        let width: usize = batch.inputs.iter().map(|t| row_bytes(t, rows)).sum();
        let mut bytes = Vec::with_capacity(entries.saturating_mul(head.len() + width));
        let mut ends = Vec::with_capacity(entries);
        for entry in 0..entries {
            bytes.extend_from_slice(&head);
            for tensor in &batch.inputs {
                let range = if by_row { entry..entry + 1 } else { 0..tensor.rows() };
                put_rows(&mut bytes, tensor, range);
            }
            ends.push(bytes.len());
        }
        Some(Self { bytes, ends })
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The identity of one entry; empty for one that is not there.
    pub(super) fn get(&self, entry: usize) -> &[u8] {
        let start = entry.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(entry).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

fn head(digest: &ServingDigest, caller: &Caller, rows: usize, batch: &Batch, by_row: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(64);
    head.push(FORM);
    head.extend_from_slice(&digest.0);
    match caller.tenant().map(Principal::as_str) {
        // Nobody's name: a named caller's begins with its length and so cannot be this.
        None => head.push(0),
        Some(name) => {
            put_size(&mut head, name.len() + 1);
            head.extend_from_slice(name.as_bytes());
        }
    }
    put_size(&mut head, rows);
    put_size(&mut head, batch.inputs.len());
    for tensor in &batch.inputs {
        let shape = tensor.shape();
        put_form(&mut head, tensor, if by_row { shape.get(1..).unwrap_or_default() } else { shape });
    }
    head
}

fn row_bytes(tensor: &Tensor, rows: usize) -> usize {
    let element = tensor.dtype().size_bytes().unwrap_or(32);
    tensor.row_width().saturating_mul(rows).saturating_mul(element)
}

/// A keyed hash of identities.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyedHash {
    /// SipHash-1-3: without the key nobody finds rows that collide.
    Sip(SipHasher13),
    /// All rows collide.
    #[cfg(test)]
    Same,
}

impl KeyedHash {
    /// With a key of this process, from the system's randomness.
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self::Sip(SipHasher13::new_with_keys(state.hash_one(0u8), state.hash_one(1u8)))
    }

    /// With the key that all replicas know. Who may choose rows can find some that collide, and
    /// gains what two rows gain that take turns in one place: both are computed.
    pub(super) fn shared() -> Self {
        Self::Sip(SipHasher13::new_with_keys(0x7765_6972_2063_6163, 0x6865_206b_6579_2031))
    }

    pub(super) fn of(&self, identity: &[u8]) -> u128 {
        match self {
            KeyedHash::Sip(sip) => sip.hash(identity).as_u128(),
            #[cfg(test)]
            KeyedHash::Same => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_types::TensorData;

    use super::*;

    fn digest() -> ServingDigest {
        ServingDigest::new("d", ("native", "1"), &[])
    }

    fn strings(rows: &[&str]) -> Batch {
        let data = TensorData::String(rows.iter().map(|s| (*s).to_owned()).collect());
        Batch { rows: rows.len(), inputs: vec![Tensor::new(vec![rows.len()], data).unwrap()] }
    }

    fn ids(caller: &Caller, batch: &Batch, by_row: bool) -> Vec<Vec<u8>> {
        let all = Identities::new(&digest(), caller, batch, by_row).unwrap();
        (0..all.len()).map(|i| all.get(i).to_vec()).collect()
    }

    #[test]
    fn callers_with_names_share_with_nobody_and_engines_do_not_either() {
        let batch = strings(&["a"]);
        let named = |name: &'static str| Caller::Named(Principal::new(name));
        let all = [Caller::Unknown, named(""), named("a"), named("local"), named("a\u{0}")];
        let mut seen: Vec<_> = all.iter().map(|caller| ids(caller, &batch, true)).collect();
        assert_eq!(ids(&Caller::Peer("127.0.0.1".parse().unwrap()), &batch, true), seen[0]);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all.len());
        let digests =
            [("x", ("native", "1")), ("d", ("rten", "1")), ("d", ("native", "2")), ("d", ("nativ", "e1"))];
        assert!(digests.iter().all(|(d, engine)| ServingDigest::new(d, *engine, &[]) != digest()));
    }

    #[test]
    fn types_and_shapes_of_a_row_count() {
        let of = |shape: Vec<usize>, data: TensorData| {
            ids(&Caller::Unknown, &Batch { rows: 1, inputs: vec![Tensor::new(shape, data).unwrap()] }, true)
        };
        let mut all = vec![
            of(vec![1, 4], TensorData::Uint16(vec![0; 4])),
            of(vec![1, 2, 2], TensorData::Uint16(vec![0; 4])),
            of(vec![1, 4], TensorData::Float16(vec![0; 4])),
            of(vec![1, 4], TensorData::Int16(vec![0; 4])),
            of(vec![1, 8], TensorData::Uint8(vec![0; 8])),
            of(vec![1, 1], TensorData::Float64(vec![0.0])),
            of(vec![1, 1], TensorData::Float64(vec![-0.0])),
        ];
        let n = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), n);
    }

    #[test]
    fn a_tensor_without_rows_of_its_own_has_no_identity_by_row() {
        let scalar = Tensor::new(vec![], TensorData::Int64(vec![1])).unwrap();
        let batch = Batch { rows: 1, inputs: vec![scalar] };
        assert!(Identities::new(&digest(), &Caller::Unknown, &batch, true).is_none());
        assert_eq!(ids(&Caller::Unknown, &batch, false).len(), 1);
    }

    proptest! {
        /// Strings cannot flow from one into the next, and a row is the same in any company.
        #[test]
        fn rows_are_equal_as_their_identities_are(
            rows in prop::collection::vec(prop::collection::vec("[ab]{0,3}", 2), 1..6)
        ) {
            let column = |i: usize| {
                let data = TensorData::String(rows.iter().map(|row| row[i].clone()).collect());
                Tensor::new(vec![rows.len()], data).unwrap()
            };
            let batch = Batch { rows: rows.len(), inputs: vec![column(0), column(1)] };
            let all = ids(&Caller::Unknown, &batch, true);
            for (i, a) in rows.iter().enumerate() {
                prop_assert_eq!(&ids(&Caller::Unknown, &batch.slice_rows(i..i + 1), true)[0], &all[i]);
                for (j, b) in rows.iter().enumerate() {
                    prop_assert_eq!(a == b, all[i] == all[j]);
                }
            }
        }
    }
}
