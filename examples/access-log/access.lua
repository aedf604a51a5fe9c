-- Lines of an access log in the combined format (nginx, Apache) become rows: each 5xx, and one in SAMPLE of the rest.
local SAMPLE = 10

local count = 0

local function number(text)
  return tonumber(text) or 0
end

function Process(content, emit)
  local line = json_decode(json_decode(content).body).content
  local m = grok_parse("%{COMBINEDAPACHELOG}", line)
  if next(m) == nil then
    dead("not a line of the combined log format")
    return
  end

  local status = number(m.response)
  local is_error = status >= 500
  count = count + 1
  if not is_error and count % SAMPLE ~= 0 then
    drop("sampled")
    return
  end

  local row = {
    timestamp = time_parse(m.timestamp, "%d/%b/%Y:%H:%M:%S %z"),
    client = m.clientip,
    method = m.verb,
    url = m.request,
    status = status,
    bytes = number(m.bytes),
    agent = m.agent:gsub('^"(.*)"$', "%1"),
    weight = is_error and 1 or SAMPLE,
  }
  emit("relay", { method = "POST", path = "/access_log", body = json_encode(row) })
end
