//! The marks of tables that came from JSON, and what they say.

mod nulls;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use mlua::{AppDataRef, AppDataRefMut, Lua, LuaString, Table};

use crate::guard::Guard;
use nulls::NullSet;
pub(super) use nulls::Nulls;

/// Keys that are known in their places, over all shapes. Beyond, an object keeps its kind and is written with sorted keys.
const MAX_NODES: usize = 8192;
/// Different keys that may follow the same beginning: more is a table with ids for keys, not a record.
const MAX_CHILDREN: usize = 64;
/// Longest key in a shape.
const MAX_KEY_BYTES: usize = 256;

/// A place in the tree of key sequences.
pub(super) type NodeId = usize;

/// The place of an object without keys.
pub(super) const ROOT: NodeId = 0;

/// Every shape that a VM has met: a tree whose paths are sequences of keys.
pub(super) struct Shapes {
    nodes: Vec<Node>,
    array: Table,
    object: Table,
    /// What a metatable stands for, by its address, which holds as long as the metatable is held here.
    marks: ByAddress<Meaning>,
    /// The null fields that tables of a shape may have, see `nulls`.
    sets: Vec<NullSet>,
    /// Fields in all of them.
    fields_in_sets: usize,
    pub(super) guard: Guard,
}

/// What a metatable of ours stands for.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Mark(Mark),
    /// A shape, and which of its fields were `null`: the index of the set.
    Nulls(usize),
}

/// What the metatable of a table says.
pub(super) struct Told<'a> {
    /// `None`: the table is not marked.
    pub(super) mark: Option<Mark>,
    pub(super) nulls: Nulls<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Array,
    /// Of unknown order.
    Object,
    Shape(NodeId),
}

struct Node {
    parent: NodeId,
    key: Option<LuaString>,
    text: Box<str>,
    /// The key as JSON, with the colon.
    written: Box<[u8]>,
    children: Vec<NodeId>,
    mark: Option<ShapeMark>,
}

struct ShapeMark {
    metatable: Table,
    /// The keys by their address: Lua keeps one copy of each short string; the text serves for the others.
    places: ByAddress<Place>,
    /// Indexes of the sets of null fields that tables of this shape have had.
    sets: Vec<usize>,
}

/// A key of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) position: usize,
    node: NodeId,
}

/// A table by addresses of Lua's objects.
type ByAddress<V> = HashMap<usize, V, BuildHasherDefault<AddressHasher>>;

/// Addresses are chosen by the allocator and not by whoever sends events, so a multiplication is hash enough; the standard
/// one showed in every profile.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_usize(&mut self, address: usize) {
        // The low bits of an address are always zero; a table of ours looks at them first.
        let mixed = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shapes {
    pub(super) fn new(lua: &Lua, guard: Guard) -> mlua::Result<Self> {
        let (array, object) = (lua.create_table()?, lua.create_table()?);
        let marks = [(&array, Mark::Array), (&object, Mark::Object)];
        let marks = marks.map(|(table, mark)| (address(table), Meaning::Mark(mark)));
        let marks = marks.into_iter().collect();
        let root = Node {
            parent: ROOT,
            key: None,
            text: "".into(),
            written: Box::default(),
            children: Vec::new(),
            mark: None,
        };
        let (nodes, sets) = (vec![root], Vec::new());
        Ok(Self { nodes, array, object, marks, sets, fields_in_sets: 0, guard })
    }

    /// The shapes of this VM.
    pub(super) fn of(lua: &Lua) -> mlua::Result<AppDataRef<'_, Self>> {
        lua.app_data_ref().ok_or_else(missing)
    }

    /// The same, to add to them.
    pub(super) fn of_mut(lua: &Lua) -> mlua::Result<AppDataRefMut<'_, Self>> {
        lua.app_data_mut().ok_or_else(missing)
    }

    pub(super) fn array_mark(&self) -> &Table {
        &self.array
    }

    pub(super) fn object_mark(&self) -> &Table {
        &self.object
    }

    /// What the table is marked as, and which of its fields were `null`.
    pub(super) fn told(&self, table: &Table) -> mlua::Result<Told<'_>> {
        let Some(metatable) = table.metatable() else {
            return Ok(Told { mark: None, nulls: Nulls::None });
        };
        match self.marks.get(&address(&metatable)) {
            Some(Meaning::Mark(mark)) => Ok(Told { mark: Some(*mark), nulls: Nulls::None }),
            Some(Meaning::Nulls(set)) => Ok(self.sets[*set].told()),
            None => self.told_by_itself(&metatable),
        }
    }

    /// The metatable of a table with the keys up to `place`, of which these were `null`; without a place their order is not
    /// known.
    pub(super) fn mark_for<K: AsRef<str>>(
        &mut self,
        lua: &Lua,
        place: Option<NodeId>,
        nulls: &[K],
    ) -> mlua::Result<Table> {
        match place {
            _ if !nulls.is_empty() => self.mark_with_nulls(lua, place, nulls),
            Some(place) => self.metatable(lua, place).cloned(),
            None => Ok(self.object.clone()),
        }
    }

    /// The place after `from` with one more key; `None` past the bounds.
    pub(super) fn follow(
        &mut self,
        lua: &Lua,
        from: NodeId,
        key: &str,
    ) -> mlua::Result<Option<NodeId>> {
        let known = self.nodes[from].children.iter().copied();
        if let Some(found) = known.into_iter().find(|&child| &*self.nodes[child].text == key) {
            return Ok(Some(found));
        }
        let full = self.nodes.len() >= MAX_NODES || self.nodes[from].children.len() >= MAX_CHILDREN;
        if full || key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        let node = Node {
            parent: from,
            key: Some(lua.create_string(key)?),
            text: key.into(),
            written: format!("{}:", serde_json::Value::from(key)).into_bytes().into(),
            children: Vec::new(),
            mark: None,
        };
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.nodes[from].children.push(id);
        Ok(Some(id))
    }

    /// The key that leads to a place.
    pub(super) fn key(&self, node: NodeId) -> Option<&LuaString> {
        self.nodes[node].key.as_ref()
    }

    /// The metatable of objects with the keys up to `node`.
    fn metatable(&mut self, lua: &Lua, node: NodeId) -> mlua::Result<&Table> {
        if self.nodes[node].mark.is_none() {
            let metatable = lua.create_table()?;
            self.marks.insert(address(&metatable), Meaning::Mark(Mark::Shape(node)));
            let places = self.places(node);
            self.nodes[node].mark = Some(ShapeMark { metatable, places, sets: Vec::new() });
        }
        self.nodes[node].mark.as_ref().map(|mark| &mark.metatable).ok_or_else(missing)
    }

    fn places(&self, node: NodeId) -> ByAddress<Place> {
        let mut places = ByAddress::default();
        for place in self.path(node) {
            // A key that came twice keeps its first place.
            if let Some(key) = &self.nodes[place.node].key {
                places.entry(key.to_pointer() as usize).or_insert(place);
            }
        }
        places
    }

    /// Every key of a shape, in their order.
    fn path(&self, node: NodeId) -> impl Iterator<Item = Place> {
        let mut path = Vec::new();
        let mut at = node;
        while at != ROOT {
            path.push(at);
            at = self.nodes[at].parent;
        }
        path.into_iter().rev().enumerate().map(|(position, node)| Place { position, node })
    }

    /// How many keys the shape has.
    pub(super) fn keys(&self, node: NodeId) -> usize {
        self.nodes[node].mark.as_ref().map_or(0, |mark| mark.places.len())
    }

    /// Where in the shape the key stands, and the key as JSON with its colon; `None` for one that was added.
    pub(super) fn place(&self, node: NodeId, key: &LuaString) -> Option<(usize, &[u8])> {
        let mark = self.nodes[node].mark.as_ref()?;
        let known = mark.places.get(&(key.to_pointer() as usize)).copied();
        // Strings above 40 bytes have no one address.
        let place = known.or_else(|| {
            let text = key.as_bytes();
            if text.len() > 40 { self.place_by_text(node, &text) } else { None }
        })?;
        Some((place.position, self.written(place)))
    }

    /// The key as JSON with its colon.
    pub(super) fn written(&self, place: Place) -> &[u8] {
        &self.nodes[place.node].written
    }

    fn place_by_text(&self, node: NodeId, key: &[u8]) -> Option<Place> {
        let (mut at, mut found, mut behind) = (node, None, 0);
        while at != ROOT {
            behind += 1;
            if self.nodes[at].text.as_bytes() == key {
                found = Some((behind, at));
            }
            at = self.nodes[at].parent;
        }
        found.map(|(from_end, node)| Place { position: behind - from_end, node })
    }
}

fn address(table: &Table) -> usize {
    table.to_pointer() as usize
}

fn missing() -> mlua::Error {
    mlua::Error::RuntimeError("the VM has no JSON functions".to_owned())
}
