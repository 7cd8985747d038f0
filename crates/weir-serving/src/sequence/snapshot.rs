//! A sequence as bytes: what a store holds.
//!
//! ```text
//! sealed "WSQ2" = token 16 as its head; size of the model's digest, digest, number of tensors, for each: type,
//!                 dimensions; the elements of each
//! ```
//!
//! Nothing of it is believed: a value of another model, of another shape, cut off or changed is no
//! state.

use weir_artifact::SequenceSpec;
use weir_engine::State;
use weir_types::{SequenceId, Tensor, TensorData};

use super::{Token, table::Key};
use crate::stored::{Cursor, put_form, put_rows, put_size, seal, unseal};

/// This format.
const FORMAT: &[u8; 4] = b"WSQ2";

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
    let elements = |tensor: &Tensor| tensor.data().len() * tensor.dtype().size_bytes().unwrap_or(32);
    let room = 128 + state.iter().map(elements).sum::<usize>();
    seal(token.as_bytes(), FORMAT, room, |bytes| {
        put_size(bytes, identity.digest.len());
        bytes.extend_from_slice(identity.digest.as_bytes());
        put_size(bytes, state.len());
        state.iter().for_each(|tensor| put_form(bytes, tensor, tensor.shape()));
        state.iter().for_each(|tensor| put_rows(bytes, tensor, 0..tensor.rows()));
    })
}

/// Reads what [`write`] wrote for the same model.
///
/// # Errors
/// What is wrong with it, for the log.
pub(super) fn read(
    value: &[u8],
    identity: &Identity,
    spec: &SequenceSpec,
) -> Result<(Token, u64, State), &'static str> {
    let (token, mut rest) = unseal::<{ Token::BYTES }>(value, FORMAT)?;
    let token = Token::of(token).ok_or("it is too short")?;
    if name(&mut rest).ok_or(CUT_OFF)? != identity.digest.as_bytes() {
        return Err("it is of another model");
    }
    if rest.size().ok_or(CUT_OFF)? != spec.states.len() {
        return Err("it has another number of tensors");
    }
    let initial = || spec.states.iter().map(|state| &state.initial);
    if !initial().all(|tensor| is_of(&mut rest, tensor)) {
        return Err("a tensor has another type or shape");
    }
    let state = initial().map(|like| elements(&mut rest, like)).collect::<Option<Vec<_>>>();
    let state = state.ok_or(CUT_OFF)?;
    match rest.0 {
        [] => Ok((token, token.step(), state.into())),
        _ => Err("there is something behind it"),
    }
}

const CUT_OFF: &str = "it is cut off";

fn name<'a>(rest: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let size = rest.size()?;
    rest.take(size)
}

/// Whether a tensor of the type and shape of `like` comes next.
fn is_of(rest: &mut Cursor<'_>, like: &Tensor) -> bool {
    let form = (like.dtype(), like.shape().len());
    rest.type_and_rank() == Some(form) && like.shape().iter().all(|dim| rest.size() == Some(*dim))
}

/// The elements of a tensor of the type and shape of `like`.
fn elements(rest: &mut Cursor<'_>, like: &Tensor) -> Option<Tensor> {
    let count = like.data().len();
    // Every element takes a byte at least: room is made for what can be there.
    let mut data = TensorData::with_capacity(like.dtype(), count.min(rest.0.len()));
    rest.elements(&mut data, count)?;
    Tensor::new(like.shape().to_vec(), data).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use weir_artifact::{SequenceStoreWord, StateSpec};
    use weir_types::Principal;

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
        state.iter().for_each(|t| put_rows(&mut out, t, 0..t.rows()));
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
            let value = seal(&[0; 16], FORMAT, 0, |bytes| {
                bytes.extend_from_slice(&[3, b'a', b'b', b'c', 2]);
                bytes.extend_from_slice(&body);
            });
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
