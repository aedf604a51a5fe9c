-- Lua 5.2's `bit32`, on the integers of Lua 5.4.
local raise, select, math_type, tonumber, floor = lua_error, select, math.type, tonumber, math.floor
local MASK = 0xFFFFFFFF

-- Numbers are taken modulo 2^32, fractions are rounded as 5.2 did.
local function word(name, at, value)
  if math_type(value) == "integer" then return value & MASK end
  local number = tonumber(value)
  if number == nil then
    raise("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. type(value) .. ")", 3)
  end
  if math_type(number) == "integer" then return number & MASK end
  if number - number ~= 0 then return 0 end
  return floor((number + 0.5) % 4294967296.0) & MASK
end

local function count(name, at, value)
  local number = tonumber(value)
  if number == nil or number - number ~= 0 then
    raise("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. type(value) .. ")", 3)
  end
  return floor(number)
end

local function fold(name, start, step)
  return function(...)
    local result = start
    for i = 1, select("#", ...) do
      result = step(result, word(name, i, (select(i, ...))))
    end
    return result
  end
end

local function left(x, by)
  if by <= -32 or by >= 32 then return 0 end
  if by < 0 then return x >> -by end
  return (x << by) & MASK
end

local function rotated(x, by)
  by = by % 32
  return ((x << by) | (x >> (32 - by))) & MASK
end

local function field(name, from, width)
  from = count(name, 2, from)
  width = width == nil and 1 or count(name, 3, width)
  if from < 0 then raise("bad argument #2 to '" .. name .. "' (field cannot be negative)", 3) end
  if width < 1 then raise("bad argument #3 to '" .. name .. "' (width must be positive)", 3) end
  if from + width > 32 then raise("trying to access non-existent bits", 3) end
  return from, MASK >> (32 - width)
end

bit32 = {
  band = fold("band", MASK, function(a, b) return a & b end),
  bor = fold("bor", 0, function(a, b) return a | b end),
  bxor = fold("bxor", 0, function(a, b) return a ~ b end),
}

function bit32.btest(...) return bit32.band(...) ~= 0 end
function bit32.bnot(x) return ~word("bnot", 1, x) & MASK end
function bit32.lshift(x, by)
  return left(word("lshift", 1, x), count("lshift", 2, by))
end
function bit32.rshift(x, by)
  return left(word("rshift", 1, x), -count("rshift", 2, by))
end
function bit32.arshift(x, by)
  x, by = word("arshift", 1, x), count("arshift", 2, by)
  if by < 0 or x < 0x80000000 then return left(x, -by) end
  if by >= 32 then return MASK end
  return (x >> by) | (~(MASK >> by) & MASK)
end
function bit32.lrotate(x, by)
  return rotated(word("lrotate", 1, x), count("lrotate", 2, by))
end
function bit32.rrotate(x, by)
  return rotated(word("rrotate", 1, x), -count("rrotate", 2, by))
end
function bit32.extract(x, from, width)
  local mask
  x = word("extract", 1, x)
  from, mask = field("extract", from, width)
  return (x >> from) & mask
end
function bit32.replace(x, value, from, width)
  local mask
  x, value = word("replace", 1, x), word("replace", 2, value)
  from, mask = field("replace", from, width)
  return (x & ~(mask << from) | (value & mask) << from) & MASK
end

package.loaded.bit32 = bit32
