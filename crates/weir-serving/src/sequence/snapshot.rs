//! A sequence as bytes: what a store holds.
//!
//! ```text
//! token 16 | format 4 | digest of the model 64 | tensors u32
//!          | each: type u8, dimensions u8, each dimension u64, bytes u64, elements | checksum 8
//! ```
//!
//! Numbers are little-endian. Nothing of it is believed: a value of another model, of another
//! shape, cut off or changed is no state.

use sha2::{Digest, Sha256};
use weir_artifact::SequenceSpec;
use weir_codec::v2::{read_raw, write_raw};
use weir_engine::State;
use weir_types::{DType, SequenceId, Tensor};

use super::{Token, table::Key};

/// This format.
const FORMAT: &[u8; 4] = b"WSQ1";
/// Bytes of a checksum: the first of a SHA-256.
const CHECKSUM_BYTES: usize = 8;

/// The model whose sequences are stored.
pub(super) struct Identity {
    digest: String,
}

impl Identity {
    pub(super) fn new(digest: &str) -> Self {
        Self { digest: digest.to_owned() }
    }

    /// The store's key of a sequence. The tenant's length stands before it, so that no two
    /// pairs of tenant and id have one key.
    pub(super) fn key(&self, key: &Key) -> Vec<u8> {
        let Key { tenant, id } = key;
        let (named, tenant) = if tenant.is_named() { ('n', tenant.as_str()) } else { ('l', "") };
        let kind = if matches!(id, SequenceId::Number(_)) { '#' } else { '$' };
        let digest = self.digest.get(..32).unwrap_or(&self.digest);
        format!("seq:{digest}:{named}{}:{tenant}:{kind}{id}", tenant.len()).into_bytes()
    }
}

/// The state of a sequence after the step of `token`.
pub(super) fn write(token: Token, identity: &Identity, state: &[Tensor]) -> Vec<u8> {
    let mut out = token.as_bytes().to_vec();
    out.extend_from_slice(FORMAT);
    out.extend_from_slice(identity.digest.as_bytes());
    out.extend_from_slice(&(state.len() as u32).to_le_bytes());
    for tensor in state {
        head(tensor, &mut out);
        let at = out.len();
        out.extend_from_slice(&[0; 8]);
        write_raw(tensor.data(), &mut out);
        let length = (out.len() - at - 8) as u64;
        out[at..at + 8].copy_from_slice(&length.to_le_bytes());
    }
    let sum = checksum(&out);
    out.extend_from_slice(&sum);
    out
}

fn head(tensor: &Tensor, out: &mut Vec<u8>) {
    out.push(code(tensor.dtype()));
    out.push(tensor.shape().len() as u8);
    tensor.shape().iter().for_each(|dim| out.extend_from_slice(&(*dim as u64).to_le_bytes()));
}

fn code(dtype: DType) -> u8 {
    DType::ALL.iter().position(|d| *d == dtype).unwrap_or(0) as u8
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&Sha256::digest(bytes)[..CHECKSUM_BYTES]);
    sum
}

/// Reads what [`write`] wrote for the same model.
///
/// # Errors
/// What is wrong with it, for the log.
pub(super) fn read(
    value: &[u8],
    identity: &Identity,
    spec: &SequenceSpec,
) -> Result<(Token, u64, State), String> {
    let (body, sum) = value.split_last_chunk().ok_or("it is too short")?;
    if checksum(body) != *sum {
        return Err("its checksum is wrong".to_owned());
    }
    let token = Token::of(body).ok_or("it is too short")?;
    let mut rest = Rest(body.get(Token::BYTES..).unwrap_or_default());
    rest.expect(FORMAT, "it is of another format")?;
    rest.expect(identity.digest.as_bytes(), "it is of another model")?;
    rest.expect(&(spec.states.len() as u32).to_le_bytes(), "it has another number of tensors")?;
    let tensor = |state: &weir_artifact::StateSpec| rest.tensor(&state.initial);
    let state = spec.states.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    if !rest.0.is_empty() {
        return Err("there is something behind it".to_owned());
    }
    Ok((token, token.step(), state.into()))
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn expect(&mut self, bytes: &[u8], otherwise: &str) -> Result<(), String> {
        if self.take(bytes.len())? == bytes { Ok(()) } else { Err(otherwise.to_owned()) }
    }

    /// A tensor of the type and shape of `like`.
    fn tensor(&mut self, like: &Tensor) -> Result<Tensor, String> {
        let mut wanted = Vec::new();
        head(like, &mut wanted);
        self.expect(&wanted, "a tensor has another type or shape")?;
        let length = self.take(8)?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let bytes = self.take(usize::try_from(length).map_err(|_| "it is cut off")?)?;
        let data = read_raw(like.dtype(), like.shape(), bytes)?;
        Tensor::new(like.shape().to_vec(), data).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use weir_artifact::{SequenceStoreWord, StateSpec};
    use weir_types::{Principal, TensorData};

    use super::*;

    fn state() -> Vec<Tensor> {
        let floats = TensorData::Float32(vec![1.5, f32::NAN.copysign(-1.0), -0.0, 7.0]);
        let texts = TensorData::String(vec!["ä".into(), String::new()]);
        vec![Tensor::new(vec![2, 1, 2], floats).unwrap(), Tensor::new(vec![2], texts).unwrap()]
    }

    fn spec(state: &[Tensor]) -> SequenceSpec {
        let one = |initial: &Tensor| StateSpec {
            output: 0,
            name: "s".into(),
            axis: None,
            initial: initial.clone(),
        };
        SequenceSpec {
            ttl: Duration::from_secs(1),
            max_sequences: 1,
            queue: 1,
            store: SequenceStoreWord::Memory,
            feeds: Vec::new(),
            states: state.iter().map(one).collect(),
            outputs: Vec::new(),
            merges: false,
        }
    }

    fn bits(state: &[Tensor]) -> Vec<u8> {
        let mut out = Vec::new();
        state.iter().for_each(|t| write_raw(t.data(), &mut out));
        out
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let (identity, token) = (Identity::new("abc"), Token::new(7));
        let value = write(token, &identity, &state());
        let (read_token, step, read_state) = read(&value, &identity, &spec(&state())).unwrap();
        assert_eq!((read_token, step), (token, 7));
        assert_eq!(bits(&read_state), bits(&state()));
    }

    #[test]
    fn another_models_state_is_none() {
        let (identity, token) = (Identity::new("abc"), Token::new(7));
        let value = write(token, &identity, &state());
        assert_eq!(
            read(&value, &Identity::new("abd"), &spec(&state())).unwrap_err(),
            "it is of another model"
        );
        let other = read(&value, &identity, &spec(&state()[..1]));
        assert_eq!(other.unwrap_err(), "it has another number of tensors");
        let mut turned = state();
        turned[0] = Tensor::new(vec![1, 2, 2], turned[0].data().clone()).unwrap();
        let turned = read(&value, &identity, &spec(&turned));
        assert_eq!(turned.unwrap_err(), "a tensor has another type or shape");
    }

    proptest! {
        #[test]
        fn nothing_that_was_changed_is_read(flip in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let (identity, spec) = (Identity::new("abc"), spec(&state()));
            let value = write(Token::new(7), &identity, &state());
            let mut flipped = value.clone();
            flipped[flip.index(value.len())] ^= 1 << bit;
            prop_assert!(read(&flipped, &identity, &spec).is_err());
            prop_assert!(read(&value[..cut.index(value.len())], &identity, &spec).is_err());
        }

        #[test]
        fn bytes_of_somebody_elses_making_do_not_harm(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let (identity, spec) = (Identity::new("abc"), spec(&state()));
            // With a right checksum and head, so that what is behind them is read too.
            let mut value = [&[0u8; 16][..], FORMAT, b"abc", &2u32.to_le_bytes(), &body].concat();
            value.extend(checksum(&value));
            let _ = read(&value, &identity, &spec);
        }
    }

    #[test]
    fn no_two_sequences_have_one_key() {
        let identity = Identity::new("d");
        let key = |tenant: Principal, id: &str| {
            identity.key(&Key { tenant, id: SequenceId::text(id).unwrap().unwrap() })
        };
        let named = |name: &'static str| Principal::new(name);
        let all = [
            key(Principal::LOCAL, "a"),
            key(named("local"), "a"),
            key(named("a"), ":a"),
            key(named("a:"), "a"),
            key(named(""), "a"),
            key(Principal::LOCAL, "7"),
            key(Principal::LOCAL, "#7"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
