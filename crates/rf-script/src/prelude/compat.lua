-- What scripts written for Lua 5.1 and 5.2 expect of Lua 5.4. Runs after the fences, so what it hands on is fenced.
local helpers = ...
local raise, type, select, pairs, pcall = lua_error, type, select, pairs, pcall
local floor, tonumber, math_type = math.floor, tonumber, math.type
local exp, log, abs, fmod = math.exp, math.log, math.abs, math.fmod

unpack = table.unpack
string.gfind = string.gmatch
function loadstring(text, name) return load(text, name) end

function table.getn(t) return #t end

function table.maxn(t)
  local largest = 0
  for key in next, t do
    if type(key) == "number" and key > largest then largest = key end
  end
  return largest
end

function table.foreach(t, f)
  for key, value in pairs(t) do
    local result = f(key, value)
    if result ~= nil then return result end
  end
end

function table.foreachi(t, f)
  for i = 1, #t do
    local result = f(i, t[i])
    if result ~= nil then return result end
  end
end

local own_ipairs, getmetatable, rawget = ipairs, getmetatable, rawget
function ipairs(t)
  local metatable = getmetatable(t)
  local made = type(metatable) == "table" and rawget(metatable, "__ipairs")
  if not made then return own_ipairs(t) end
  local step, state, first = made(t)
  return step, state, first
end

-- For functions that end in `return called(name, pcall(raw, ...))`: the error gets the place of the script that called.
local function called(name, ok, ...)
  if ok then return ... end
  raise((tostring((...)):gsub("'%?'", "'" .. name .. "'")), 2)
end

-- Mathematics --------------------------------------------------------------------------------------------------------

function math.pow(x, y) return x ^ y end
function math.log10(x) return log(x, 10) end

-- Among integers a zero is an error.
function math.fmod(x, y)
  if y == 0 then y = 0.0 end
  return called("fmod", pcall(fmod, x, y))
end
math.mod = math.fmod

-- Lua's own would cut fractions off (lua/string.h).
local tointeger = math.tointeger
function math.tointeger(x)
  local number = tonumber(x)
  if number == nil or number ~= floor(number) then return nil end
  return tointeger(number)
end

function math.cosh(x) return (exp(x) + exp(-x)) / 2 end
function math.sinh(x)
  -- Near zero the difference of two exponentials has no digits left.
  if abs(x) < 1e-5 then return x + x * x * x / 6 end
  return (exp(x) - exp(-x)) / 2
end
function math.tanh(x)
  if x > 20 then return 1.0 elseif x < -20 then return -1.0 end
  return math.sinh(x) / math.cosh(x)
end

function math.ldexp(m, e)
  e = floor(e)
  -- In steps, for 2^e may be out of range where the result is not.
  while e > 1000 do
    if m == 0 or m - m ~= 0 then return m end
    m, e = m * 2.0 ^ 1000, e - 1000
  end
  while e < -1000 do
    if m == 0 then return m end
    m, e = m * 2.0 ^ -1000, e + 1000
  end
  return m * 2.0 ^ e
end

function math.frexp(x)
  x = x + 0.0
  if x == 0 or x - x ~= 0 then return x, 0 end
  local e = 0
  if abs(x) < 2.0 ^ -1000 then x, e = x * 2.0 ^ 200, -200 end
  local m = abs(x)
  local guess = floor(log(m, 2)) + 1
  if guess > 1000 then m, e = m * 2.0 ^ -200, e + 200; guess = guess - 200 end
  m = m / 2.0 ^ guess
  -- The logarithm is rounded and may be off by one.
  if m >= 1 then m, guess = m / 2, guess + 1 elseif m < 0.5 then m, guess = m * 2, guess - 1 end
  return x < 0 and -m or m, e + guess
end

local random = math.random
local function floored(n)
  if math_type(n) == "float" and n - n == 0 then return floor(n) end
  return n
end
function math.random(...)
  local count = select("#", ...)
  if count == 0 then return random() end
  local low, high = ...
  local ok, number
  if count == 1 then ok, number = pcall(random, floored(low)) else ok, number = pcall(random, floored(low), floored(high)) end
  if ok then return number end
  raise((tostring(number):gsub("'%?'", "'random'")), 2)
end

-- Time ---------------------------------------------------------------------------------------------------------------

local time, date = os.time, os.date
function os.time(t)
  if t == nil then return helpers.now_seconds() end
  return called("time", pcall(time, t))
end
function os.date(text, at)
  -- A long format takes long in C, where the instruction hook cannot look.
  helpers.look()
  if type(text) == "string" and #text > 4096 then raise("date: a format may have 4096 bytes", 2) end
  return called("date", pcall(date, text or "%c", at or helpers.now_seconds()))
end

-- A VM shares its process with others: none may end it or change its locale.
os.exit, os.setlocale = nil, nil
if not helpers.unsafe_scripts then
  os.execute, os.remove, os.rename, os.tmpname = nil, nil, nil, nil
  io, dofile, loadfile = nil, nil, nil
end
