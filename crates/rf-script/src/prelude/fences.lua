-- Keeps Lua's own library within the limits of a call: what would loop in C, where the instruction hook cannot look, is
-- refused, asks for the time as it goes, or is written in Lua. Runs first; `helpers` come from Rust.
local helpers = ...
local raise, type, select, pcall, tostring = lua_error, type, select, pcall, tostring
local getmetatable, setmetatable, load, collectgarbage = getmetatable, setmetatable, load, collectgarbage
local look, expired, text_of_error = helpers.look, helpers.expired, helpers.text_of_error
local out_of_memory, note_full = helpers.out_of_memory, helpers.note_full
local check_table, is_native = helpers.check_table, helpers.is_native
local math_type, tonumber = math.type, tonumber
local find, gsub = string.find, string.gsub
local unpack_raw, rawget, rawlen = table.unpack, rawget, rawlen

-- A size from which on a call of a C function asks for the time.
local LARGE = 16384

-- Errors -------------------------------------------------------------------------------------------------------------

-- Every error that a script catches goes through here. That the memory is full is noted, whatever the script makes of it.
local function readable(message)
  if type(message) == "userdata" then return text_of_error(message) end
  if message == out_of_memory then note_full() end
  return message
end

-- The end of a time limit cannot be caught; else `while true do pcall(f) end` would never stop.
local function caught(ok, ...)
  if ok then return true, ... end
  if expired() then look() end
  return false, readable((...)), select(2, ...)
end

function _G.pcall(...) return caught(pcall(...)) end

-- The handler is called after the error has been caught, not where it was raised: there the hook is off if it was the hook
-- that raised. Without a debug library no handler can tell.
local function handled(handler, ok, ...)
  if ok then return true, ... end
  if expired() then look() end
  return false, select(2, caught(pcall(handler, readable((...)))))
end

function _G.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    raise("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return handled(handler, pcall(f, ...))
end

-- For wrappers that end in `return passed(name, pcall(raw, ...))`: the error gets the place of the script that called.
local function passed(name, ok, ...)
  if ok then return ... end
  if expired() then look() end
  local message = readable((...))
  if type(message) == "string" then
    message = gsub(message, "^%[prelude%]:%d+: ", "")
    message = gsub(message, "'%?'", "'" .. name .. "'", 1)
  end
  return raise(message, 2)
end

-- Asks for the time at each call; for functions that are seldom called.
local function watched(name, raw)
  return function(...)
    look()
    return passed(name, pcall(raw, ...))
  end
end

-- Coroutines ---------------------------------------------------------------------------------------------------------

local create, resume, close = coroutine.create, coroutine.resume, coroutine.close

-- A coroutine counts its own instructions until the hook looks. Those of many short ones would add up between two looks at
-- whoever resumes them.
function coroutine.resume(...)
  look()
  return caught(resume(...))
end

-- A coroutine that the hook ended has its hook off for good; nothing in it may run again.
function coroutine.close(...)
  look()
  return caught(close(...))
end

local function unwrapped(ok, ...)
  if ok then return ... end
  if expired() then look() end
  return raise(readable((...)), 0)
end

-- Lua's own closes a failed coroutine at once, see above.
function coroutine.wrap(f)
  local co = create(f)
  return function(...)
    look()
    return unwrapped(resume(co, ...))
  end
end

-- Tables -------------------------------------------------------------------------------------------------------------

local insert, remove, concat, sort, move = table.insert, table.remove, table.concat, table.sort, table.move

function table.insert(t, ...)
  if type(t) == "table" and (getmetatable(t) ~= nil or (select("#", ...) ~= 1 and #t > LARGE)) then
    look()
    local reason = check_table("insert", t, select("#", ...) == 1 and 1 or rawlen(t))
    if reason then raise(reason, 2) end
  end
  if select("#", ...) == 1 and type(t) == "table" then
    t[#t + 1] = (...)
    return
  end
  return passed("insert", pcall(insert, t, ...))
end

function table.remove(t, ...)
  if type(t) == "table" and (getmetatable(t) ~= nil or #t > LARGE) then
    look()
    local reason = check_table("remove", t, select("#", ...) == 0 and 1 or rawlen(t))
    if reason then raise(reason, 2) end
  end
  return passed("remove", pcall(remove, t, ...))
end

-- How many elements a call with these bounds is about.
local function span(t, from, to)
  from = tonumber(from == nil and 1 or from) or 1
  to = tonumber(to == nil and (type(t) == "table" and #t or 0) or to) or 0
  -- As floats, so that no bounds overflow.
  return to + 0.0 - from + 1
end

local function check_span(name, t, count)
  if type(t) == "table" and (getmetatable(t) ~= nil or count > LARGE) then
    look()
    return check_table(name, t, count)
  end
end

function table.concat(t, separator, from, to)
  if type(t) == "table" and getmetatable(t) ~= nil then
    local reason = check_table("concat", t, 0)
    if reason then raise(reason, 2) end
  end
  local reason = check_span("concat", t, span(t, from, to))
  if reason then raise(reason, 2) end
  local ok, joined
  if to == nil then
    ok, joined = pcall(concat, t, separator, from)
  else
    ok, joined = pcall(concat, t, separator, from, to)
  end
  if ok and #joined > LARGE then look() end
  if ok then return joined end
  return passed("concat", ok, joined)
end

function table.unpack(t, from, to)
  if type(t) == "table" and getmetatable(t) ~= nil then
    local reason = check_table("unpack", t, 0)
    if reason then raise(reason, 2) end
  end
  local count = span(t, from, to)
  local reason = check_span("unpack", t, count)
  if reason then raise(reason, 2) end
  if type(t) == "table" and from == nil and to == nil and count < 200 then return unpack_raw(t) end
  if to == nil then return passed("unpack", pcall(unpack_raw, t, from)) end
  return passed("unpack", pcall(unpack_raw, t, from, to))
end

function table.move(a, from, to, at, b)
  local target = b == nil and a or b
  local count = span(a, from, to)
  for _, t in next, { a, target } do
    local reason = check_span("move", t, count)
    if reason then raise(reason, 2) end
  end
  return passed("move", pcall(move, a, from, to, at, target))
end

-- Few elements are sorted in C. More are, too, but with a comparison in Lua, in which the hook can look.
function table.sort(t, less)
  if type(t) == "table" then
    if getmetatable(t) ~= nil then
      local reason = check_table("sort", t, 0)
      if reason then raise(reason, 2) end
    end
    if #t > 100 then
      look()
      if less == nil then
        less = function(a, b) return a < b end
      elseif is_native(less) then
        local native = less
        less = function(a, b) return native(a, b) end
      end
    end
  end
  return passed("sort", pcall(sort, t, less))
end

-- Strings ------------------------------------------------------------------------------------------------------------

local sub, byte, rep, format = string.sub, string.byte, string.rep, string.format

function string.sub(s, from, to)
  if type(s) ~= "string" or math_type(from) ~= "integer" or (to ~= nil and math_type(to) ~= "integer") then
    return passed("sub", pcall(sub, s, from, to))
  end
  local piece = sub(s, from, to)
  if #piece > LARGE then look() end
  return piece
end

function string.byte(s, from, to)
  if to ~= nil and type(s) == "string" and #s > LARGE then look() end
  if type(s) == "string" and to == nil and math_type(from) == "integer" then return byte(s, from) end
  return passed("byte", pcall(byte, s, from, to))
end

for _, name in next, { "upper", "lower", "reverse" } do
  local raw = string[name]
  string[name] = function(s)
    if type(s) ~= "string" then return passed(name, pcall(raw, s)) end
    if #s > LARGE then look() end
    return raw(s)
  end
end

for _, name in next, { "pack", "unpack", "packsize", "char" } do
  string[name] = watched(name, string[name])
end
for _, name in next, { "len", "codepoint", "offset", "char" } do
  utf8[name] = watched(name, utf8[name])
end
string.dump = nil

-- The iterator passes over what does not begin a character, of which a long text may be full.
local codes = utf8.codes
local function stepped(step)
  return function(s, at)
    if type(s) == "string" and #s > LARGE then look() end
    return passed("codes", pcall(step, s, at))
  end
end
local strict, lax = stepped((codes(""))), stepped((codes("", true)))
function utf8.codes(s, is_lax)
  local ok, step, text, first = pcall(codes, s, is_lax)
  if not ok then return passed("codes", ok, step) end
  return is_lax and lax or strict, text, first
end

-- The bytes of what `rep` takes; nothing for what it refuses by itself.
local function length_of(value)
  if type(value) == "string" then return #value end
  return type(value) == "number" and #tostring(value) or nil
end

function string.rep(s, n, separator)
  local length, between = length_of(s), separator == nil and 0 or length_of(separator)
  if length and between then
    local count = tonumber(n) or 0
    local total = (length + between) * (count + 0.0)
    -- In C it would count to n all the same.
    if length + between == 0 and count > 1 then return "" end
    if total > helpers.memory_bytes then
      raise("rep: the result would have more bytes than the memory limit", 2)
    end
    if total > LARGE then look() end
  end
  return passed("rep", pcall(rep, s, n, separator))
end

-- A format as Lua 5.4 knows it: it has no %u. Few formats are in use, so what they become is kept; a script that makes up
-- formats does not fill the memory with them.
local formats, kept = {}, 0
local function format_of(text)
  local known = text
  if find(text, "u", 1, true) then
    known = gsub(text, "(%%[-+ #0]*%d*%.?%d*)(.)", function(flags, conversion)
      if conversion == "u" then return flags .. "d" end
    end)
  end
  if #text < 256 then
    if kept >= 256 then formats, kept = {}, 0 end
    formats[text], kept = known, kept + 1
  end
  return known
end

local function formatted(name, ok, text, ...)
  if not ok then return passed(name, ok, text, ...) end
  if #text > LARGE then look() end
  return text
end

function string.format(text, ...)
  if type(text) == "string" then text = formats[text] or format_of(text) end
  return formatted("format", pcall(format, text, ...))
end

-- Arithmetic with strings goes by the metatable of strings. A long text is no number that anyone wrote.
local methods = getmetatable("")
for _, name in next, { "__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm", "__idiv" } do
  local raw, modulo = methods[name], name == "__mod"
  methods[name] = function(a, b)
    if (type(a) == "string" and #a > LARGE) or (type(b) == "string" and #b > LARGE) then
      raise("attempt to perform arithmetic on a string of more than " .. LARGE .. " bytes", 2)
    end
    -- Among integers a zero is an error here; between numbers it is none (lua/string.h).
    if modulo and tonumber(b) == 0 then b = 0.0 end
    return passed(name, pcall(raw, a, b))
  end
end

function _G.tonumber(...)
  local text = ...
  if type(text) == "string" and #text > LARGE then return nil end
  local base = select("#", ...) > 1 and select(2, ...) or nil
  if base == nil then
    if select("#", ...) == 0 then raise("bad argument #1 to 'tonumber' (value expected)", 2) end
    return tonumber(text)
  end
  return passed("tonumber", pcall(tonumber, text, base))
end

-- Basic functions ----------------------------------------------------------------------------------------------------

-- Finalizers run with the hook off: an endless loop in one could not be stopped.
function _G.setmetatable(t, metatable)
  if type(metatable) == "table" then
    if rawget(metatable, "__gc") ~= nil then raise("setmetatable: `__gc` is not supported", 2) end
    if rawget(metatable, "__close") ~= nil then raise("setmetatable: `__close` is not supported", 2) end
    if type(t) == "table" and getmetatable(t) == nil then return setmetatable(t, metatable) end
  end
  return passed("setmetatable", pcall(setmetatable, t, metatable))
end

local MAX_CHUNK = 1024 * 1024
-- Bytes that the parser gets between two looks at the clock.
local PIECE = 1024

-- A reader is called here and not by the parser, which is C.
local function read_chunk(reader)
  local pieces, size = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then return concat(pieces) end
    if type(piece) ~= "string" then return nil, "reader function must return a string" end
    size = size + #piece
    if size > MAX_CHUNK then return nil, "load: a chunk may have " .. MAX_CHUNK .. " bytes" end
    pieces[#pieces + 1] = piece
  end
end

-- The parser is C. For each `a and` of a chain of them it goes through those before: a chunk of a megabyte took minutes.
-- The reader raises when the time is over, and the parser ends.
local function in_pieces(text)
  local from = 1
  return function()
    look()
    local piece = sub(text, from, from + PIECE - 1)
    from = from + PIECE
    return piece
  end
end

-- For the host: a script, and what it requires; nothing when the time is over. Without `pcall`, since `load` raises nothing
-- here, and a script may nest as deeply as the parser allows.
function helpers.parse(text, name)
  local chunk, message = load(in_pieces(text), name, "t")
  if chunk or expired() then return chunk end
  return nil, readable(message)
end

-- What a reader raises, `load` returns.
local function loaded(ok, chunk, message)
  if not ok then return passed("load", ok, chunk) end
  if chunk ~= nil then return chunk end
  if expired() then look() end
  return nil, readable(message)
end

function _G.load(chunk, name, mode, ...)
  look()
  if type(chunk) == "function" then
    local text, reason = read_chunk(chunk)
    if not text then return nil, reason end
    chunk, name = text, name or "=(load)"
  end
  if type(chunk) ~= "string" then return loaded(pcall(load, chunk, name, "t", ...)) end
  if #chunk > MAX_CHUNK then
    return nil, "load: a chunk may have " .. MAX_CHUNK .. " bytes"
  end
  if name == nil then name = chunk end
  return loaded(pcall(load, in_pieces(chunk), name, "t", ...))
end

function _G.collectgarbage(option)
  if option == "count" then return collectgarbage("count") end
  return 0
end

function _G.print(...)
  local texts = table.pack(...)
  for i = 1, texts.n do texts[i] = tostring(texts[i]) end
  return info(concat(texts, "\t"))
end
