//! Texts of varied length.

use crate::rng::Rng;

/// Common English words, so that tokenizers do the work that real texts give them.
const WORDS: &str = "the of and to a in that it was for on with as is this they at from have not or had \
    but what all were when we there can an your which their said if do will each about how up out \
    them then she many some so these would other into has more her two like him see time could no \
    make than first been its who now people my made over did down only way find use may water long \
    little very after words called just where most know get through back much before go good new \
    write our used me man too any day same right look think also around another came come work three \
    word must because does part even place well such here take why things help put years different \
    away again off went old number great tell men say small every found still between name should \
    movie story acting plot film watched loved hated boring wonderful terrible service delivery \
    quality price broken perfect disappointed happy excellent awful recommend money house garden \
    coffee morning train weather music beautiful slow quick friendly rude clean dirty expensive";

/// Fewest and most words of a text: a remark to a paragraph.
const LENGTHS: (f64, f64) = (3.0, 80.0);

/// A text of `shortest` to `longest` characters. Most are short and a few are long, as texts
/// are: the number of words is uniform on a logarithmic scale.
pub(super) fn text(rng: &mut Rng, shortest: usize, longest: usize) -> String {
    let words: Vec<&str> = WORDS.split_ascii_whitespace().collect();
    let count = rng.within(LENGTHS.0.ln(), LENGTHS.1.ln()).exp() as usize;
    let mut out = String::new();
    for i in 0.. {
        if i >= count && out.len() >= shortest || out.len() > longest {
            break;
        }
        if i > 0 {
            out.push_str(if rng.below(12) == 0 { ", " } else { " " });
        }
        out.push_str(words.get(rng.below(words.len())).unwrap_or(&"word"));
    }
    out.push('.');
    // Every word is ASCII, so that characters are bytes.
    out.truncate(longest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn lengths_are_kept(seed in any::<u64>(), shortest in 0usize..300, more in 0usize..300) {
            let text = text(&mut Rng::new(seed, 0), shortest, shortest + more);
            prop_assert!((shortest..=shortest + more).contains(&text.chars().count()), "{}", text);
        }
    }

    #[test]
    fn most_texts_are_short_and_some_are_long() {
        let mut rng = Rng::new(1, 0);
        let mut lengths: Vec<usize> =
            (0..1000).map(|_| text(&mut rng, 0, 10_000).split(' ').count()).collect();
        lengths.sort_unstable();
        assert!((10..=22).contains(&lengths[500]) && lengths[990] > 60, "{lengths:?}");
    }
}
