//! A row as it is stored: cells of name, event time and value.
//!
//! `1`, then for each cell: length and bytes of the name, event time (8 bytes), value. Names
//! and not places, so that a view may gain, lose and reorder features over what is stored.

use weir_types::{DType, Scalar};

use crate::{
    encoding::{Reader, put_scalar, put_short},
    value::EventTime,
    view::MAX_FEATURES,
};

const VERSION: u8 = 1;

/// What is known of one feature.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell<'a> {
    pub(super) name: &'a [u8],
    pub(super) time: EventTime,
    pub(super) value: Scalar,
}

impl Cell<'_> {
    /// Whether the value is one of `dtype`: a view may have changed since it was written.
    pub(super) fn fits(&self, dtype: DType) -> bool {
        crate::value::cast(&self.value, dtype).as_ref() == Ok(&self.value)
    }
}

/// The cells of a stored row; `None` if it is no row.
pub(super) fn read(stored: &[u8]) -> Option<Vec<Cell<'_>>> {
    let mut rest = Reader(stored);
    if rest.u8()? != VERSION {
        return None;
    }
    let mut cells = Vec::new();
    while !rest.0.is_empty() {
        cells.push(Cell { name: rest.short()?, time: rest.time()?, value: rest.scalar()? });
    }
    Some(cells)
}

/// The row of `cells`. Beyond [`MAX_FEATURES`] those with the oldest event time go: cells that the
/// view no longer has are kept, as replicas with an older or newer configuration may write the row too.
pub(super) fn write(mut cells: Vec<Cell<'_>>) -> Vec<u8> {
    if cells.len() > MAX_FEATURES {
        cells.sort_by_key(|cell| std::cmp::Reverse(cell.time));
        cells.truncate(MAX_FEATURES);
    }
    let mut out = vec![VERSION];
    for cell in &cells {
        put_short(&mut out, cell.name);
        out.extend_from_slice(&cell.time.micros().to_le_bytes());
        put_scalar(&mut out, &cell.value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> Vec<Cell<'static>> {
        let cell = |name: &'static str, micros, value| Cell {
            name: name.as_bytes(),
            time: EventTime::from_micros(micros).unwrap(),
            value,
        };
        vec![
            cell("a", 1, Scalar::Bool(true)),
            cell("b", -2, Scalar::Int(-3)),
            cell("c", 3, Scalar::Float(0.1)),
            cell("d", 4, Scalar::String("é".into())),
        ]
    }

    #[test]
    fn rows_round_trip() {
        assert_eq!(read(&write(cells())).unwrap(), cells());
    }

    /// A stored format is specified, not derived: these bytes must stay readable.
    #[test]
    fn the_format_stays() {
        let stored = b"\x01\x01b\xfe\xff\xff\xff\xff\xff\xff\xff\x02\xfd\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(read(stored).unwrap(), cells()[1..2]);
    }

    #[test]
    fn what_is_no_row_is_none() {
        let whole = write(cells());
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\x02"), None);
        let readable = (1..whole.len()).filter(|&n| read(&whole[..n]).is_some()).count();
        assert_eq!(readable, 4, "only where a cell ends");
    }
}
