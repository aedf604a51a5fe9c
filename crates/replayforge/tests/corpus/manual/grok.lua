-- grok_parse with stock patterns and patterns of one's own; only what has a name is captured, and
-- a capture that took no part is an empty text. Captures are texts; numbers are for those who ask.
local PATTERNS = {
  syslog = "%{SYSLOGLINE}",
  nginx = "%{COMBINEDAPACHELOG}",
  order = "order %{ORDER_ID:order} took %{NUMBER:ms:int} ms, %{NUMBER:share:float}",
  kv = "%{WORD:key}=%{GREEDYDATA:value}",
  ip = "%{IP:client}:%{POSINT:port}",
  broken = "%{NO_SUCH_PATTERN:x}",
  named = "(?<year>\\d{4})-(?<month>\\d{2})",
}

function Process(content, emit)
  local name, line = content:match("^(%w+) (.*)$")
  local options = nil
  if name == "typed" then
    name, options = "order", { typed = true }
  end
  local fields, err = grok_parse(PATTERNS[name], line, options)
  if fields == nil then
    emit("errors", type(err))
    return
  end
  if next(fields) == nil then
    emit("nomatch", line)
    return
  end
  for key, value in pairs(fields) do
    if type(value) == "number" then
      fields[key] = value + 1
    end
  end
  emit("fields", json_encode(fields))
end
