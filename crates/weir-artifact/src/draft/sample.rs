//! Reading a sample of training data.

use std::path::Path;

use weir_config::Problem;

use super::column::Column;

/// Most rows read: enough for ranges, little enough to wait for.
const MAX_ROWS: usize = 200_000;

/// Most columns of a sample.
const MAX_COLUMNS: usize = 10_000;

/// The columns of a CSV file with a header, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Column>, Problem> {
    let refuse = |e: csv::Error| {
        let at = e.position().map(|p| (usize::try_from(p.line()).unwrap_or(0), 1));
        Problem { file: path.to_owned(), at, message: format!("is no CSV file: {e}") }
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(refuse)?;
    let header = reader.headers().map_err(refuse)?;
    if header.len() > MAX_COLUMNS {
        return Err(Problem::new(
            path,
            format!("has {} columns, at most {MAX_COLUMNS} are read", header.len()),
        ));
    }
    // A byte-order mark, as Excel writes it, is no part of the first name.
    let mut columns: Vec<Column> =
        header.iter().map(|name| Column::new(name.trim_start_matches('\u{feff}'))).collect();
    if let Some(column) = columns.iter().find(|c| c.name.parse::<f64>().is_ok()) {
        let message = format!("the first line must name the columns, but one is called `{}`", column.name);
        return Err(Problem { file: path.to_owned(), at: Some((1, 1)), message });
    }
    for record in reader.records().take(MAX_ROWS) {
        let record = record.map_err(refuse)?;
        columns.iter_mut().zip(&record).for_each(|(column, value)| column.see(value));
    }
    Ok(columns)
}
