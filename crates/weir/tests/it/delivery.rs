//! Delivery: the gates of `scripts/deliver.py`, `scripts/promote.py` on the overlays, and the rules for
//! workflows, all in `tests/delivery`.

use crate::{
    python::{passed, python},
    server::root,
};

#[test]
fn gates_promotion_and_workflows() {
    let mut suite = python("delivery");
    suite.args(["-m", "unittest", "discover", "-s"]).arg(root().join("tests/delivery"));
    suite.env("WEIR", env!("CARGO_BIN_EXE_weir"));
    assert!(passed("delivery", &mut suite) >= 21);
}
