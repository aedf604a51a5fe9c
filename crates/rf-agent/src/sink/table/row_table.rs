//! One table of rows.
//!
//! It has `id` (TEXT, the key), `_rpf_id` (running number of the row's last write), `_rpf_last_updated_idx` and `timestamp`
//! (Unix seconds), and a column for each key that an event had. It is not STRICT: that knows no BOOLEAN.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value};

use super::failure::WriteError;
use super::identifier::Identifier;
use super::schema::{Column, Kind, MAX_COLUMNS, Table};
use super::{index, schema, timestamp, value};

/// The key.
pub(crate) const ID: &str = "id";
/// The running number, in which rows are listed.
pub(crate) const NUMBER: &str = "_rpf_id";
/// When a row was written last.
pub(crate) const UPDATED: &str = "_rpf_last_updated_idx";
/// When it happened.
pub(crate) const TIMESTAMP: &str = "timestamp";

/// Earlier versions noted ?2, one number for several tables where the case of other letters than ASCII's tells them apart.
const GET_NEXT: &str =
    "SELECT next_id FROM _rpf_tables WHERE name IN (?1, ?2) ORDER BY name = ?1 DESC LIMIT 1";
/// Spellings of keys that are remembered; past it they are looked up anew.
const MAX_SPELLINGS: usize = 4 * MAX_COLUMNS;
/// Notices of one transaction at the most: who sends events must not be able to flood the log.
pub(crate) const MAX_NOTICES: usize = 3;
/// As much of a key is shown in one, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// A table with what its statements need.
pub(crate) struct RowTable {
    table: Table,
    /// Places of the columns that every table has.
    own: Own,
    /// Place of the column for a key as events spell it; `None` for a key that cannot name one.
    places: HashMap<String, Option<usize>>,
    insert: String,
    /// The columns that a row's body has by their own names, by place.
    named: Vec<bool>,
    /// The next running number, once this transaction has looked it up.
    next: Option<i64>,
    /// What was not stored as it came, for people.
    notices: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Own {
    id: usize,
    number: usize,
    updated: usize,
    timestamp: usize,
}

impl Own {
    /// Whether the sink fills this one itself, whatever an event says.
    fn is_filled(self, place: usize) -> bool {
        [self.number, self.updated].contains(&place)
    }
}

impl RowTable {
    /// The table, made if it is not there.
    pub(crate) fn open_or_create(conn: &Connection, name: &Identifier) -> Result<Self, WriteError> {
        if let Some(table) = Self::open(conn, name)? {
            return Ok(table);
        }
        schema::check_new(conn, name)?;
        conn.execute(
            &format!(
                "CREATE TABLE {name} (id TEXT PRIMARY KEY, {NUMBER} INTEGER, {UPDATED} INTEGER, {TIMESTAMP} INTEGER)"
            ),
            [],
        )?;
        Self::open(conn, name)?
            .ok_or_else(|| WriteError::Refused(format!("table {name} cannot be read back")))
    }

    /// The table, if it is there; columns that the original's and ours always have are added.
    pub(crate) fn open(conn: &Connection, name: &Identifier) -> Result<Option<Self>, WriteError> {
        let Some(mut table) = Table::load(conn, name.as_str())? else { return Ok(None) };
        if table.is_view {
            return Err(WriteError::Refused(format!("`{}` is a view", name.as_str())));
        }
        for (own, kind) in [
            (ID, Kind::Text),
            (NUMBER, Kind::Integer),
            (UPDATED, Kind::Integer),
            (TIMESTAMP, Kind::Integer),
        ] {
            if table.column(own).is_none() {
                add_column(conn, &mut table, Column::new(own, kind))?;
            }
        }
        index::ensure(conn, &table)?;
        let place = |own| table.column(own).map_or(0, |(place, _)| place);
        let own = Own {
            id: place(ID),
            number: place(NUMBER),
            updated: place(UPDATED),
            timestamp: place(TIMESTAMP),
        };
        let insert = insert_statement(&table);
        let (places, named, notices) = (HashMap::new(), Vec::new(), Vec::new());
        Ok(Some(Self { table, own, places, insert, named, next: None, notices }))
    }

    pub(crate) fn name(&self) -> &Identifier {
        &self.table.name
    }

    /// The running number to be stored, if this transaction has given any.
    pub(crate) fn take_next(&mut self) -> Option<i64> {
        self.next.take()
    }

    /// What was not stored as it came since this was asked last.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Inserts a row, or replaces the one with its id. Of several keys for one column the one with the column's name counts,
    /// else the last.
    pub(crate) fn put(
        &mut self,
        conn: &Connection,
        body: &Map<String, Value>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        self.grow(conn, body)?;
        let mut number = self.take_number(conn)?;
        let mut insert = conn.prepare_cached(&self.insert)?;
        let (mut has_id, mut time) = (false, None);
        self.named.clear();
        self.named.resize(self.table.columns.len(), false);
        for (key, value) in body {
            let Some(&Some(place)) = self.places.get(key) else {
                if !value.is_null() {
                    note(&mut self.notices, || dropped(&self.table, key));
                }
                continue;
            };
            let column = &self.table.columns[place];
            let is_named = key == column.name.as_str();
            if value.is_null() || (self.named[place] && !is_named) {
                continue;
            }
            self.named[place] = is_named;
            if place == self.own.timestamp {
                time = Some(value);
                continue;
            }
            has_id |= place == self.own.id;
            if self.notices.len() < MAX_NOTICES
                && let Value::String(text) = value
                && !self.own.is_filled(place)
                && value::is_changed(text, column.kind)
            {
                note(&mut self.notices, || changed(&self.table, column));
            }
            insert.raw_bind_parameter(place + 1, value::to_sql(value, column.kind))?;
        }
        if !has_id {
            number = free_number(conn, &self.table.name, number)?;
            self.next = Some(number + 1);
            insert.raw_bind_parameter(self.own.id + 1, number.to_string())?;
        }
        insert.raw_bind_parameter(self.own.number + 1, number)?;
        insert.raw_bind_parameter(self.own.updated + 1, now_us.div_euclid(1_000_000))?;
        let time = timestamp::of_event(time).map_err(WriteError::Refused)?;
        let time_us = time.unwrap_or(now_us);
        insert.raw_bind_parameter(self.own.timestamp + 1, time_us.div_euclid(1_000_000))?;
        insert.raw_execute()?;
        Ok(())
    }

    /// Removes a row.
    pub(crate) fn delete(&self, conn: &Connection, id: &str) -> Result<(), WriteError> {
        let sql = format!("DELETE FROM {} WHERE id = ?1", self.table.name);
        conn.prepare_cached(&sql)?.execute([id])?;
        Ok(())
    }

    /// Finds the columns of the body's keys, and adds those that are missing. A null says nothing of a column's type, so
    /// it adds none.
    fn grow(&mut self, conn: &Connection, body: &Map<String, Value>) -> Result<(), WriteError> {
        if self.places.len() > MAX_SPELLINGS {
            self.places.clear();
        }
        let mut grown = false;
        for (key, value) in body {
            if self.places.contains_key(key) {
                continue;
            }
            let Some(name) = Identifier::column(key) else {
                self.places.insert(key.clone(), None);
                continue;
            };
            let known = |name: &str| self.table.column(name).map(|(place, _)| place);
            let mut found = (known(name.as_str()), name);
            // Only where another program has made it there is a column of such a name.
            if found.0.is_none() && schema::is_row_id(&found.1) {
                let name = format!("{}_", found.1.as_str());
                found = (known(&name), Identifier::own(&name));
            }
            let (known, name) = found;
            let place = match (known, value::kind_of(value)) {
                (Some(place), _) => place,
                (None, None) => continue,
                (None, Some(kind)) => {
                    grown = true;
                    add_column(conn, &mut self.table, Column { name, kind })?
                }
            };
            self.places.insert(key.clone(), Some(place));
        }
        if grown {
            index::ensure(conn, &self.table)?;
            self.insert = insert_statement(&self.table);
        }
        Ok(())
    }

    fn take_number(&mut self, conn: &Connection) -> Result<i64, WriteError> {
        let number = match self.next {
            Some(next) => next,
            None => first_number(conn, &self.table.name)?,
        };
        self.next = Some(number + 1);
        Ok(number)
    }
}

/// Words a notice, unless there are enough of them: there may be one for each event of a batch.
fn note(notices: &mut Vec<String>, notice: impl FnOnce() -> String) {
    if notices.len() >= MAX_NOTICES {
        return;
    }
    let notice = notice();
    if !notices.contains(&notice) {
        notices.push(notice);
    }
}

fn dropped(table: &Table, key: &str) -> String {
    let (table, key) = (table.name.as_str(), key.chars().take(MAX_SHOWN_CHARS).collect::<String>());
    format!(
        "table `{table}`: the values of key `{key}` are dropped, since no column can have that name"
    )
}

fn changed(table: &Table, column: &Column) -> String {
    let (table, column) = (table.name.as_str(), column.name.as_str());
    format!(
        "table `{table}`: column `{column}` holds numbers, and a text was stored as a number: `007` becomes 7"
    )
}

/// The number after the highest that was ever given; a table of the original's knows it from its rows only.
fn first_number(conn: &Connection, table: &Identifier) -> Result<i64, WriteError> {
    let noted = noted_number(conn, table).map_err(WriteError::Own)?;
    let highest: Option<i64> = conn
        .prepare_cached(&format!("SELECT CAST(max({NUMBER}) AS INTEGER) FROM {table}"))?
        .query_row([], |row| row.get(0))?;
    Ok(noted.unwrap_or(1).max(highest.unwrap_or(0) + 1))
}

/// The first number from this one on that no row has as its id: an event may have brought it.
fn free_number(conn: &Connection, table: &Identifier, number: i64) -> Result<i64, WriteError> {
    let mut find =
        conn.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = ?1)"))?;
    let mut free = number;
    while find.query_row([free.to_string()], |row| row.get(0))? {
        free += 1;
    }
    Ok(free)
}

fn noted_number(conn: &Connection, table: &Identifier) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(GET_NEXT)?
        .query_row([table.folded(), table.as_str().to_lowercase()], |row| row.get(0))
        .optional()
}

fn add_column(conn: &Connection, table: &mut Table, column: Column) -> Result<usize, WriteError> {
    if table.columns.len() >= MAX_COLUMNS {
        return Err(WriteError::Refused(format!(
            "no room for column `{}`: table `{}` has {MAX_COLUMNS} columns already",
            column.name.as_str(),
            table.name.as_str()
        )));
    }
    let (name, kind) = (&column.name, column.kind.sql());
    conn.execute(&format!("ALTER TABLE {} ADD COLUMN {name} {kind}", table.name), [])?;
    table.columns.push(column);
    Ok(table.columns.len() - 1)
}

/// A value for every column, so that there is one statement a table; what an event does not have is NULL.
fn insert_statement(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| column.name.to_string()).collect();
    let places: Vec<String> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    format!(
        "INSERT OR REPLACE INTO {} ({}) VALUES ({})",
        table.name,
        names.join(", "),
        places.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_worded_only_while_there_is_room_for_it() {
        let mut notices = Vec::new();
        for text in ["one", "two", "one", "three"] {
            note(&mut notices, || text.to_owned());
        }
        note(&mut notices, || panic!("worded for nothing"));
        assert_eq!(notices, ["one", "two", "three"]);
    }
}
