//! Fields that were `null`: a script finds nothing there, and they are written as `null` again, at their place, unless they
//! have a value by then.
//!
//! Which ones they were says the metatable of the table. Tables of one shape that had the same nulls share it, as long as
//! there are not too many different ones. A table beyond that, and one whose order of keys is not known, has a metatable of
//! its own that names them in a list. A script that looks for that list with `getmetatable` can write what it likes into it.

use std::collections::HashMap;

use mlua::{Lua, LuaString, Table, Value};

use super::{Mark, Meaning, NodeId, Place, Shapes, Told, address};
use crate::json::OutputLimit;

/// Sets of null fields that are known of one shape.
const MAX_SETS: usize = 32;
/// Fields in all sets together.
const MAX_FIELDS: usize = 16 * 1024;

/// The fields of a table that were `null`.
pub(in crate::json) enum Nulls<'a> {
    None,
    /// Keys of the table's shape.
    Known(&'a [Place]),
    /// A list of keys.
    Named(Table),
}

/// The null fields that some tables of a shape have.
pub(super) struct NullSet {
    node: NodeId,
    fields: Box<[Place]>,
    metatable: Table,
}

impl NullSet {
    pub(super) fn told(&self) -> Told<'_> {
        Told { mark: Some(Mark::Shape(self.node)), nulls: Nulls::Known(&self.fields) }
    }
}

impl Shapes {
    /// What a metatable says that is none of the shared ones: one that names nulls has the list of them at the mark of
    /// objects, and what it stands for besides at the mark of arrays. Nobody else has such keys.
    pub(super) fn told_by_itself(&self, metatable: &Table) -> mlua::Result<Told<'_>> {
        let Value::Table(named) = metatable.raw_get::<Value>(&self.object)? else {
            return Ok(Told { mark: None, nulls: Nulls::None });
        };
        let mark = match metatable.raw_get::<Value>(&self.array)? {
            Value::Table(shared) => self.marks.get(&address(&shared)).copied(),
            _ => None,
        };
        let mark = if let Some(Meaning::Mark(mark)) = mark { mark } else { Mark::Object };
        Ok(Told { mark: Some(mark), nulls: Nulls::Named(named) })
    }

    pub(super) fn mark_with_nulls<K: AsRef<str>>(
        &mut self,
        lua: &Lua,
        place: Option<NodeId>,
        keys: &[K],
    ) -> mlua::Result<Table> {
        let Some(node) = place else { return self.own_mark(lua, None, keys) };
        if let Some(known) = self.known_set(node, keys) {
            return Ok(known.metatable.clone());
        }
        let shared = self.metatable(lua, node)?.clone();
        let sets = self.nodes[node].mark.as_ref().map_or(0, |mark| mark.sets.len());
        if sets >= MAX_SETS || self.fields_in_sets + keys.len() > MAX_FIELDS {
            return self.own_mark(lua, Some(&shared), keys);
        }
        self.add_set(lua, node, keys)
    }

    fn known_set<K: AsRef<str>>(&self, node: NodeId, keys: &[K]) -> Option<&NullSet> {
        let same = |(field, key): (&Place, &K)| *self.nodes[field.node].text == *key.as_ref();
        let mut sets = self.nodes[node].mark.as_ref()?.sets.iter().map(|set| &self.sets[*set]);
        sets.find(|set| set.fields.len() == keys.len() && set.fields.iter().zip(keys).all(same))
    }

    fn add_set<K: AsRef<str>>(
        &mut self,
        lua: &Lua,
        node: NodeId,
        keys: &[K],
    ) -> mlua::Result<Table> {
        let mut places: HashMap<&str, Place> = HashMap::new();
        for place in self.path(node) {
            self.guard.step()?;
            // A key that came twice keeps its first place.
            places.entry(&self.nodes[place.node].text).or_insert(place);
        }
        let fields: Box<[Place]> =
            keys.iter().filter_map(|key| places.get(key.as_ref()).copied()).collect();
        let metatable = lua.create_table()?;
        self.marks.insert(address(&metatable), Meaning::Nulls(self.sets.len()));
        if let Some(mark) = &mut self.nodes[node].mark {
            mark.sets.push(self.sets.len());
        }
        self.fields_in_sets += fields.len();
        self.sets.push(NullSet { node, fields, metatable: metatable.clone() });
        Ok(metatable)
    }

    /// `shared` is the metatable of the table's shape, where that is known.
    fn own_mark<K: AsRef<str>>(
        &self,
        lua: &Lua,
        shared: Option<&Table>,
        keys: &[K],
    ) -> mlua::Result<Table> {
        let named = lua.create_table_with_capacity(keys.len(), 0)?;
        for (index, key) in (1_i64..).zip(keys) {
            self.guard.step()?;
            named.raw_set(index, key.as_ref())?;
        }
        let metatable = lua.create_table()?;
        metatable.raw_set(&self.object, named)?;
        if let Some(shared) = shared {
            metatable.raw_set(&self.array, shared)?;
        }
        Ok(metatable)
    }

    /// Forgets that the field was `null`.
    pub(in crate::json) fn forget_null(
        &mut self,
        lua: &Lua,
        table: &Table,
        key: &LuaString,
    ) -> mlua::Result<()> {
        let Told { mark, nulls } = self.told(table)?;
        let mut keys: Vec<String> = match nulls {
            Nulls::None => return Ok(()),
            Nulls::Known(fields) => {
                fields.iter().map(|field| self.nodes[field.node].text.clone().into()).collect()
            }
            Nulls::Named(list) => self.names_in(lua, &list)?,
        };
        let before = keys.len();
        let key = key.as_bytes();
        keys.retain(|other| *other.as_bytes() != *key);
        if keys.len() == before {
            return Ok(());
        }
        let node = if let Some(Mark::Shape(node)) = mark { Some(node) } else { None };
        let metatable = self.mark_for(lua, node, &keys)?;
        table.set_metatable(Some(metatable))
    }

    fn names_in(&self, lua: &Lua, list: &Table) -> mlua::Result<Vec<String>> {
        let limit = OutputLimit::of(lua);
        let (mut names, mut size) = (Vec::new(), 0_usize);
        for index in 1..=list.raw_len() {
            self.guard.step()?;
            if let Value::String(name) = list.raw_get::<Value>(index)? {
                let name = name.to_string_lossy();
                size = size.saturating_add(name.len());
                if size > limit {
                    return Err(mlua::Error::RuntimeError(format!(
                        "json_omit: the fields that were null have more than {limit} bytes"
                    )));
                }
                names.push(name);
            }
        }
        Ok(names)
    }
}
