//! The full-text index of one list of tools: SQLite's FTS5, in memory.

use rusqlite::{Connection, Result, params};

use super::{About, words};
use crate::catalog::Shelf;

/// Bytes of a description that are indexed: what is said later is about details. With [`LABEL_BYTES_MAX`] it bounds the index.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Bytes of a name, a title or a category that are indexed. The specification allows 128 for a name.
const LABEL_BYTES_MAX: usize = 128;

/// Without content: a row is the place of a tool in its list, and the list has the rest.
const TABLE: &str = "
    PRAGMA journal_mode = OFF;
    CREATE VIRTUAL TABLE tools USING fts5(name, title, description, category, content='', tokenize='unicode61 remove_diacritics 2');
    BEGIN";

const INSERT: &str = "INSERT INTO tools(rowid, name, title, description, category) VALUES (?1, ?2, ?3, ?4, ?5)";

/// One segment in place of many: a search then looks up each word once.
const FINISH: &str = "INSERT INTO tools(tools) VALUES ('optimize'); COMMIT";

/// bm25 is the smaller the better. A word in the name weighs most, because names are chosen with care; descriptions mention other tools.
const SEARCH: &str = "SELECT rowid, bm25(tools, 10.0, 5.0, 1.0, 3.0) FROM tools WHERE tools MATCH ?1";

/// An index of the tools of a list.
#[derive(Debug)]
pub(super) struct Index(Connection);

impl Index {
    /// Indexes them. Takes some 20 us for each.
    pub(super) fn of(tools: &Shelf) -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(TABLE)?;
        let mut insert = connection.prepare(INSERT)?;
        for (place, entry) in (0_i64..).zip(tools.iter()) {
            let about = About::of(entry);
            let label = |text: &str| words::spaced(text, LABEL_BYTES_MAX);
            let description = words::spaced(&about.description, DESCRIPTION_BYTES_MAX);
            let category = label(&entry.metadata.category);
            insert.execute(params![place, label(&entry.public), label(&about.title), description, category])?;
        }
        drop(insert);
        connection.execute_batch(FINISH)?;
        Ok(Self(connection))
    }

    /// The places of wanted tools that have all of these words, the best first; where there is none, of those that have any.
    pub(super) fn best(&self, words: &[&str], wanted: impl Fn(&usize) -> bool) -> Result<Vec<usize>> {
        let all = self.ranked(&words::all_of(words), &wanted)?;
        if all.is_empty() && words.len() > 1 {
            return self.ranked(&words::any_of(words), &wanted);
        }
        Ok(all)
    }

    fn ranked(&self, expression: &str, wanted: impl Fn(&usize) -> bool) -> Result<Vec<usize>> {
        let mut search = self.0.prepare(SEARCH)?;
        let rows = search.query_map([expression], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?)))?;
        let mut ranked = Vec::new();
        for row in rows {
            let (place, rank) = row?;
            ranked.extend(usize::try_from(place).ok().filter(&wanted).map(|place| (rank, place)));
        }
        // Those that are as good as each other stay in the order of their names.
        ranked.sort_by(|(a, first), (b, second)| a.total_cmp(b).then(first.cmp(second)));
        Ok(ranked.into_iter().map(|(_, place)| place).collect())
    }
}
