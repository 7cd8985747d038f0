//! The time left, written into a request right before it is sent.

use std::{io::Write, time::Duration};

use crate::plan::{Request, SlotUnit};

/// Copies `request` into `out` with `left` in its slots.
pub(super) fn write(request: &Request, left: Duration, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&request.wire);
    for slot in &request.slots {
        let Some(room) = out.get_mut(slot.at..slot.at + slot.width) else { continue };
        let mut rest = &mut room[..];
        // A slot holds a day; a number that were longer would be cut, not spill over.
        let _ = match slot.unit {
            SlotUnit::Seconds => {
                write!(rest, "{:0width$.6}", left.as_secs_f64(), width = slot.width)
            }
            SlotUnit::Microseconds => {
                write!(rest, "{:width$}", left.as_micros().max(1), width = slot.width)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::plan::Slot;

    #[test]
    fn slots_are_filled_and_nothing_else_changes() {
        let slot = |at, unit| Slot { at, width: 12, unit };
        let request = Request {
            wire: Bytes::from_static(b"T: 000000000000;{            }"),
            slots: vec![slot(3, SlotUnit::Seconds), slot(17, SlotUnit::Microseconds)],
            rows: 1,
            expected: None,
        };
        let mut out = Vec::new();
        write(&request, Duration::from_micros(48_250), &mut out);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), "T: 00000.048250;{       48250}");
        write(&request, Duration::from_secs(86_400), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "T: 86400.000000;{ 86400000000}");
    }
}
