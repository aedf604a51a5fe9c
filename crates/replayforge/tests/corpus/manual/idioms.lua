-- What scripts for Lua 5.2 with doubles say, and what comes of it.
local cases = {}

function cases.varargs()
  local function count(...) return select("#", ...), (...) end
  return count(unpack({ "a", "b", "c" }, 2))
end

function cases.chunks()
  local f = loadstring("local a, b = ... return a + b")
  local bad, err = loadstring("return +")
  return f(2, 3), bad, type(err), assert(load("return 7"))()
end

function cases.math()
  return math.pow(2, 10), math.log10(1000), math.ldexp(3, 2), math.fmod(7, 3), math.floor(-2.5), math.max(1, 2.5), 7 % 3, 2 ^ 3
end

function cases.tables()
  local t = { 5, 3, 9, n = 1 }
  table.sort(t, function(a, b) return a > b end)
  table.insert(t, 4)
  return table.getn(t), #t, table.concat(t, ","), table.remove(t), table.maxn(t)
end

function cases.pack()
  local p = table.pack(1, nil, 3)
  return p.n, table.unpack(p, 1, p.n)
end

function cases.formats()
  return string.format("%d %5.2f %s %q %x %%", 3.0, 1 / 3, 10 / 2, "a\nb", 255)
end

function cases.numbers()
  return 10 / 2, 1e3, 3.0, 2 ^ 31, 100000000000000, tostring(1e15), 0.1 + 0.2, "10" + 5, "3" * "4", tonumber("ff", 16), 7 .. ""
end

function cases.strings()
  local out = {}
  for word in ("one two  three"):gmatch("%a+") do out[#out + 1] = word:upper() end
  return table.concat(out, "|"), ("x"):rep(3, "-"), ("hello"):find("l"), ("a.b"):gsub("%.", "%%"), ("abc"):byte(-1), ("%d+"):len()
end

function cases.iteration()
  local sum, keys = 0, 0
  for _, n in ipairs({ 1, 2, nil, 4 }) do sum = sum + n end
  for _ in pairs({ a = 1, b = 2 }) do keys = keys + 1 end
  table.foreachi({ 10, 20 }, function(_, n) sum = sum + n end)
  return sum, keys
end

function cases.classes()
  local Counter = {}
  Counter.__index = Counter
  Counter.__call = function(self, by) self.n = self.n + by return self end
  Counter.__tostring = function(self) return "counter " .. self.n end
  local c = setmetatable({ n = 1 }, Counter)
  return tostring(c(4)), getmetatable(c) == Counter, rawget(c, "missing")
end

function cases.coroutines()
  local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end)
  return gen(), gen(), gen()
end

function cases.errors()
  local ok, err = pcall(function() lua_error("text", 0) end)
  local ok2, obj = pcall(lua_error, { code = 4 })
  local ok3, traced = xpcall(function() local x = nil; return x.y end, function(e) return "handled " .. type(e) end)
  return ok, err, ok2, obj.code, ok3, traced, pcall(assert, false, "asserted")
end

function cases.bits()
  return bit32.band(12, 10), bit32.bor(12, 10), bit32.lshift(1, 4), bit32.rshift(-1, 28)
end

function cases.gotos()
  local n = 0
  ::again::
  n = n + 1
  if n < 3 then goto again end
  return n
end

function cases.time()
  return os.time(), os.date("!%Y-%m-%d", 0), os.time({ year = 2026, month = 1, day = 2, hour = 0 }) - os.time({ year = 2026, month = 1, day = 1, hour = 0 })
end

function cases.missing()
  return io, os.execute, os.exit, package and package.loadlib, dofile
end

function Process(content, emit)
  local results = table.pack(cases[content]())
  for i = 1, results.n do
    results[i] = tostring(results[i])
  end
  emit("out", table.concat(results, " ", 1, results.n))
end
