-- Bodies of `Process` that try to stall or to crash the process: a name, then the body, then an empty line.
-- Each must come back in time, and whatever is called next must work.

-- loop
while true do end

-- loop in pcall
while true do pcall(function() while true do end end) end

-- nested pcall
local function f() pcall(f) pcall(f) end f()

-- loop in xpcall handler
while true do xpcall(lua_error, function() while true do end end) end

-- error in error handler
xpcall(lua_error, function() lua_error('again') end)

-- handler calls itself
local function h() return xpcall(h, h) end h()

-- loop in coroutine
while true do coroutine.resume(coroutine.create(function() while true do end end)) end

-- loop in wrapped coroutine
while true do pcall(coroutine.wrap(function() while true do end end)) end

-- coroutine in coroutine
local function f() return coroutine.wrap(f)() end f()

-- many coroutines
local t = {} while true do t[#t + 1] = coroutine.create(print) coroutine.resume(t[#t]) end

-- yield outside
coroutine.yield()

-- yield out of gsub
coroutine.wrap(function() ('a'):gsub('a', coroutine.yield) end)()

-- close of coroutine
local co = coroutine.wrap(function() local x <close> = nil coroutine.yield() end) co() coroutine.close(coroutine.create(co))

-- deep recursion
local function f() return 1 + f() end f()

-- tail recursion
local function f() return f() end f()

-- deep recursion in pcall
local function f() local ok, e = pcall(f) return lua_error(e) end f()

-- gsub in gsub
local function f(x) return ('a'):gsub('a', f) end f()

-- gsub, pcall, sort
local function f() pcall(string.gsub, 'a', 'a', function() table.sort({1, 2, 3}, f) end) end f()

-- pattern bomb find
('a'):rep(100000):find('.-.-.-.-b')

-- pattern bomb in pcall
while true do pcall(string.find, ('a'):rep(1000), '.-.-.-.-b') end

-- pattern bomb gsub
('a'):rep(100000):gsub(('a*'):rep(30) .. 'b', '')

-- pattern bomb gmatch
for x in ('a'):rep(100000):gmatch('.-.-.-b') do end

-- deep pattern
('a'):rep(1000):find(('('):rep(31) .. ('a?'):rep(1000))

-- balance bomb
while true do ('('):rep(1000000):find('%b()') end

-- short matches
local s = ('a'):rep(4000) while true do s:find('.-b') end

-- gsub bomb
local s = 'aaaaaaaaaa' while true do s = s:gsub('a', 'aaaaaaaaaa') end

-- rep of nothing
(''):rep(1e15)

-- rep bomb
('x'):rep(1e12)

-- rep loop
while true do local x = ('x'):rep(3000000) end

-- doubling
local s = 'x' while true do s = s .. s end

-- long concatenation
local s = ('x'):rep(1000000) while true do local x = s .. s end

-- long comparison
local a = ('x'):rep(2000000) local b = a .. 'y' a = a .. 'z' while true do local x = a < b end

-- long equality
local a = ('x'):rep(2000000) local b = a .. 'y' a = a .. 'z' while true do local x = a == b end

-- long coercion
local a = ('1'):rep(2000000) while true do local x = a + 1 end

-- reverse loop
local a = ('x'):rep(2000000) while true do a = a:reverse():upper():lower() end

-- sub loop
local a = ('x'):rep(2000000) while true do local b = a:sub(2) end

-- format loop
local a = ('x'):rep(1000000) while true do local b = ('%s%s'):format(a, a) end

-- wide format
('%99999d'):format(1)

-- many formats
local i = 0 while true do i = i + 1 string.format('%d' .. i, 1.5) end

-- table bomb
local t = {} while true do t[#t + 1] = {} end

-- sort of long strings
local a = ('x'):rep(1000000) local t = {} for i = 1, 5000 do t[i] = a end while true do table.sort(t) end

-- sort by a C function
local t = {} for i = 1, 100000 do t[i] = i end while true do pcall(table.sort, t, rawequal) end

-- sort with a wrong order
local t = {} for i = 1, 10000 do t[i] = i end while true do pcall(table.sort, t, function() return true end) end

-- huge unpack
table.unpack({}, 1, 1e7)

-- unpack of everything
table.unpack({}, math.mininteger, math.maxinteger)

-- unpack loop
local function f() while true do pcall(table.unpack, {}, 1, 900000) end end f()

-- huge move
while true do table.move({}, 1, 1e7, 2) end

-- huge concat
table.concat(setmetatable({}, {__index = function() return '' end}), '', 1, 1e7)

-- length without end
table.insert(setmetatable({}, {__len = function() return 1e15 end}), 1, 1)

-- concat by length
table.concat(setmetatable({}, {__len = function() return 1e15 end, __index = string}))

-- late length
local m = {} local t = setmetatable({}, m) m.__len = function() return 1e15 end table.sort(t)

-- hidden metatable
local t = setmetatable({}, {__len = function() return 1e15 end, __metatable = false}) table.remove(t, 1)

-- insert in front
local t = {} for i = 1, 100000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end

-- index chain
local t = {} for i = 1, 5000 do t = setmetatable({}, {__index = t}) end while true do local x = t.a end

-- index loop
local t = {} setmetatable(t, {__index = t}) local x = t.a

-- metamethod recursion
local t t = setmetatable({}, {__index = function(t, k) return t[k] end}) local x = t.a

-- concat metamethods
local m = {} m.__concat = function(a, b) return a .. b end local t = setmetatable({}, m) local x = t .. t

-- tostring recursion
local m = {} m.__tostring = function(t) return tostring(t) end print(setmetatable({}, m))

-- finalizer
setmetatable({}, {__gc = function() while true do end end}) collectgarbage()

-- late finalizer
local m = {} local t = setmetatable({}, m) m.__gc = function() while true do end end t = nil while true do t = {} end

-- close
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local x <close> = t lua_error('x')

-- closes on a deep stack
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local function f() local x <close> = t f() end f()

-- closing iterator
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end for i in next, {1}, nil, t do while true do end end

-- close in a wrapped coroutine
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end coroutine.wrap(function() local x <close> = t while true do end end)()

-- close by a closer
local m = {} local t = setmetatable({}, m) local co m.__close = function() while true do coroutine.close(co) end end co = coroutine.create(function() local x <close> = t while true do end end) local y <close> = t coroutine.resume(co)

-- close after the hook
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local x <close> = t while true do end

-- close in pcall
local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end while true do pcall(function() local x <close> = t while true do end end) end

-- reader without end
load(function() return 'x = 1 ' end)

-- C reader
load(os.time)

-- long chunk
while true do load(('a = 1 '):rep(100000)) end

-- deep chunk
load(('('):rep(100000))

-- deep blocks
load(('do '):rep(100000))

-- deep tables
load('return ' .. ('{'):rep(100000))

-- unary chain
load('return ' .. ('-'):rep(100000) .. '1')

-- concat chain
load('local a = 1 return ' .. ('a..'):rep(100000) .. 'a')

-- binary chunk
load('\27Lua\84\0\25\147\r\n\26\n' .. ('\255'):rep(1000))

-- error object
lua_error(setmetatable({}, {__tostring = function() while true do end end}))

-- error without value
lua_error()

-- emit of a bomb
local t = {} t[1] = t emit('out', t)

-- pairs metamethod
for k in pairs(setmetatable({}, {__pairs = function() return function() return 1 end end})) do end

-- empty table scan
local t = {} for i = 1, 100000 do t['k' .. i] = 1 end for i = 1, 100000 do t['k' .. i] = nil end while true do local x = next(t) end

-- bytes
local a = ('x'):rep(500000) while true do pcall(string.byte, a, 1, -1) end

-- pack
while true do string.pack('c3000000', 'x') end

-- utf8
local a = ('x'):rep(3000000) while true do utf8.len(a) utf8.offset(a, -1) end

-- select
local function f(...) return select('#', ...) + f(1, ...) end f()

-- date
while true do os.date(('%c'):rep(1000)) end

-- bad date
os.date('%E%O%Q')

-- collect
while true do collectgarbage() collectgarbage('step') end

-- globals torn down
for k in pairs(_G) do _G[k] = nil end while true do end

-- string table torn down
for k in pairs(string) do string[k] = nil end ('x'):rep(3)

-- memory held at the end
keep = {} while true do keep[#keep + 1] = ('x'):rep(1000) .. #keep end

-- memory in pcall
keep = {} while true do pcall(function() while true do keep[#keep + 1] = {} end end) end

-- errors out of memory
keep = {} pcall(function() while true do keep[#keep + 1] = {} end end) while true do pcall(emit, 'nowhere', 1) end

-- find out of memory
keep = {} pcall(function() while true do keep[#keep + 1] = {} end end) while true do ('abc'):gsub('(.)', function(c) return c .. c end) end

-- many emits
while true do emit('out', 'x') end

-- many emits in pcall
while true do pcall(emit, 'out', 'x') end

-- log flood
while true do print('x') end

-- loop in a sort comparison
local t = {} for i = 1, 200 do t[i] = -i end table.sort(t, function(a, b) while true do end end)

-- loop in a short sort
table.sort({3, 2, 1}, function(a, b) while true do end end)

-- loop in a gsub callback
('abc'):gsub('.', function() while true do end end)

-- loop in a gmatch body
for c in ('x'):rep(100):gmatch('.') do while true do end end

-- loop in an iterator
for x in function() while true do end end do end

-- loop in a reader
load(function() while true do end end)

-- loop in tostring
print(setmetatable({}, {__tostring = function() while true do end end}))

-- loop in __index
local x = setmetatable({}, {__index = function() while true do end end}).a

-- loop in __newindex
setmetatable({}, {__newindex = function() while true do end end}).a = 1

-- loop in __call
setmetatable({}, {__call = function() while true do end end})()

-- loop in __eq
local m = {__eq = function() while true do end end} local x = setmetatable({}, m) == setmetatable({}, m)

-- loop in __lt
local m = {__lt = function() while true do end end} local x = setmetatable({}, m) < setmetatable({}, m)

-- loop in __len
local x = #setmetatable({}, {__len = function() while true do end end})

-- loop in __pairs
pairs(setmetatable({}, {__pairs = function() while true do end end}))

-- loop in the metatable of strings
getmetatable('').__index = function() while true do end end local x = ('a').b

-- loop in the metatable of globals
setmetatable(_G, {__index = function() while true do end end}) local x = nothing_here

-- loop behind xpcall in a coroutine
coroutine.wrap(function() xpcall(function() while true do end end, function() while true do end end) while true do end end)()

-- coroutines that resume each other
local a, b a = coroutine.create(function() while true do coroutine.resume(b) end end) b = coroutine.create(function() while true do coroutine.resume(a) coroutine.yield() end end) while true do coroutine.resume(a) end

-- coroutine per step
while true do coroutine.wrap(function() coroutine.yield() end)() end

-- wrap of wraps
local f = function() end for i = 1, 1e6 do f = coroutine.wrap(f) end f()

-- call chain of metatables
local t = function() while true do end end for i = 1, 1000 do t = setmetatable({}, {__call = t}) end t()

-- newindex chain
local t = {} for i = 1, 3000 do t = setmetatable({}, {__newindex = t}) end while true do t.a = 1 end

-- mutual recursion through metamethods
local m = {} m.__add = function(a, b) return a - b end m.__sub = function(a, b) return a + b end local t = setmetatable({}, m) local x = t + t

-- deep recursion through gsub
local function f(s) return (s:gsub('.', f)) end f('abc')

-- deep recursion through sort
local function f() table.sort({2, 1}, f) return true end f()

-- deep recursion through tostring
local m = {} m.__tostring = function(t) return tostring(setmetatable({}, m)) end tostring(setmetatable({}, m))

-- deep recursion through require
package.loaded = nil local function f() return pcall(require, 'none') and f() or f() end f()

-- error with nil
lua_error(nil)

-- error with a table whose tostring throws
lua_error(setmetatable({}, {__tostring = function() lua_error('from tostring') end}))

-- error with a table whose tostring is no function
lua_error(setmetatable({}, {__tostring = 1}))

-- error with a table whose tostring gives no text
lua_error(setmetatable({}, {__tostring = function() return {} end}))

-- error with a table that names itself
lua_error(setmetatable({}, {__name = ('x'):rep(100000)}))

-- error with a function
lua_error(function() while true do end end)

-- error with a coroutine
lua_error(coroutine.create(function() end))

-- error with a huge text
lua_error(('x'):rep(3000000))

-- error with bytes
lua_error('\0\255\27[31m\r\n')

-- error out of an error's tostring
local m = {} m.__tostring = function(e) lua_error(e) end lua_error(setmetatable({}, m))

-- errors caught for ever
while true do pcall(lua_error, setmetatable({}, {__tostring = function() lua_error(1) end})) end

-- json_encode of a cycle
local t = {} t.t = t json_encode(t)

-- json_encode of a cycle in pcall
local t = {} t[1] = t while true do pcall(json_encode, t) end

-- json_encode of a long cycle
local first = {} local t = first for i = 1, 5000 do t.next = {} t = t.next end t.next = first json_encode(first)

-- json_encode of a deep table
local t = {} for i = 1, 100000 do t = {t} end json_encode(t)

-- json_encode of shared tables
local t = {1} for i = 1, 40 do t = {t, t} end json_encode(t)

-- json_encode of a wide table
local t = {} for i = 1, 100000 do t['key' .. i] = i end while true do json_encode(t) end

-- json_encode of a sparse table
json_encode({[1] = 1, [1e15] = 2})

-- json_encode with metamethods
json_encode(setmetatable({}, {__index = function() while true do end end, __pairs = function() while true do end end, __len = function() return 1e15 end}))

-- json_encode of what is no JSON
json_encode({print, coroutine.create(print), 0/0, 1/0, [{}] = 1})

-- json_encode of long texts
local s = ('\1'):rep(500000) while true do json_encode({s, s}) end

-- json_decode of deep arrays
json_decode(('['):rep(1000000))

-- json_decode of deep closed arrays
json_decode(('['):rep(100000) .. (']'):rep(100000))

-- json_decode of deep objects
json_decode(('{"a":'):rep(100000))

-- json_decode of deep input in pcall
local s = ('[{"a":'):rep(50000) while true do pcall(json_decode, s) end

-- json_decode of a wide array
local s = '[' .. ('1,'):rep(500000) .. '1]' while true do json_decode(s) end

-- json_decode of many keys
local t = {} for i = 1, 50000 do t[i] = '"k' .. i .. '":0' end local s = '{' .. table.concat(t, ',') .. '}' while true do json_decode(s) end

-- json_decode of one key again and again
local s = '{' .. ('"a":1,'):rep(100000) .. '"a":1}' while true do json_decode(s) end

-- json_decode of long numbers
local s = ('9'):rep(1000000) while true do json_decode(s) json_decode('0.' .. s) json_decode('1e' .. s) end

-- json_decode of escapes
local s = '"' .. ('\\u0041'):rep(100000) .. '"' while true do json_decode(s) end

-- json_decode of broken escapes
json_decode('"\\ud800"') json_decode('"\\u12') json_decode('"\255"') json_decode('\0')

-- kept tables without end
local n = 0 while true do n = n + 1 kv_set('k' .. n, ('x'):rep(60000)) end

-- kept cycle
local t = {} t.t = t kv_set('k', t)

-- a long reason
drop(('x'):rep(3000000))

-- reasons without end
while true do drop(('x'):rep(100000)) dead('y') end

-- one huge emit
emit('out', ('x'):rep(7000000))

-- huge emits
while true do emit('out', ('x'):rep(1000000)) end

-- emit of shared tables
local t = {1} for i = 1, 40 do t = {t, t} end emit('out', t)

-- emit of a deep table
local t = {} for i = 1, 100000 do t = {t} end emit('out', t)

-- emit to names without end
while true do pcall(emit, ('x'):rep(10000), 'x') end

-- emit of odd things
pcall(emit) pcall(emit, 'out') pcall(emit, {}, {}) pcall(emit, 'out', print) emit('out', print)

-- one huge log line
info(('x'):rep(7000000))

-- huge log lines
while true do warn(('x'):rep(1000000)) end

-- logs with metamethods
info(setmetatable({}, {__tostring = function() while true do end end, __name = 7}))

-- logs of many values
info(table.unpack({}, 1, 100000))

-- logs that look like logs
info('x\n2026-11-24T00:00:00Z ERROR not so\27[2J\r')

-- grok bomb
local p = ('%{GREEDYDATA}'):rep(20) .. 'x' while true do grok_parse(p, ('a'):rep(2000)) end

-- grok of nested quantifiers
grok_parse('^(?<x>(a+)+)+$', ('a'):rep(5000) .. '!')

-- grok patterns without end
local n = 0 while true do n = n + 1 grok_parse('%{WORD:w' .. n .. '}', 'x') end

-- grok of a huge pattern
grok_parse(('%{IP:x}'):rep(20000), 'x')

-- grok that counts high
grok_parse('(?:(?:(?:a{1000}){1000}){1000})', 'a')

-- grok with the wrong things
pcall(grok_parse) pcall(grok_parse, {}, {}) grok_parse('(', 'x') grok_parse('%{', 'x') grok_parse('%{A:b:c:d}', 'x')

-- regexes without end
local n = 0 while true do n = n + 1 regex_match('a' .. n, 'x') end

-- regex that counts high
regex_match('(?:a{1000}){1000}', 'a')

-- regex over a long text
local s = ('ab'):rep(1000000) while true do regex_replace('[a-z]+?(x|$)', s, '$0') end

-- regex that grows its text
local s = 'a' while true do s = regex_replace('a', s, 'aaaaaaaaaa') end

-- encodings of long texts
local s = ('x'):rep(1000000) while true do hex_encode(s) base64_encode(s) url_encode(s) sha256(s) hmac_sha256(s, s) end

-- a query without end
local s = ('a=b&'):rep(500000) while true do pcall(parse_query, s) end

-- headers of deep JSON
header(('['):rep(100000), 'x')

-- times out of range
pcall(time_format, 1e300) pcall(time_format, -1e300) pcall(time_format, 0/0) time_parse(('9'):rep(100000)) pcall(os.date, '%c', 1e300)

-- formats of time without end
local f = ('%Y'):rep(100000) while true do pcall(time_format, 0, f) pcall(time_parse, 'x', f) end

-- module that is the script
require('hostile')

-- modules outside
pcall(require, '../../etc/passwd') pcall(require, '/etc/passwd') pcall(require, ('a.'):rep(100000)) require('')

-- library torn down in a call
for name in pairs(table) do table[name] = nil end pcall = nil tostring = nil setmetatable = nil while true do emit('nowhere', {}) end

-- metatable of strings torn down
setmetatable(getmetatable(''), {__index = lua_error}) getmetatable('').__index = nil local x = ('a'):upper()

-- load of loads
local f = 'load(...)' local s = 'return load' while true do load(s)() end

-- varargs without end
local function f(...) return f(1, ...) end f()

-- table of huge size
local t = table.pack(table.unpack({}, 1, 200000)) while true do table.concat({table.unpack(t)}) end

-- string compare loop
local a, b = ('a'):rep(3000000), ('a'):rep(3000000) while true do local x = a <= b end

-- goto loop
::top:: goto top

-- numeric for without end
for i = 1, math.huge do end

-- for with a step of nothing
for i = 1, 2, 0 do end

-- arithmetic loop
local x = 0 repeat x = x + 1 until x < 0
