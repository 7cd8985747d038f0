//! Bodies, rows, columns and lists.

use weir_types::{Coercion, Extra};

use super::{
    check::{self, Checked},
    doc::{Doc, Kind, NodeId},
    report::{Fault, Report},
};
use crate::{
    BodyShape, Decoded, Loc, Rejection,
    plan::{FieldPlan, KeyUse, Plan},
    sink::Sink,
};

/// Validates a document and fills the batch, or gives all errors.
pub(super) fn validate(plan: &Plan, doc: &Doc<'_>) -> Result<Decoded, Rejection> {
    let report = Report::new(plan, doc);
    let found = vec![None; plan.fields.len()];
    let mut validator = Validator { plan, doc, report, sink: Sink::new(plan), found };
    validator.body();
    if !validator.report.is_clean() {
        return Err(Rejection::Invalid(validator.report.errors));
    }
    validator.sink.finish().ok_or(Rejection::Unparsable)
}

/// The keys of a row that a field takes its value from.
#[derive(Debug, Clone, Copy)]
struct Found {
    rank: usize,
    key: NodeId,
    value: NodeId,
}

struct Validator<'a> {
    plan: &'a Plan,
    doc: &'a Doc<'a>,
    report: Report<'a>,
    sink: Sink<'a>,
    found: Vec<Option<Found>>,
}

const ROOT: NodeId = 0;

impl<'a> Validator<'a> {
    fn body(&mut self) {
        if self.doc.kind(ROOT) != Kind::Object {
            return self.report.no_object(ROOT);
        }
        let plan = self.plan;
        match (&plan.shape, plan.rows_key()) {
            (BodyShape::Columns { keys }, _) => self.columns(keys),
            (BodyShape::Rows { .. }, Some(key)) => self.rows(key, self.entry(key)),
            (_, Some(key)) => match self.entry(key) {
                Some(list) => self.rows(key, Some(list)),
                None => self.row(ROOT),
            },
            (_, None) => self.row(ROOT),
        }
    }

    /// The value of a key of the body.
    fn entry(&self, key: &str) -> Option<NodeId> {
        self.doc.entries(ROOT).find(|&(k, _)| self.doc.string(k).chars == key).map(|(_, value)| value)
    }

    fn rows(&mut self, key: &str, list: Option<NodeId>) {
        let step = self.report.key_step(key);
        self.report.loc_enter(step);
        match list {
            None => self.report.missing(ROOT),
            Some(list) if self.is_list(list, self.plan.limits.max_rows) => {
                let doc = self.doc;
                self.sink.list();
                for (i, row) in doc.items(list).enumerate() {
                    if self.report.is_full() {
                        break;
                    }
                    self.report.loc_enter(Loc::Index(i));
                    self.row(row);
                    self.report.loc_leave();
                }
            }
            Some(_) => {}
        }
        self.report.loc_leave();
        self.extras(ROOT, |_, name, _| name == key);
    }

    /// Whether `node` is a list of at most `most` items; reports it if not.
    fn is_list(&mut self, node: NodeId, most: usize) -> bool {
        if self.doc.kind(node) != Kind::List {
            self.report.no_list(node);
            return false;
        }
        let len = self.doc.len(node);
        if len > most {
            self.report.push(Fault::list_length(true, most, len), node);
        }
        len <= most
    }

    fn row(&mut self, node: NodeId) {
        if self.doc.kind(node) != Kind::Object {
            return self.report.no_object(node);
        }
        let plan = self.plan;
        self.find_fields(node);
        // Once there is an error nothing will be kept.
        let row = if self.report.is_clean() { self.sink.begin_row() } else { 0 };
        for index in 0..plan.fields.len() {
            if self.report.is_full() {
                return;
            }
            match self.found[index] {
                Some(found) => {
                    let step = self.report.key_step(&self.doc.string(found.key).chars);
                    self.report.loc_enter(step);
                    self.field(index, row, found.value);
                    self.report.loc_leave();
                }
                // A key is missed where a field needs it.
                None if index >= plan.own => {}
                None => self.absent(index, row, node),
            }
        }
        self.extras(node, |this, name, key| {
            plan.key(name).and_then(|known| this.found[known.field]).is_some_and(|found| found.key == key)
        });
    }

    /// A field that a row does not have is looked up where the row says of which entity, else
    /// it has its default. Without either, what is missing is the entity's key.
    fn absent(&mut self, index: usize, row: usize, node: NodeId) {
        let field = &self.plan.fields[index];
        let clean = self.report.is_clean();
        let missing = match field.key {
            Some(key) if self.found[key].is_some() => {
                return if clean {
                    self.sink.want(row, index)
                };
            }
            _ if field.default.is_some() => {
                if clean {
                    let _ = self.sink.default(field, row);
                }
                return;
            }
            Some(key) if self.is_told(key, index) => return,
            Some(key) => key,
            None => index,
        };
        self.report.loc_enter(Loc::Key(self.plan.fields[missing].name.clone().into()));
        self.report.missing(node);
        self.report.loc_leave();
    }

    /// Whether a field before `index` has missed `key` in this row already.
    fn is_told(&self, key: usize, index: usize) -> bool {
        let needs = |i: usize| self.plan.fields[i].key == Some(key) && self.plan.fields[i].default.is_none();
        (0..index).any(|i| needs(i) && self.found[i].is_none())
    }

    /// Finds each field's key in one pass over the row, so that a row of very many keys
    /// costs no more than its length.
    fn find_fields(&mut self, row: NodeId) {
        self.found.fill(None);
        for (key, value) in self.doc.entries(row) {
            let name = self.doc.string(key);
            if let Some(KeyUse { field, rank }) = self.plan.key(&name.chars).filter(|_| !name.lone) {
                let slot = &mut self.found[field];
                if slot.is_none_or(|before| rank < before.rank) {
                    *slot = Some(Found { rank, key, value });
                }
            }
        }
    }

    /// Reports the keys of `object` that are not `used`, where the schema forbids them.
    fn extras(&mut self, object: NodeId, used: impl Fn(&Self, &str, NodeId) -> bool) {
        if self.plan.schema.extra == Extra::Ignore {
            return;
        }
        let doc = self.doc;
        for (key, value) in doc.entries(object) {
            if self.report.is_full() {
                return;
            }
            let name = doc.string(key).chars;
            if !used(self, &name, key) {
                self.report.extra(&name, value);
            }
        }
    }

    fn field(&mut self, index: usize, row: usize, node: NodeId) {
        let field = &self.plan.fields[index];
        let mut element = 0;
        self.nested(index, field, row, 0, &mut element, node);
    }

    /// A value at one level of a field's lists.
    fn nested(
        &mut self,
        index: usize,
        field: &FieldPlan,
        row: usize,
        level: usize,
        element: &mut usize,
        node: NodeId,
    ) {
        let Some(&dim) = field.dims.get(level) else {
            return self.element(field, row, element, node);
        };
        if !self.is_list(node, dim.unwrap_or(usize::MAX)) {
            return;
        }
        let before = self.report.errors.len();
        let doc = self.doc;
        for (i, item) in doc.items(node).enumerate() {
            if self.report.is_full() {
                return;
            }
            self.report.loc_enter(Loc::Index(i));
            self.nested(index, field, row, level + 1, element, item);
            self.report.loc_leave();
        }
        if self.report.errors.len() == before {
            self.list_length(index, level, dim, node);
        }
    }

    /// Checks the length of a list whose items are right.
    fn list_length(&mut self, index: usize, level: usize, dim: Option<usize>, node: NodeId) {
        let len = self.doc.len(node);
        if let Some(want) = dim.filter(|&want| len < want) {
            self.report.push(Fault::list_length(false, want, len), node);
        } else if let Err(other) = self.sink.note_len(index, level, len) {
            let msg = format!(
                "lists of one request must be of one length here: this one has {len} items, one before it {other}"
            );
            self.report.push(Fault::value_error(&msg), node);
        }
    }

    fn element(&mut self, field: &FieldPlan, row: usize, element: &mut usize, node: NodeId) {
        let strict = self.plan.schema.coerce == Coercion::Strict;
        match check::check(self.doc, field, strict, node) {
            Err(fault) => self.report.push(fault, node),
            Ok(_) if !self.report.is_clean() => {}
            Ok(Checked::Cell(cell)) => self.sink.cell(field, row, *element, cell),
            Ok(Checked::Missing) => self.sink.missing(field, row, *element),
        }
        *element += 1;
    }

    fn columns(&mut self, keys: &'a [(String, usize)]) {
        let mut lengths = Vec::with_capacity(keys.len());
        for (key, field) in keys {
            let step = self.report.key_step(key);
            self.report.loc_enter(step);
            let list = self.entry(key);
            match list {
                None => self.report.missing(ROOT),
                Some(list) if self.is_list(list, self.plan.limits.max_rows) => self.column(*field, list),
                Some(_) => {}
            }
            self.report.loc_leave();
            lengths.extend(list.map(|list| (key, list)));
        }
        self.extras(ROOT, |_, name, _| keys.iter().any(|(key, _)| key == name));
        if self.report.is_clean() {
            self.equal_lengths(&lengths);
            self.fill_uncovered();
        }
    }

    fn column(&mut self, field: usize, list: NodeId) {
        let doc = self.doc;
        for (row, item) in doc.items(list).enumerate() {
            if self.report.is_full() {
                return;
            }
            if self.report.is_clean() && row >= self.sink.rows() {
                self.sink.begin_row();
            }
            self.report.loc_enter(Loc::Index(row));
            self.field(field, row, item);
            self.report.loc_leave();
        }
    }

    fn equal_lengths(&mut self, lengths: &[(&String, NodeId)]) {
        let Some(&(first, list)) = lengths.first() else { return };
        let want = self.doc.len(list);
        for &(key, list) in &lengths[1..] {
            let len = self.doc.len(list);
            if len != want {
                let msg =
                    format!("all lists must be of one length: `{first}` has {want} items, `{key}` has {len}");
                let step = self.report.key_step(key);
                self.report.at(step, |r| r.push(Fault::value_error(&msg), list));
            }
        }
    }

    fn is_column(&self, key: Option<usize>) -> bool {
        let BodyShape::Columns { keys } = &self.plan.shape else { return false };
        key.is_some_and(|key| keys.iter().any(|&(_, field)| field == key))
    }

    fn fill_uncovered(&mut self) {
        for row in 0..self.sink.rows() {
            for &index in &self.plan.uncovered {
                let field = &self.plan.fields[index];
                // The plan has seen to it that each has a default or a key.
                if self.is_column(field.key) {
                    self.sink.want(row, index);
                } else {
                    let _ = self.sink.default(field, row);
                }
            }
        }
    }
}
